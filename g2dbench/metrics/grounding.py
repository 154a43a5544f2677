"""Grounding: agreement of an image's relevance map with the annotated finding.

Legend: H, W pixels of the original image; maps are float (H,W), ground truth is bool (H,W), S
thresholds. A map pixel is NaN outside the model's crop: it is never predicted, and `cnr` excludes
it. A pixel is predicted where map > threshold, as in MedKLIP.

    recall          share of the ground truth pixels that are predicted (pixel recall)
    precision       share of the predicted pixels that are ground truth; 0 if none is predicted
    iou, dice       as in segmentation.py
    pointing_game   1 if a pixel with the map's maximum lies in the ground truth, else 0
    cnr             |mean inside - mean outside| / sqrt(variance inside + variance outside)

Each is NaN for an image without ground truth: published numbers are means over positive images.
"oracle_" means that the threshold was chosen on the same ground truth that is scored.
Metrics without a threshold (pixel AUC, AUPRO, entropy ...): heatmap.py.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from g2dbench.errors import BadResult
from g2dbench.metrics.ratio import ratio
from g2dbench.metrics.segmentation import dice_values, iou_values, only_positive

MEDKLIP_THRESHOLD = 0.008
"""For MedKLIP's attention weights; Sample_Zero-Shot_Grounding_RSNA/test.py at 8e60b03."""

COSINE_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Our choice for cosine maps, whose mean IoU is reported: BioViL's code has no threshold."""


class Overlap(NamedTuple):
    """Pixel counts at S thresholds: `intersection` and `predicted` (S,), `truth` one number."""

    intersection: NDArray[np.int64]
    predicted: NDArray[np.int64]
    truth: int


class Oracle(NamedTuple):
    """The best mean over all thresholds, and its threshold, chosen on the scored ground truth."""

    value: float
    threshold: float


