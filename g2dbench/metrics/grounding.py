"""Grounding: how a relevance map of one image agrees with the marked finding.

Legend: H, W pixels of the original image; maps are float (H,W), truth is bool (H,W), S thresholds.
A map pixel that is NaN lies outside the model's crop: it is never predicted, and `cnr` leaves it
out. A pixel is predicted where map > threshold, as in MedKLIP.

    recall          share of the truth's pixels that are predicted (pixel recall)
    precision       share of the predicted pixels that are truth; 0 if nothing is predicted
    iou, dice       as in segmentation.py
    pointing_game   1 if a pixel with the map's highest value lies in the truth, else 0
    cnr             |mean inside - mean outside| / sqrt(variance inside + variance outside)

Each is defined for images with truth only, and NaN without: the published numbers are means over
positives. "oracle_" marks a threshold chosen on the truth that is being scored.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from g2dbench.metrics.ratio import ratio
from g2dbench.metrics.segmentation import dice_values, iou_values, only_positive

MEDKLIP_THRESHOLD = 0.008
"""MedKLIP Sample_Zero-Shot_Grounding_RSNA/test.py at 8e60b03, on its attention weights."""

COSINE_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Declared here for cosine maps, whose mean IoU is reported: BioViL's code has no threshold."""


class Overlap(NamedTuple):
    """Pixel counts at S thresholds: `intersection` and `predicted` (S,), `truth` one number."""

    intersection: NDArray[np.int64]
    predicted: NDArray[np.int64]
    truth: int


class Oracle(NamedTuple):
    """The best mean over a sweep of thresholds, and the threshold, chosen on the scored truth."""

    value: float
    threshold: float


