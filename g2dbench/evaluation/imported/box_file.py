"""Boxes from COCO's results format: a JSON list of detections.

Each has image_id (the id of a test image), bbox (x, y, width, height in pixels of the prepared
image), score in [0, 1], and category_id, the finding's name; it does not count where all findings
are one class. An image without an entry has no detection.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from g2dbench.data.tables.columns import canonical
from g2dbench.data.tables.files import read_bytes
from g2dbench.errors import BadData
from g2dbench.evaluation.detection.boxes import ONE_CLASS, findings_with_boxes, true_boxes
from g2dbench.evaluation.imported.rows import find_images
from g2dbench.sample import Sample
from g2dbench.task import Run

_MARGIN = 1.0
"""Pixels by which a box may leave its image."""

Detections = dict[tuple[int, int], list[tuple[float, list[float]]]]
"""(image, class) -> scores and boxes xyxy."""


def read_boxes(
    path: Path, run: Run[Any], only: Sequence[str] | None, one_class: bool
) -> Iterator[dict[str, object]]:
    """Yield the row of each annotated test image and class, as the task `det` stores it.

    run.test: annotated images only. only: the findings that count; None for all with a box.
    """
    findings = sorted(findings_with_boxes(run.test, only))
    if not findings:
        raise BadData(f"{run.test.card.name} has no box in its test split")
    classes = [ONE_CLASS] if one_class else findings
    entries = _entries(path)
    ids, numbers = [str(e.get("image_id")) for e in entries], range(1, len(entries) + 1)
    images = find_images(path, ids, run.test, numbers)
    found: Detections = defaultdict(list)
    for count, (image, entry) in enumerate(zip(images.tolist(), entries, strict=True), 1):
        where = f"{path}, detection {count}"
        label = 0 if one_class else _class(where, entry, findings)
        found[image, label].append(_detection(where, entry))
    for image, sample in enumerate(run.test):
        for label, name in enumerate(classes):
            boxes, labels = true_boxes(sample, findings, one_class)
            truth = boxes[labels == label].ravel().tolist()
            yield _row(path, sample, name, found[image, label]) | {"truth": truth}


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(read_bytes(path).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadData(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise BadData(f"{path} is no list of detections, such as pycocotools' loadRes reads")
    if not content:
        raise BadData(f"{path} has no detection")
    return content


def _class(where: str, entry: dict[str, Any], findings: Sequence[str]) -> int:
    known = {canonical(name): place for place, name in enumerate(findings)}
    name = str(entry.get("category_id"))
    if canonical(name) not in known:
        raise BadData(f"{where}: the category_id {name!r} is none of {', '.join(findings)}")
    return known[canonical(name)]


def _detection(where: str, entry: dict[str, Any]) -> tuple[float, list[float]]:
    box, score = entry.get("bbox"), entry.get("score")
    numbers = [*box, score] if isinstance(box, list) else []
    if len(numbers) != 5 or not all(_is_finite(value) for value in numbers):
        raise BadData(f"{where}: bbox must be a list of four numbers, and score a number")
    x, y, width, height = map(float, numbers[:4])
    if not (0 <= numbers[4] <= 1 and width > 0 and height > 0):
        raise BadData(f"{where}: a score is between 0 and 1, a width and a height above 0")
    return float(numbers[4]), [x, y, x + width, y + height]


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1e9  # False for NaN


def _row(
    path: Path, sample: Sample, name: str, found: list[tuple[float, list[float]]]
) -> dict[str, object]:
    height, width = sample.image.shape
    found = sorted(found, key=lambda pair: -pair[0])
    boxes = np.array([box for _, box in found], np.float64).reshape(-1, 4)
    beyond = (boxes < -_MARGIN) | (boxes > np.array([width, height] * 2) + _MARGIN)
    if beyond.any():
        box = boxes[beyond.any(axis=1)][0].round(1).tolist()
        raise BadData(
            f"{path}: the box {box} (xyxy) of image {sample.id!r} leaves the prepared image of "
            f"{width} x {height} pixels: scale boxes to it"
        )
    return {
        "id": sample.id, "patient": sample.patient, "finding": name, "height": height,
        "width": width, "boxes": boxes.ravel().tolist(), "scores": [score for score, _ in found],
    }  # fmt: skip