def box_mask(
    boxes: Iterable[tuple[float, float, float, float]], shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Union of (x0, y0, x1, y1) boxes as an (H,W) mask: pixels with x0 <= x < x1, y0 <= y < y1.

    Parts outside the image are cut off. Raises ValueError for a box that is not finite.
    """
    mask = np.zeros(shape, dtype=bool)
    for box in boxes:
        if not np.isfinite(box).all():
            raise ValueError(f"the box {tuple(box)} is not finite")
        x0, y0, x1, y1 = (max(0, int(np.ceil(edge))) for edge in box)
        mask[y0:y1, x0:x1] = True
    return mask


def checked_map(
    relevance: ArrayLike, truth: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The map as floats and the mask; ValueError if they do not fit, BadResult for infinite values.

    Callers add the image's name.
    """
    values, mask = np.asarray(relevance, dtype=np.float64), np.asarray(truth)
    if values.ndim != 2 or values.shape != mask.shape or mask.dtype != np.bool_:
        raise ValueError(
            f"a map {values.shape} needs a boolean ground truth mask of the same shape; "
            f"found {mask.dtype} {mask.shape}"
        )
    if np.isinf(values).any():
        raise BadResult(f"{int(np.isinf(values).sum())} pixels of the map are infinite")
    return values, mask


def overlap_at(relevance: ArrayLike, truth: ArrayLike, thresholds: Sequence[float]) -> Overlap:
    """Pixel counts of "map > threshold" and the ground truth, at each of S thresholds.

    NaN pixels are never predicted but count as ground truth. ValueError unless thresholds increase.
    """
    values, mask = checked_map(relevance, truth)
    sorted_thresholds = np.asarray(thresholds, dtype=np.float64)
    if (
        sorted_thresholds.ndim != 1
        or np.isnan(sorted_thresholds).any()
        or (np.diff(sorted_thresholds) <= 0).any()
    ):
        raise ValueError(f"thresholds must be a list of increasing numbers; found {thresholds}")
    visible = ~np.isnan(values)
    passed = np.searchsorted(sorted_thresholds, values[visible], side="left")
    return Overlap(
        _count_passing(passed[mask[visible]], sorted_thresholds.size),
        _count_passing(passed, sorted_thresholds.size),
        int(mask.sum()),
    )


def _count_passing(passed: NDArray[np.intp], count: int) -> NDArray[np.int64]:
    """Number of pixels above each of `count` thresholds; passed: per pixel, how many it exceeds."""
    exactly = np.bincount(passed, minlength=count + 1)
    return np.asarray(np.cumsum(exactly[::-1])[::-1][1:], dtype=np.int64)


def _truths(overlap: Overlap) -> NDArray[np.int64]:
    return np.full(overlap.predicted.shape, overlap.truth, dtype=np.int64)


def iou(overlap: Overlap) -> NDArray[np.float64]:
    """|P and T| / |P or T| at each threshold, (S,); NaN without ground truth.

    Source: MedKLIP Sample_Zero-Shot_Grounding_RSNA/test.py at 8e60b03, "mass_score".
    """
    truth = _truths(overlap)
    return only_positive(iou_values(overlap.intersection, overlap.predicted, truth), truth)


def dice(overlap: Overlap) -> NDArray[np.float64]:
    """2 |P and T| / (|P| + |T|) at each threshold, (S,); NaN without ground truth. Dice 1945."""
    truth = _truths(overlap)
    return only_positive(dice_values(overlap.intersection, overlap.predicted, truth), truth)


def recall(overlap: Overlap) -> NDArray[np.float64]:
    """Share of ground truth pixels that are predicted, (S,); NaN without ground truth.

    The G2D paper reports an undefined "recall". It may mean this pixel recall, or the share of
    boxes that are hit (`pointing_game`).
    """
    return only_positive(overlap.intersection / max(1, overlap.truth), _truths(overlap))


def precision(overlap: Overlap) -> NDArray[np.float64]:
    """Share of predicted pixels that are ground truth, (S,); 0 if none is; NaN without truth."""
    return only_positive(overlap.intersection / np.maximum(1, overlap.predicted), _truths(overlap))


def pointing_game(relevance: ArrayLike, truth: ArrayLike) -> float:
    """1 if a pixel with the map's maximum lies in the ground truth, else 0; NaN if that is empty.

    Ties favor the model: a constant map always scores 1. A map of NaN only scores 0.
    Source: MedKLIP Sample_Zero-Shot_Grounding_RSNA/test.py at 8e60b03, score_cal.
    """
    values, mask = checked_map(relevance, truth)
    if not mask.any():
        return float("nan")
    if np.isnan(values).all():
        return 0.0
    return float((values[mask] == np.nanmax(values)).any())


def signed_cnr(relevance: ArrayLike, truth: ArrayLike) -> float:
    """Contrast-to-noise ratio with its sign: negative if the map is higher outside the finding.

    (mean inside - mean outside) / sqrt(variance inside + variance outside), population variances,
    over pixels that are not NaN. NaN if either side has no pixel, 0 for a constant map, infinite
    for two different constants (no noise).
    """
    values, mask = checked_map(relevance, truth)
    inside, outside = values[mask & ~np.isnan(values)], values[~mask & ~np.isnan(values)]
    if inside.size == 0 or outside.size == 0:
        return float("nan")
    contrast = inside.mean() - outside.mean()
    noise = _variance(inside) + _variance(outside)
    if noise > 0:
        return float(contrast / np.sqrt(noise))
    return 0.0 if inside[0] == outside[0] else float(np.copysign(np.inf, inside[0] - outside[0]))


def _variance(values: NDArray[np.float64]) -> float:
    """Population variance; exactly 0 for equal values, whose mean may be rounded."""
    return 0.0 if values.min() == values.max() else float(values.var())


def cnr(relevance: ArrayLike, truth: ArrayLike) -> float:
    """Contrast-to-noise ratio |mean in - mean out| / sqrt(var in + var out); see `signed_cnr`.

    Source: BioViL (arXiv 2204.09817), phrase grounding. Because of the absolute value, an inverted
    map scores as high as a correct one: report `signed_cnr` too.
    """
    return abs(signed_cnr(relevance, truth))


def weighted_oracle_mean(
    values: NDArray[np.float64], weights: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Best mean over the thresholds in each resample, (B,); values (N,S), weights (B,N).

    The threshold is chosen again in each resample. Images that are NaN (no ground truth) are
    excluded.
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

    `overlaps` were counted at `thresholds`; ties take the lowest threshold. An upper bound, since
    the threshold is chosen on the scored ground truth. NaN if no image has ground truth.
    """
    if not thresholds:
        raise ValueError("the search needs at least one threshold")
    values = np.array([measure(overlap) for overlap in overlaps]).reshape(-1, len(thresholds))
    means = values[~np.isnan(values).any(axis=1)]
    if means.size == 0:
        return Oracle(float("nan"), float("nan"))
    average = means.mean(axis=0)
    return Oracle(float(average.max()), float(thresholds[int(average.argmax())]))