def box_mask(
    boxes: Iterable[tuple[float, float, float, float]], shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Union of (x0, y0, x1, y1) boxes as an (H,W) mask: pixels with x0 <= x < x1, y0 <= y < y1.

    What lies outside the image is cut off. Raises ValueError for a box that is not finite.
    """
    mask = np.zeros(shape, dtype=bool)
    for box in boxes:
        if not np.isfinite(box).all():
            raise ValueError(f"the box {tuple(box)} is not finite")
        x0, y0, x1, y1 = (max(0, int(np.ceil(edge))) for edge in box)
        mask[y0:y1, x0:x1] = True
    return mask


def _pair(relevance: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values, real = np.asarray(relevance, dtype=np.float64), np.asarray(truth)
    if values.ndim != 2 or values.shape != real.shape or real.dtype != np.bool_:
        raise ValueError(
            f"a map {values.shape} and a boolean truth mask of its shape are compared; "
            f"found {real.dtype} {real.shape}"
        )
    if np.isinf(values).any():
        raise ValueError("the map has infinite values")
    return values, real


def overlap_at(relevance: ArrayLike, truth: ArrayLike, thresholds: Sequence[float]) -> Overlap:
    """Pixel counts of "map > threshold" against the truth, at each of S thresholds.

    NaN pixels are not predicted; they still count as truth. ValueError unless thresholds rise.
    """
    values, real = _pair(relevance, truth)
    cuts = np.asarray(thresholds, dtype=np.float64)
    if cuts.ndim != 1 or np.isnan(cuts).any() or (np.diff(cuts) <= 0).any():
        raise ValueError(f"thresholds must be a list of rising numbers; found {thresholds}")
    seen = ~np.isnan(values)
    passed = np.searchsorted(cuts, values[seen], side="left")
    return Overlap(
        _passing(passed[real[seen]], cuts.size), _passing(passed, cuts.size), int(real.sum())
    )


def _passing(passed: NDArray[np.intp], count: int) -> NDArray[np.int64]:
    """Of pixels that pass the lowest `passed` thresholds: how many pass each of `count`."""
    exactly = np.bincount(passed, minlength=count + 1)
    return np.asarray(np.cumsum(exactly[::-1])[::-1][1:], dtype=np.int64)


def _truths(overlap: Overlap) -> NDArray[np.int64]:
    return np.full(overlap.predicted.shape, overlap.truth, dtype=np.int64)


def iou(overlap: Overlap) -> NDArray[np.float64]:
    """|P and T| / |P or T| at each threshold, (S,); NaN without truth. MedKLIP's "mass_score"."""
    truth = _truths(overlap)
    return only_positive(iou_values(overlap.intersection, overlap.predicted, truth), truth)


def dice(overlap: Overlap) -> NDArray[np.float64]:
    """2 |P and T| / (|P| + |T|) at each threshold, (S,); NaN without truth."""
    truth = _truths(overlap)
    return only_positive(dice_values(overlap.intersection, overlap.predicted, truth), truth)


def recall(overlap: Overlap) -> NDArray[np.float64]:
    """Share of the truth's pixels that are predicted, at each threshold, (S,); NaN without truth.

    The G2D paper reports a "recall" it does not define; this is the pixel reading of it, and
    `pointing_game` the box reading.
    """
    return only_positive(overlap.intersection / max(1, overlap.truth), _truths(overlap))


def precision(overlap: Overlap) -> NDArray[np.float64]:
    """Share of predicted pixels that are truth, (S,); 0 if none is predicted; NaN without truth."""
    return only_positive(overlap.intersection / np.maximum(1, overlap.predicted), _truths(overlap))


def pointing_game(relevance: ArrayLike, truth: ArrayLike) -> float:
    """1 if any pixel holding the map's highest value lies in the truth, else 0; NaN without truth.

    Ties help the model: a constant map always hits. A map without any number misses.
    Source: MedKLIP Sample_Zero-Shot_Grounding_RSNA/test.py at 8e60b03, score_cal.
    """
    values, real = _pair(relevance, truth)
    if not real.any():
        return float("nan")
    if np.isnan(values).all():
        return 0.0
    return float((values[real] == np.nanmax(values)).any())


def signed_cnr(relevance: ArrayLike, truth: ArrayLike) -> float:
    """Contrast to noise with its sign: below 0 where the map is higher outside the finding.

    (mean inside - mean outside) / sqrt(variance inside + variance outside), population variances,
    over pixels that are not NaN. NaN if either side has no pixel. A constant map is 0; two
    different constants have no noise, and the ratio is infinite.
    """
    values, real = _pair(relevance, truth)
    inside, outside = values[real & ~np.isnan(values)], values[~real & ~np.isnan(values)]
    if inside.size == 0 or outside.size == 0:
        return float("nan")
    contrast = inside.mean() - outside.mean()
    noise = _variance(inside) + _variance(outside)
    if noise > 0:
        return float(contrast / np.sqrt(noise))
    return 0.0 if inside[0] == outside[0] else float(np.copysign(np.inf, inside[0] - outside[0]))


def _variance(values: NDArray[np.float64]) -> float:
    """Population variance, exactly 0 for equal values, whose computed mean may be off by a bit."""
    return 0.0 if values.min() == values.max() else float(values.var())


def cnr(relevance: ArrayLike, truth: ArrayLike) -> float:
    """Contrast to noise |mean in - mean out| / sqrt(var in + var out); see `signed_cnr`.

    Source: BioViL (arXiv 2204.09817), phrase grounding. Because of the absolute value an inverted
    map scores as high as a right one: read it beside `signed_cnr`.
    """
    return abs(signed_cnr(relevance, truth))


def weighted_oracle_mean(
    values: NDArray[np.float64], weights: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Best mean over the thresholds in each resample, (B,); values (N,S), weights (B,N).

    The threshold is chosen again in every resample. Images that are NaN (no truth) are left out.
    """
    if values.ndim != 2 or weights.ndim != 2 or weights.shape[1] != len(values):
        raise ValueError(f"values {values.shape} and weights {weights.shape} do not fit")
    defined = ~np.isnan(values).any(axis=1)
    total = weights[:, defined].sum(axis=1)
    sums = weights[:, defined] @ values[defined]
    best = sums.max(axis=1) if values.shape[1] else np.full(len(weights), np.nan)
    return ratio(best, total)


def oracle_mean(
    overlaps: Sequence[Overlap],
    measure: Callable[[Overlap], NDArray[np.float64]],
    thresholds: Sequence[float],
) -> Oracle:
    """Best mean of `measure` (iou, dice, ...) over images, with one threshold for the whole set.

    `overlaps` were counted at `thresholds`. Of equal thresholds the lowest. Chosen on the truth it
    is scored on, so an upper bound; NaN when no image has truth.
    """
    if not thresholds:
        raise ValueError("a sweep needs at least one threshold")
    values = np.array([measure(overlap) for overlap in overlaps]).reshape(-1, len(thresholds))
    means = values[~np.isnan(values).any(axis=1)]
    if means.size == 0:
        return Oracle(float("nan"), float("nan"))
    average = means.mean(axis=0)
    return Oracle(float(average.max()), float(thresholds[int(average.argmax())]))
