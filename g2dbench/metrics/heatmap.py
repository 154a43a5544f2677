"""Relevance maps without a threshold: pixel AUC, AUPRO, share inside, coverage, entropy.

Legend: H, W pixels; maps are float (H,W), ground truth is bool (H,W), S thresholds, B resamples. As
in grounding.py, a map pixel that is NaN is never predicted: here it ranks below all others, and
counts as 0 in a share. Metrics with ground truth are NaN without a ground truth pixel.

    pixel_auc       area under the ROC curve of the pixels
    pixel_ap        average precision of the pixels
    aupro           area under the per-region overlap up to a false positive rate of .3: every
                    region counts the same, small ones too
    share_inside    share of the map's total that lies in the ground truth (the energy-based
                    pointing game)
    coverage        share of the image that is predicted at a threshold
    entropy         of the map as a distribution over pixels; `normalized_entropy` is 1 if uniform
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from g2dbench.metrics.grounding import Overlap, checked_map, pointing_game, signed_cnr
from g2dbench.metrics.labels import Weights, check_weights, ones_weights
from g2dbench.metrics.ranking import RankedScores
from g2dbench.metrics.ratio import ratio

FPR_LIMIT = 0.3
"""Of Bergmann et al. 2021 (MVTec AD), to which AUPRO is integrated."""

_TOUCHING = np.ones((3, 3), dtype=bool)  # regions touch at edges and corners, as in MVTec's code

MAP_METRICS = (
    "pointing_game", "cnr", "signed_cnr", "pixel_auc", "pixel_ap", "aupro", "share_inside",
)  # fmt: skip


def map_values(relevance: ArrayLike, truth: ArrayLike) -> dict[str, float]:
    """`MAP_METRICS` of one image by name; `share_inside` is NaN for a map with negative values.

    An infinite contrast-to-noise ratio (two constants, no noise) is NaN, too.
    """
    values, mask = checked_map(relevance, truth)
    ranked = RankedScores(mask.ravel(), _lowest_for_nan(values).ravel())
    found = ranked(ones_weights(mask.size), {"auc", "ap"})
    contrast = signed_cnr(values, mask)
    contrast = contrast if np.isfinite(contrast) else float("nan")
    return {
        "pointing_game": pointing_game(values, mask),
        "cnr": abs(contrast),
        "signed_cnr": contrast,
        "pixel_auc": float(found["auc"][0]),
        "pixel_ap": float(found["ap"][0]),
        "aupro": aupro(values, mask),
        "share_inside": float("nan") if (values < 0).any() else share_inside(values, mask),
    }


def _lowest_for_nan(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN pixels get a value below all others."""
    missing = np.isnan(values)
    if not missing.any():
        return values
    lowest = 0.0 if missing.all() else float(np.nanmin(values))
    return np.where(missing, np.nextafter(lowest, -np.inf), values)


def pixel_auc(relevance: ArrayLike, truth: ArrayLike) -> float:
    """Area under the ROC curve of the pixels; NaN without ground truth, or with nothing else."""
    return _of_pixels("auc", relevance, truth)


def pixel_ap(relevance: ArrayLike, truth: ArrayLike) -> float:
    """Average precision of the pixels; NaN without ground truth."""
    return _of_pixels("ap", relevance, truth)


def _of_pixels(name: str, relevance: ArrayLike, truth: ArrayLike) -> float:
    values, mask = checked_map(relevance, truth)
    ranked = RankedScores(mask.ravel(), _lowest_for_nan(values).ravel())
    return float(ranked.value(name, ones_weights(mask.size))[0])


def aupro(relevance: ArrayLike, truth: ArrayLike, limit: float = FPR_LIMIT) -> float:
    """Area under the per-region overlap curve of one image up to a false positive rate, / limit.

    At each threshold: mean over the connected regions of the ground truth of their predicted share,
    against the predicted share of all other pixels. Over all thresholds of the map, exact; linear
    between them. A constant map scores limit / 2; NaN without ground truth or without other pixels.
    Source: Bergmann et al. 2021, The MVTec Anomaly Detection Dataset, IJCV 129.
    """
    _check_limit(limit)
    values, mask = checked_map(relevance, truth)
    if not mask.any() or mask.all():
        return float("nan")
    score = _lowest_for_nan(values).ravel()
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    overlap = np.cumsum(_pixel_shares(mask).ravel()[order])[ends]
    false = np.cumsum(~mask.ravel()[order])[ends] / (~mask).sum()
    return float(_area(false[None], overlap[None], limit)[0])


def _check_limit(limit: float) -> None:
    if not 0 < limit <= 1:
        raise ValueError(f"a false positive rate lies between 0 and 1; found {limit}")


