"""Dice and IoU from pixel counts, one name for each published definition.

Every function takes arrays of pixel counts, one entry per image: `intersection`, `predicted`,
`truth` (ground truth). Publications call several metrics "Dice"; each has its own name here, and
the same with "iou" for "dice":

    dice_per_image    mean of `dice_values`; an image without ground truth counts 1 if nothing is
                      predicted, else 0 (MGCA, MedKLIP on SIIM)
    dice_positive     mean of `dice_values` over images with ground truth (SIIM, positives only)
    dice_foreground   over the pixels of all images together
    dice_pooled       the same, mean of foreground and background (BenchX)
    dice_smoothed     mean over images with 1 added to numerator and denominator (IoU: MedKLIP)

`OverlapCounts` gives all of them for any resample. Boundary distances: surface.py.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from g2dbench.metrics.labels import Weights, check_weights
from g2dbench.metrics.ratio import ratio
from g2dbench.metrics.statistic import Statistic, each_of

OVERLAP_METRICS = tuple(
    f"{measure}_{convention}"
    for measure in ("dice", "iou")
    for convention in ("per_image", "positive", "foreground", "pooled", "smoothed")
)

AREA_SHARES = {"small": (0.0, 0.01), "medium": (0.01, 0.05), "large": (0.05, 1.0)}
"""Our strata for `only_areas`: ground truth pixels as a share of the image, low < share <= high."""

Counts = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def overlap_counts(predicted: ArrayLike, truth: ArrayLike) -> tuple[int, int, int]:
    """Pixel counts (intersection, predicted, truth) of two boolean masks of one image, (H,W)."""
    pred, true = np.asarray(predicted), np.asarray(truth)
    if pred.shape != true.shape or pred.dtype != np.bool_ or true.dtype != np.bool_:
        raise ValueError(
            f"two boolean masks of the same shape are needed; found {pred.dtype} {pred.shape} "
            f"and {true.dtype} {true.shape}"
        )
    return int((pred & true).sum()), int(pred.sum()), int(true.sum())


def _counts(intersection: ArrayLike, predicted: ArrayLike, truth: ArrayLike) -> Counts:
    inter, pred, true = np.asarray(intersection), np.asarray(predicted), np.asarray(truth)
    if not inter.shape == pred.shape == true.shape:
        raise ValueError(
            f"pixel counts must have one shape; found {inter.shape}, {pred.shape}, {true.shape}"
        )
    if not all(np.issubdtype(a.dtype, np.integer) or a.size == 0 for a in (inter, pred, true)):
        raise ValueError("pixel counts must be whole numbers")
    if ((inter < 0) | (inter > pred) | (inter > true)).any():
        raise ValueError("an intersection is negative, or larger than one of the masks")
    return inter.astype(np.int64), pred.astype(np.int64), true.astype(np.int64)


def dice_values(
    intersection: ArrayLike, predicted: ArrayLike, truth: ArrayLike
) -> NDArray[np.float64]:
    """Dice of each image, (N,): 2 |P and T| / (|P| + |T|); 1 if prediction P and truth T are empty.

    Source: MGCA mgca/models/ssl_segmenter.py; MedKLIP I2_segmentation/metric.py at 8e60b03.
    """
    inter, pred, true = _counts(intersection, predicted, truth)
    return ratio(2 * inter, pred + true, zero_division=1.0)


def iou_values(
    intersection: ArrayLike, predicted: ArrayLike, truth: ArrayLike
) -> NDArray[np.float64]:
    """IoU (Jaccard 1912) of each image, (N,): |P and T| / |P or T|; 1 if both are empty."""
    inter, pred, true = _counts(intersection, predicted, truth)
    return ratio(inter, pred + true - inter, zero_division=1.0)


def iou_smoothed_values(
    intersection: ArrayLike, predicted: ArrayLike, truth: ArrayLike
) -> NDArray[np.float64]:
    """IoU of each image with 1 added to numerator and denominator, (N,); MedKLIP's "mIoU".

    Without ground truth, p predicted pixels score 1/(p+1) instead of 0.
    Source: MedKLIP Sample_Finetuning_SIIMACR/I2_segmentation/metric.py at 8e60b03, eps=1.
    """
    inter, pred, true = _counts(intersection, predicted, truth)
    return np.asarray((inter + 1) / (pred + true - inter + 1))


def dice_smoothed_values(
    intersection: ArrayLike, predicted: ArrayLike, truth: ArrayLike
) -> NDArray[np.float64]:
    """Dice of each image with 1 added to numerator and denominator, (N,).

    Source: the soft Dice of MGCA's loss, smooth=1 (utils/segmentation_loss.py), on binary masks.
    """
    inter, pred, true = _counts(intersection, predicted, truth)
    return np.asarray((2 * inter + 1) / (pred + true + 1))


def only_positive(values: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """The values of images with ground truth, NaN for the others, (N,): excludes negatives."""
    return np.where(np.asarray(truth) > 0, np.asarray(values, np.float64), np.nan)


def only_areas(
    values: ArrayLike, areas: ArrayLike, limits: tuple[float, float]
) -> NDArray[np.float64]:
    """The values of images with low < area <= high, NaN for the others, (N,): strata by size.

    areas: ground truth pixels of each image, or their share of the image (see `AREA_SHARES`).
    """
    area = np.asarray(areas, np.float64)
    return np.where(
        (area > limits[0]) & (area <= limits[1]), np.asarray(values, np.float64), np.nan
    )


def _mean(values: NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def dice_per_image(intersection: ArrayLike, predicted: ArrayLike, truth: ArrayLike) -> float:
    """Mean of `dice_values` over all images; NaN without images.

    Source: MGCA, but its mean of batch means depends on the batch size.
    """
    return _mean(dice_values(intersection, predicted, truth))


def dice_positive(intersection: ArrayLike, predicted: ArrayLike, truth: ArrayLike) -> float:
    """Mean of `dice_values` over images with ground truth; NaN if there is none."""
    return _mean(only_positive(dice_values(intersection, predicted, truth), truth))


def dice_pooled(
    intersection: ArrayLike, predicted: ArrayLike, truth: ArrayLike, pixels: ArrayLike
) -> NDArray[np.float64]:
    """Mean of foreground Dice and background Dice, each over all pixels of all images.

    Counts (..., N), `pixels` the size of each image; sums run over the last axis, so counts (B,N)
    that are multiplied by multiplicities give (B,). NaN where a class has no pixel.
    The background dominates: not comparable with a per-image Dice.
    Source: BenchX's segmentation scores (mmsegmentation mDice over two classes).
    """
    inter, pred, true = (a.sum(axis=-1) for a in _counts(intersection, predicted, truth))
    total = np.asarray(pixels).sum(axis=-1)
    if (pred + true - inter > total).any():
        raise ValueError("the masks cover more pixels than the images have")
    numerators = np.stack([2 * inter, 2 * (total - pred - true + inter)])
    denominators = np.stack([pred + true, 2 * total - pred - true])
    return np.asarray(ratio(numerators, denominators).mean(axis=0))


class OverlapCounts:
    """Pixel counts of N images of one finding; gives `OVERLAP_METRICS` for any resample.

    intersection, predicted, truth, pixels (size of the image): (N,) whole numbers, NaN in all four
    for an image that is not annotated. NaN where no image, or no pixel of a class, is left.
    """

    def __init__(
        self, intersection: ArrayLike, predicted: ArrayLike, truth: ArrayLike, pixels: ArrayLike
    ) -> None:
        given = np.stack([np.asarray(c, np.float64) for c in (intersection, predicted, truth)])
        size = np.asarray(pixels, np.float64)
        known = ~np.isnan(given).all(axis=0)
        inter, pred, true = _counts(*_whole(given[:, known]))
        (total,) = _whole(size[None, known])
        if (pred + true - inter > total).any():
            raise ValueError("the masks cover more pixels than the images have")
        self.images: Final = known.size
        positive = true > 0
        self._columns = np.zeros((12, self.images))
        self._columns[:, known] = [
            np.ones(total.size),
            positive,
            dice_values(inter, pred, true),
            iou_values(inter, pred, true),
            np.where(positive, dice_values(inter, pred, true), 0),
            np.where(positive, iou_values(inter, pred, true), 0),
            dice_smoothed_values(inter, pred, true),
            iou_smoothed_values(inter, pred, true),
            inter,
            pred,
            true,
            total,
        ]

    def __call__(
        self, weights: Weights, names: AbstractSet[str]
    ) -> Mapping[str, NDArray[np.float64]]:
        """The values (B,) of each of the named metrics for multiplicities (B,N)."""
        check_weights(weights, self.images)
        images, positive, *sums, inter, pred, true, total = self._columns @ weights.T.astype(
            np.float64
        )
        dice, iou, dice_positive, iou_positive, dice_smoothed, iou_smoothed = sums
        both, either = total - pred - true + inter, pred + true - inter
        dice_foreground, dice_background = (
            ratio(2 * inter, pred + true),
            ratio(2 * both, 2 * total - pred - true),
        )
        iou_foreground, iou_background = ratio(inter, either), ratio(both, total - inter)
        found = {
            "dice_per_image": ratio(dice, images),
            "dice_positive": ratio(dice_positive, positive),
            "dice_foreground": dice_foreground,
            "dice_pooled": (dice_foreground + dice_background) / 2,
            "dice_smoothed": ratio(dice_smoothed, images),
            "iou_per_image": ratio(iou, images),
            "iou_positive": ratio(iou_positive, positive),
            "iou_foreground": iou_foreground,
            "iou_pooled": (iou_foreground + iou_background) / 2,
            "iou_smoothed": ratio(iou_smoothed, images),
        }
        return {name: found[name] for name in names}

    def statistics(self) -> dict[str, Statistic]:
        """`OVERLAP_METRICS` by name, as statistics."""
        return each_of(self, OVERLAP_METRICS)


def _whole(counts: NDArray[np.float64]) -> NDArray[np.int64]:
    """The counts as integers; ValueError for a NaN or a fraction."""
    if (counts != np.floor(counts)).any() or not np.isfinite(counts).all():
        raise ValueError("pixel counts must be whole numbers, or NaN in all four of an image")
    return counts.astype(np.int64)
