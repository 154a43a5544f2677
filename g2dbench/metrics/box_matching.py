"""Boxes of an image, detected and true, and COCO's matching of the two.

Legend: N images, T IoU thresholds, C detections. Boxes are (x0, y0, x1, y1) pixels.
Detections with equal scores are ranked in the order of images, then of boxes, as COCOeval does by
image id. Pass the images sorted by id, so that the result does not depend on the file order.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from g2dbench.errors import BadResult

ALL_SIZES = (0.0, float("inf"))
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, float("inf"))}
"""COCO's strata of box areas, in square pixels of the boxes as given: scale them first."""

MAX_DETECTIONS = 100


@dataclass(frozen=True, eq=False)
class ImageBoxes:
    """Detections and ground truth of one image: `detected` (D,4), `scores` (D,), `truth` (G,4).

    Raises ValueError for wrong shapes or a ground truth box without area, BadResult for numbers
    that are not finite or an inverted box. Callers add the image's name.
    """

    detected: NDArray[np.float64]
    scores: NDArray[np.float64]
    truth: NDArray[np.float64]

    def __init__(self, detected: ArrayLike, scores: ArrayLike, truth: ArrayLike) -> None:
        object.__setattr__(self, "detected", _boxes(detected, "detected"))
        object.__setattr__(self, "truth", _boxes(truth, "truth"))
        object.__setattr__(self, "scores", np.asarray(scores, dtype=np.float64).reshape(-1))
        if len(self.scores) != len(self.detected) or not np.isfinite(self.scores).all():
            raise BadResult(
                f"{len(self.detected)} detected boxes need as many finite scores; "
                f"found {np.isfinite(self.scores).sum()}"
            )
        if (self.truth[:, 2:] <= self.truth[:, :2]).any():
            raise ValueError("a ground truth box has no area")


def _boxes(given: ArrayLike, name: str) -> NDArray[np.float64]:
    boxes = np.asarray(given, dtype=np.float64)
    boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{name} boxes must have shape (boxes, 4); found {boxes.shape}")
    if not np.isfinite(boxes).all() or (boxes[:, 2:] < boxes[:, :2]).any():
        bad = ~np.isfinite(boxes).all(axis=1) | (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
        first = int(np.flatnonzero(bad)[0])
        raise BadResult(
            f"{name} box {first}, {boxes[first].tolist()}, is not finite or has x1 < x0 or y1 < y0"
        )
    return boxes


def _annotations(per_image: Sequence[NDArray[np.float64]]) -> list[dict[str, object]]:
    """COCO annotations. Ids start at 1: COCOeval takes a match with id 0 for no match."""
    found: list[dict[str, object]] = []
    for image, boxes in enumerate(per_image):
        for x0, y0, x1, y1 in boxes.tolist():
            box = [x0, y0, x1 - x0, y1 - y0]
            entry = {"id": len(found) + 1, "image_id": image, "category_id": 1, "bbox": box}
            found.append({**entry, "area": box[2] * box[3], "iscrowd": 0})
    return found


def _coco_dataset(images: int, annotations: list[dict[str, object]]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in range(images)],
        "categories": [{"id": 1}],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def coco_evaluation(
    images: Sequence[ImageBoxes],
    iou_thresholds: Sequence[float],
    size: tuple[float, float] = ALL_SIZES,
) -> COCOeval:
    """COCOeval after evaluate(): boxes of these areas, at most 100 detections per image."""
    detections = _annotations([image.detected for image in images])
    scores = np.concatenate([image.scores for image in images])
    for entry, score in zip(detections, scores.tolist(), strict=True):
        entry["score"] = score
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _coco_dataset(len(images), _annotations([image.truth for image in images]))
        run = COCOeval(truth, _coco_dataset(len(images), detections), "bbox")
        run.params.iouThrs = np.asarray(iou_thresholds, dtype=np.float64)
        run.params.areaRng, run.params.areaRngLbl = [list(size)], ["all"]
        run.params.maxDets = [MAX_DETECTIONS]
        run.evaluate()
    return run


class Matches(NamedTuple):
    """COCO's matches of C detections at T IoU thresholds, in decreasing order of score.

    owner: (C,) index of the image. matched: (T,C) bool, found a ground truth box of the stratum.
    ignored: (T,C) bool, found one of another size, or is of another size and found none.
    truth_counts: (N,) ground truth boxes of the stratum in each image.
    """

    scores: NDArray[np.float64]
    owner: NDArray[np.intp]
    matched: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    truth_counts: NDArray[np.int64]


def match_detections(
    images: Sequence[ImageBoxes],
    iou_thresholds: Sequence[float],
    size: tuple[float, float] = ALL_SIZES,
) -> Matches:
    """Match detections to ground truth image by image, as COCOeval does.

    size: smallest and largest area of the ground truth boxes that count, see `SIZES`.
    """
    done = coco_evaluation(images, iou_thresholds, size).evalImgs if images else []
    entries = [entry for entry in done if entry is not None]
    truth_counts = np.zeros(len(images), dtype=np.int64)
    for entry in entries:
        truth_counts[entry["image_id"]] = (np.asarray(entry["gtIgnore"]) == 0).sum()
    scores = [np.asarray(entry["dtScores"], dtype=np.float64) for entry in entries]
    owners = [np.full(len(s), e["image_id"]) for s, e in zip(scores, entries, strict=True)]
    none = np.zeros((len(iou_thresholds), 0))
    found, ignored = (
        np.concatenate([none, *(np.asarray(entry[name]) for entry in entries)], axis=1) > 0
        for name in ("dtMatches", "dtIgnore")
    )
    score = np.concatenate([np.zeros(0), *scores])
    order = np.argsort(-score, kind="stable")
    owner = np.concatenate([np.zeros(0), *owners]).astype(np.intp)
    return Matches(
        score[order],
        owner[order],
        (found & ~ignored)[:, order],
        ignored[:, order],
        truth_counts,
    )
