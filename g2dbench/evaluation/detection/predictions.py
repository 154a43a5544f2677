"""Predictions of a fitted detector as rows."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from g2dbench.evaluation.detection.boxes import ONE_CLASS, findings_with_boxes, true_boxes
from g2dbench.evaluation.detection.detector import Detected, Detector, NmsSettings
from g2dbench.evaluation.frozen_features import FrozenEncoder, encode_in_chunks
from g2dbench.sample import Sample
from g2dbench.task import Run


def box_rows(
    frozen: FrozenEncoder, head: Detector, facts: Mapping[str, Any], run: Run[Any]
) -> Iterator[dict[str, object]]:
    """Yield a row for each test image and class; unfitted findings of the test are never detected.

    facts: "findings" and "classes" of the head, "nms", and "only", the findings that count or None.
    """
    settings, fitted = NmsSettings(**facts["nms"]), list(facts["findings"])
    present = findings_with_boxes(run.test, facts["only"])
    findings = [*fitted, *sorted(present.difference(fitted))]
    for samples, maps in encode_in_chunks(frozen, run.test, run, "det test"):
        with torch.no_grad():
            found = head.detect(head([level.float() for level in maps]), settings)
        for sample, detected in zip(samples, found, strict=True):
            in_image = _in_image(detected, sample, frozen)
            yield from _rows_of(sample, in_image, findings, facts["classes"] == "one")


def _in_image(detected: Detected, sample: Sample, frozen: FrozenEncoder) -> Detected:
    geometry = frozen.preprocess.geometry(*sample.image.shape)
    return detected._replace(boxes=geometry.boxes_to_image(detected.boxes))


def _rows_of(
    sample: Sample, detected: Detected, findings: list[str], one_class: bool
) -> Iterator[dict[str, object]]:
    """The row of each class."""
    boxes, labels = true_boxes(sample, findings, one_class)
    height, width = sample.image.shape
    for label, name in enumerate([ONE_CLASS] if one_class else findings):
        mine = detected.labels == label
        truth = None if sample.boxes is None else boxes[labels == label].ravel().tolist()
        yield {
            "id": sample.id,
            "patient": sample.patient,
            "finding": name,
            "height": height,
            "width": width,
            "boxes": detected.boxes[mine].ravel().tolist(),
            "scores": detected.scores[mine].tolist(),
            "truth": truth,
        }
