"""Detection: COCO average precision of one finding, exact for any resample of the images.

Legend: N images, B resamples, T IoU thresholds, C detections. Boxes are (x0, y0, x1, y1) pixels.
Several findings: one call for each finding, then the mean of the defined values (`mean_over` of
their statistics). By size of lesion: one call for each of `SIZES`. See box_matching.py for ties.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from g2dbench.metrics.box_matching import ALL_SIZES, coco_evaluation, match_detections
from g2dbench.metrics.box_matching import SIZES as SIZES
from g2dbench.metrics.box_matching import ImageBoxes as ImageBoxes
from g2dbench.metrics.statistic import Statistic, each_of

IOU_THRESHOLDS = (0.40, 0.45, 0.50, 0.55, 0.60, 0.65, 0.70, 0.75)
"""The IoU thresholds of MGCA and of the RSNA challenge."""

COCO_IOU_THRESHOLDS = (0.50, 0.55, 0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90, 0.95)
"""The IoU thresholds of COCO's main metric."""

_RECALLS = np.linspace(0.0, 1.0, 101)
_MAX_ELEMENTS = 1 << 21  # resamples x detections held at once: 16 MB per int64 array


@dataclass(frozen=True)
class AveragePrecision:
    """mAP and the AP at each IoU threshold; NaN if no image has a ground truth box."""

    value: float
    per_iou: dict[float, float]


def coco_map(
    images: Sequence[ImageBoxes], iou_thresholds: Sequence[float] = IOU_THRESHOLDS
) -> AveragePrecision:
    """COCO mAP over all images: AP is the mean over 101 recalls of the interpolated precision.

    0 without any detection, NaN without any ground truth box. Computed by pycocotools.
    """
    per_iou = np.full(len(iou_thresholds), np.nan)
    if any(len(image.truth) for image in images):
        run = coco_evaluation(images, iou_thresholds)
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
    Source: MGCA mgca/models/mgca/mgca_detector.py. It calls torchmetrics, which rounds the 101
    recalls to float32: up to .006 lower where a recall is a whole percent, as with 10 boxes.
    """
    kept = [image for image in images if len(image.detected) and len(image.truth)]
    return coco_map(kept, iou_thresholds)


class CocoMatches:
    """Matches detections to ground truth once; gives the AP of any resample of the images.

    `average_precision(weights)[b]` equals COCOeval on a set that contains image i weights[b, i]
    times, under new ids and side by side. Matching is per image, so once is enough.
    size: smallest and largest area of the ground truth boxes that count, as in COCO's strata.

    Attributes: `truth_counts` (N,) ground truth boxes per image; `detected_and_true` (N,) bool,
    images with both a detection and a ground truth box: `weights * detected_and_true` gives MGCA's
    published definition.
    """

    def __init__(
        self,
        images: Sequence[ImageBoxes],
        iou_thresholds: Sequence[float] = IOU_THRESHOLDS,
        size: tuple[float, float] = ALL_SIZES,
    ) -> None:
        detections = np.array([len(image.detected) for image in images], dtype=np.int64)
        found = match_detections(images, iou_thresholds, size)
        self.iou_thresholds = tuple(iou_thresholds)
        self.truth_counts = found.truth_counts
        self.detected_and_true = (self.truth_counts > 0) & (detections > 0)
        self._matched, self._ignored, self._owner = found.matched, found.ignored, found.owner
        runs = _tied_slices(found.scores, self._owner)
        self._mixed_ties = [run for run in runs if _mixes(self._matched[:, run])]

    def __call__(
        self, weights: NDArray[np.integer], names: AbstractSet[str]
    ) -> Mapping[str, NDArray[np.float64]]:
        """The values (B,) of "map" and of "ap50" etc., the AP at one of the IoU thresholds."""
        per_iou = self.average_precision(weights)
        found = {f"ap{100 * t:.0f}": per_iou[:, i] for i, t in enumerate(self.iou_thresholds)}
        found["map"] = np.asarray(per_iou.mean(axis=1))
        return {name: found[name] for name in names}

    def statistics(self) -> dict[str, Statistic]:
        """mAP and the AP at each IoU threshold, as statistics: "map", "ap50", "ap55" etc."""
        return each_of(self, ["map", *(f"ap{100 * t:.0f}" for t in self.iou_thresholds)])

    def skipping_empty(self, weights: NDArray[np.integer]) -> NDArray[np.float64]:
        """MGCA's published mAP (B,): see `map_skip_empty`. A statistic for the bootstrap."""
        return self.mean_average_precision(weights * self.detected_and_true)

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
        positives = weights @ self.truth_counts
        result = np.full((len(weights), len(self._matched)), np.nan)
        ignored, everything = self._ignored[:, column], np.cumsum(counts, axis=1)
        for t, matched in enumerate(self._matched[:, column]):
            some_ignored = ignored[t].any()
            all_detections = np.cumsum(counts * ~ignored[t], axis=1) if some_ignored else everything
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