def _pixel_shares(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """What each pixel adds to the mean overlap: 1 / (number of regions x pixels of its region)."""
    region, count = ndimage.label(mask, structure=_TOUCHING)
    size = np.bincount(region.ravel(), minlength=count + 1)
    share = np.concatenate([[0.0], 1 / (count * size[1:])])
    return np.asarray(share[region])


def _area(
    false: NDArray[np.float64], overlap: NDArray[np.float64], limit: float
) -> NDArray[np.float64]:
    """Mean height (B,) of curves (B,S) that start at 0 and rise, up to false = limit."""
    zero = np.zeros((len(false), 1))
    x, y = np.concatenate([zero, false], axis=1), np.concatenate([zero, overlap], axis=1)
    width = np.diff(np.minimum(x, limit), axis=1)
    step = np.diff(x, axis=1)
    reached = ratio(width, step, zero_division=0.0)  # share of each step below the limit
    mean_height = y[:, :-1] + np.diff(y, axis=1) * reached / 2
    return np.asarray((width * mean_height).sum(axis=1) / limit)


class RegionOverlap(NamedTuple):
    """One image at S thresholds: sum of the regions' overlaps and false positive pixels, (S,)."""

    overlaps: NDArray[np.float64]
    false: NDArray[np.float64]
    regions: int
    negatives: int


def region_overlap_at(
    relevance: ArrayLike, truth: ArrayLike, thresholds: Sequence[float]
) -> RegionOverlap:
    """What `PooledAupro` needs of one image, at increasing thresholds that all images share."""
    values, mask = checked_map(relevance, truth)
    levels = np.asarray(thresholds, np.float64)
    if levels.ndim != 1 or np.isnan(levels).any() or (np.diff(levels) <= 0).any():
        raise ValueError(f"thresholds must be a list of increasing numbers; found {thresholds}")
    _, count = ndimage.label(mask, structure=_TOUCHING)
    visible = ~np.isnan(values)
    passed = np.searchsorted(levels, values[visible], side="left")  # thresholds below the pixel
    shares = count * _pixel_shares(mask)[visible] if count else np.zeros(visible.sum())
    overlaps, false = (
        np.cumsum(np.bincount(passed, column, levels.size + 1)[::-1])[::-1][1:].astype(np.float64)
        for column in (shares, ~mask[visible])
    )
    return RegionOverlap(overlaps, false, count, int((~mask).sum()))


class PooledAupro:
    """AUPRO over the regions and pixels of all images, as published; a statistic (B,N) -> (B,).

    One threshold holds for all images, so that maps must be comparable between images. The curve
    is known at the S thresholds of the overlaps, linear between them. NaN without a region.
    """

    def __init__(self, images: Sequence[RegionOverlap], limit: float = FPR_LIMIT) -> None:
        _check_limit(limit)
        self._limit = limit
        shape = (len(images), images[0].false.size if images else 0)
        self._overlaps = np.array([i.overlaps for i in images]).reshape(shape)[:, ::-1]
        self._false = np.array([i.false for i in images]).reshape(shape)[:, ::-1]
        self._regions = np.array([i.regions for i in images], np.float64)
        self._negatives = np.array([i.negatives for i in images], np.float64)

    def __call__(self, weights: Weights) -> NDArray[np.float64]:
        """The values (B,) for multiplicities (B,N)."""
        check_weights(weights, self._regions.size)
        counts = weights.astype(np.float64)
        overlap = ratio(counts @ self._overlaps, (counts @ self._regions)[:, None])
        false = ratio(counts @ self._false, (counts @ self._negatives)[:, None])
        ones = np.ones((len(counts), 1))  # the lowest threshold predicts everything
        defined = (counts @ self._regions > 0) & (counts @ self._negatives > 0)
        area = _area(np.hstack([false, ones]), np.hstack([overlap, ones]), self._limit)
        return np.where(defined, area, np.nan)


def share_inside(relevance: ArrayLike, truth: ArrayLike) -> float:
    """Share of the map's total that lies in the ground truth; NaN without ground truth.

    NaN for a map of zeros; ValueError for negative values, as cosines have. Source: Wang et al.
    2020 (Score-CAM), energy-based pointing game.
    """
    values, mask = checked_map(relevance, truth)
    weight = _weights(values)
    total = weight.sum()
    return float(weight[mask].sum() / total) if total > 0 and mask.any() else float("nan")


def _weights(relevance: ArrayLike) -> NDArray[np.float64]:
    """The map with 0 for NaN; ValueError for negative or infinite values."""
    values = np.nan_to_num(np.asarray(relevance, np.float64), nan=0.0, posinf=np.inf)
    if (values < 0).any() or not np.isfinite(values).all():
        raise ValueError("a map of weights has negative or infinite values")
    return values


def coverage(overlap: Overlap, pixels: int) -> NDArray[np.float64]:
    """Share of the image's pixels that is predicted at each threshold, (S,)."""
    return np.asarray(overlap.predicted / pixels)


def entropy(relevance: ArrayLike) -> float:
    """Entropy in nats of a map, scaled to the sum 1, of any shape; NaN for a map of zeros.

    0 if all weight is on one pixel, ln(pixels) if it is uniform. ValueError for negative values.
    Source: Shannon 1948.
    """
    weight = _weights(relevance)
    if weight.sum() == 0:
        return float("nan")
    share = weight[weight > 0] / weight.sum()
    return float(max(0.0, -(share * np.log(share)).sum()))


def normalized_entropy(relevance: ArrayLike) -> float:
    """`entropy` / ln(pixels that are not NaN): from 0, one pixel, to 1, uniform; NaN for one."""
    pixels = int((~np.isnan(np.asarray(relevance, np.float64))).sum())
    return entropy(relevance) / float(np.log(pixels)) if pixels > 1 else float("nan")
