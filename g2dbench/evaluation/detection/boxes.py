"""Boxes of findings as training data. Legend: G ground truth boxes."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from g2dbench.dataset import Dataset
from g2dbench.evaluation.detection.detector import Detected, Detector, NmsSettings, TrueBoxes
from g2dbench.evaluation.heads.network import SplitOutputs
from g2dbench.metrics.detection import CocoMatches, ImageBoxes
from g2dbench.metrics.labels import ones_weights
from g2dbench.preprocess import Preprocess
from g2dbench.sample import Sample

ONE_CLASS = "lesion"
"""The name of all findings as one class."""

Monitor: TypeAlias = Literal["map", "map_skip_empty"]
"""What early stopping watches on the validation images: the mAP, or MGCA's, which leaves out images
without a detection or without a ground truth box, and is -1 if none is left."""


def true_boxes(sample: Sample, findings: Sequence[str], one_class: bool) -> TrueBoxes:
    """The image's boxes (G, 4) in image pixels, and their classes; other findings are left out."""
    chosen = [box for box in sample.boxes or () if box.finding in findings]
    labels = [0 if one_class else findings.index(box.finding) for box in chosen]
    boxes = np.array([box[1:] for box in chosen], np.float64).reshape(-1, 4)
    return TrueBoxes(boxes, np.array(labels, np.int64))


def findings_with_boxes(data: Dataset, wanted: Sequence[str] | None) -> frozenset[str]:
    """The findings that have a box; wanted: None for all."""
    found = (box.finding for sample in data for box in sample.boxes or ())
    return frozenset(name for name in found if wanted is None or name in wanted)


class BoxSplit:
    """One split: the network's outputs, ground truth in input pixels, the loss and the mAP."""

    def __init__(
        self,
        outputs: SplitOutputs,
        head: Detector,
        data: Dataset,
        findings: Sequence[str],
        preprocess: Preprocess,
        one_class: bool,
    ) -> None:
        self._outputs, self._head = outputs, head
        self._classes = 1 if one_class else len(findings)
        self._truth = [_in_input(sample, findings, preprocess, one_class) for sample in data]
        self._targets = [head.target(truth) for truth in self._truth]

    def loss(self, rows: Tensor) -> Tensor:
        """The head's loss on these images."""
        raw = self._outputs(rows).raw
        return self._head.loss(raw, [self._targets[int(row)] for row in rows])

    def monitored(self, monitor: Monitor, settings: NmsSettings, batch_size: int) -> float:
        """The mAP of early stopping on all images, mean over the classes that have a box."""
        found: list[Detected] = []
        for rows in torch.arange(len(self._outputs)).split(batch_size):
            found += self._head.detect(self._outputs(rows).raw, settings)
        values = [self._map_of(found, label, monitor) for label in range(self._classes)]
        defined = [value for value in values if not np.isnan(value)]
        if not defined:
            return -1.0 if monitor == "map_skip_empty" else float("nan")
        return float(np.mean(defined))

    def _map_of(self, found: list[Detected], label: int, monitor: Monitor) -> float:
        pairs = zip(found, self._truth, strict=True)
        matches = CocoMatches([_of_class(*pair, label) for pair in pairs])
        weights = ones_weights(len(found))
        if monitor == "map_skip_empty":
            return float(matches.skipping_empty(weights)[0])
        return float(matches.mean_average_precision(weights)[0])


def _of_class(detected: Detected, truth: TrueBoxes, label: int) -> ImageBoxes:
    mine, true = detected.labels == label, truth.labels == label
    return ImageBoxes(detected.boxes[mine], detected.scores[mine], truth.boxes[true])


def _in_input(
    sample: Sample, findings: Sequence[str], preprocess: Preprocess, one_class: bool
) -> TrueBoxes:
    boxes, labels = true_boxes(sample, findings, one_class)
    return TrueBoxes(preprocess.geometry(*sample.image.shape).boxes_to_input(boxes), labels)
