"""Detection: COCO average precision of one finding, exact for any resample of the images.

Legend: N images, B resamples, T IoU thresholds, C detections. Boxes are (x0, y0, x1, y1) pixels.
Several findings: one call for each finding, then the mean of the defined values.
Detections with equal scores are ranked in the order of images, then of boxes, as COCOeval does by
image id. Pass the images sorted by id, so that the result does not depend on the file order.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

IOU_THRESHOLDS = (0.40, 0.45, 0.50, 0.55, 0.60, 0.65, 0.70, 0.75)
"""The IoU thresholds of MGCA and of the RSNA challenge."""

MAX_DETECTIONS = 100
_RECALLS = np.linspace(0.0, 1.0, 101)
_MAX_ELEMENTS = 1 << 21  # resamples x detections held at once: 16 MB per int64 array


@dataclass(frozen=True, eq=False)
class ImageBoxes:
    """Detections and ground truth of one image: `detected` (D,4), `scores` (D,), `truth` (G,4).

    Raises ValueError for wrong shapes, numbers that are not finite, an inverted box, or a ground
    truth box without area.
    """

    detected: NDArray[np.float64]
    scores: NDArray[np.float64]
    truth: NDArray[np.float64]

    def __init__(self, detected: ArrayLike, scores: ArrayLike, truth: ArrayLike) -> None:
        object.__setattr__(self, "detected", _boxes(detected, "detected"))
        object.__setattr__(self, "truth", _boxes(truth, "truth"))
        object.__setattr__(self, "scores", np.asarray(scores, dtype=np.float64).reshape(-1))
        if len(self.scores) != len(self.detected) or not np.isfinite(self.scores).all():
            raise ValueError(
                f"{len(self.detected)} detected boxes need as many finite scores; "
                f"found {np.isfinite(self.scores).sum()}"
            )
        if (self.truth[:, 2:] <= self.truth[:, :2]).any():
            raise ValueError("a ground truth box has no area")


@dataclass(frozen=True)
class AveragePrecision:
    """mAP and the AP at each IoU threshold; NaN if no image has a ground truth box."""

    value: float
    per_iou: dict[float, float]


def _boxes(given: ArrayLike, name: str) -> NDArray[np.float64]:
    boxes = np.asarray(given, dtype=np.float64)
    boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{name} boxes must have shape (boxes, 4); found {boxes.shape}")
    if not np.isfinite(boxes).all() or (boxes[:, 2:] < boxes[:, :2]).any():
        raise ValueError(f"a {name} box is not finite or has x1 < x0 or y1 < y0")
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


def _coco_evaluation(images: Sequence[ImageBoxes], iou_thresholds: Sequence[float]) -> COCOeval:
    """COCOeval after evaluate(): boxes of every area, at most 100 detections per image."""
    detections = _annotations([image.detected for image in images])
    scores = np.concatenate([image.scores for image in images])
    for entry, score in zip(detections, scores.tolist(), strict=True):
        entry["score"] = score
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _coco_dataset(len(images), _annotations([image.truth for image in images]))
        run = COCOeval(truth, _coco_dataset(len(images), detections), "bbox")
        run.params.iouThrs = np.asarray(iou_thresholds, dtype=np.float64)
        run.params.areaRng, run.params.areaRngLbl = [[0.0, float("inf")]], ["all"]
        run.params.maxDets = [MAX_DETECTIONS]
        run.evaluate()
    return run


def coco_map(
    images: Sequence[ImageBoxes], iou_thresholds: Sequence[float] = IOU_THRESHOLDS
) -> AveragePrecision:
    """COCO mAP over all images: AP is the mean over 101 recalls of the interpolated precision.

    0 without any detection, NaN without any ground truth box. Computed by pycocotools.
    """
    per_iou = np.full(len(iou_thresholds), np.nan)
    if any(len(image.truth) for image in images):
        run = _coco_evaluation(images, iou_thresholds)
        with contextlib.redirect_stdout(io.StringIO()):
            run.accumulate()
        per_iou = run.eval["precision"][:, :, 0, 0, 0].mean(axis=1)
    named = dict(zip(iou_thresholds, per_iou.tolist(), strict=True))
    return AveragePrecision(float(per_iou.mean()), named)


def map_skip_empty(
    images: Sequence[ImageBoxes], iou_thresholds: Sequence[float] = IOU_THRESHOLDS
) -> AveragePrecision:
    """MGCA's published mAP: images without a detection or without a ground truth box are excluded.

    It ignores false positives on healthy images and completely missed findings, so it is too
    optimistic. Use it only to compare with published tables. NaN if no image is left.
    Source: MGCA mgca/models/mgca/mgca_detector.py.
    """
    kept = [image for image in images if len(image.detected) and len(image.truth)]
    return coco_map(kept, iou_thresholds)


class CocoMatches:
    """Matches detections to ground truth once; gives the AP of any resample of the images.

    `average_precision(weights)[b]` equals COCOeval on a set that contains image i weights[b, i]
    times, under new ids and side by side. Matching is per image, so once is enough.

    Attributes: `truth_counts` (N,) ground truth boxes per image; `detected_and_true` (N,) bool,
    images with both a detection and a ground truth box: `weights * detected_and_true` gives MGCA's
    published definition.
    """

    def __init__(
        self, images: Sequence[ImageBoxes], iou_thresholds: Sequence[float] = IOU_THRESHOLDS
    ) -> None:
        self.truth_counts = np.array([len(image.truth) for image in images], dtype=np.int64)
        detections = np.array([len(image.detected) for image in images], dtype=np.int64)
        self.detected_and_true = (self.truth_counts > 0) & (detections > 0)
        done = _coco_evaluation(images, iou_thresholds).evalImgs if images else []
        entries = [entry for entry in done if entry is not None]
        scores = [np.asarray(entry["dtScores"], dtype=np.float64) for entry in entries]
        owners = [np.full(len(s), e["image_id"]) for s, e in zip(scores, entries, strict=True)]
        none = np.zeros((len(iou_thresholds), 0))
        matches = np.concatenate([none, *(entry["dtMatches"] for entry in entries)], axis=1) > 0
        score = np.concatenate([np.zeros(0), *scores])
        order = np.argsort(-score, kind="stable")
        self._matched = matches[:, order]
        self._owner = np.concatenate([np.zeros(0), *owners])[order].astype(np.intp)
        runs = _tied_slices(score[order], self._owner)
        self._mixed_ties = [run for run in runs if _mixes(self._matched[:, run])]

    def average_precision(self, weights: NDArray[np.integer]) -> NDArray[np.float64]:
        """AP (B,T) for multiplicities (B,N); 0 without a detection, NaN without ground truth."""
        if weights.ndim != 2 or weights.shape[1] != self.truth_counts.size:
            raise ValueError(
                f"weights {weights.shape} must be (resamples, {self.truth_counts.size})"
            )
        if not np.issubdtype(weights.dtype, np.integer) or (weights < 0).any():
            raise ValueError("weights are multiplicities: whole numbers from 0")
        column, copy = self._columns(weights)
        step = max(1, _MAX_ELEMENTS // max(1, column.size))
        parts = [
            self._accumulate(weights[start : start + step], column, copy)
            for start in range(0, len(weights), step)
        ]
        return np.concatenate([np.zeros((0, len(self._matched))), *parts])

    def mean_average_precision(self, weights: NDArray[np.integer]) -> NDArray[np.float64]:
        """mAP (B,) for multiplicities (B,N): the statistic for `bootstrap.bootstrap`."""
        return np.asarray(self.average_precision(weights).mean(axis=1))

    def _columns(self, weights: NDArray[np.integer]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Detections in ranked order, and the copy number of each; -1 means all copies together.

        All copies of a detection count in one step, except where tied scores within an image mix
        true and false positives: TP, FP, TP, FP gives another AP than TP, TP, FP, FP. There each
        copy of the tied group gets columns of its own.
        """
        parts = np.arange(self._owner.size)
        copies = np.full(self._owner.size, -1)
        most = weights.max(axis=0, initial=0)
        for run in reversed(self._mixed_ties):
            times = int(most[self._owner[run.start]])
            tied = np.tile(np.arange(run.start, run.stop), times)
            which = np.repeat(np.arange(times), run.stop - run.start)
            parts = np.concatenate([parts[: run.start], tied, parts[run.stop :]])
            copies = np.concatenate([copies[: run.start], which, copies[run.stop :]])
        return parts, copies

    def _accumulate(
        self, weights: NDArray[np.integer], column: NDArray[np.intp], copy: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        counts = weights[:, self._owner[column]].astype(np.int64)
        counts = np.where(copy < 0, counts, counts > copy)
        all_detections = np.cumsum(counts, axis=1)
        positives = weights @ self.truth_counts
        result = np.full((len(weights), len(self._matched)), np.nan)
        for t, matched in enumerate(self._matched[:, column]):
            true_positives = np.cumsum(counts[:, matched], axis=1)
            precision = _interpolated(true_positives / (all_detections[:, matched] + np.spacing(1)))
            for b in np.flatnonzero(positives):
                reached = np.searchsorted(true_positives[b] / positives[b], _RECALLS)
                result[b, t] = precision[b, reached].mean()
        return result


def _tied_slices(score: NDArray[np.float64], owner: NDArray[np.intp]) -> list[slice]:
    """Slices of two or more consecutive detections of one image with the same score."""
    tied = (score[1:] == score[:-1]) & (owner[1:] == owner[:-1])
    edges = np.flatnonzero(np.diff(np.concatenate([[0], tied.astype(np.int8), [0]])))
    return [slice(int(a), int(b) + 1) for a, b in edges.reshape(-1, 2)]


def _mixes(matched: NDArray[np.bool_]) -> bool:
    """Whether tied detections (T,k) mix true and false positives at some IoU threshold."""
    return bool((matched.any(axis=1) != matched.all(axis=1)).any())


def _interpolated(precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """Highest precision at this recall or above; a last column of 0 for recalls never reached."""
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return np.concatenate([envelope, np.zeros((len(envelope), 1))], axis=1)
