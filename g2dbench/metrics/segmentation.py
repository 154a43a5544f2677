"""Overlap of masks from pixel counts: Dice and IoU, one name per definition.

Every function takes three arrays of pixel counts, one entry per image: `intersection`, `predicted`,
`truth`. Published tables call several different numbers "Dice"; each has its own name here:

    dice_per_image   mean of `dice_values`: an image without truth counts 1 if the prediction is
                     empty too, else 0 (MGCA, MedKLIP on SIIM)
    dice_positive    mean of `dice_values` over images with truth only (positives-only SIIM tables)
    dice_pooled      pixels of all images in one pot, mean of foreground and background (BenchX)
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from g2dbench.metrics.ratio import ratio

Counts = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def overlap_counts(predicted: ArrayLike, truth: ArrayLike) -> tuple[int, int, int]:
    """Pixel counts (intersection, predicted, truth) of two boolean masks of one image, (H,W)."""
    claim, real = np.asarray(predicted), np.asarray(truth)
    if claim.shape != real.shape or claim.dtype != np.bool_ or real.dtype != np.bool_:
        raise ValueError(
            f"two boolean masks of one shape are compared; found {claim.dtype} {claim.shape} "
            f"and {real.dtype} {real.shape}"
        )
    return int((claim & real).sum()), int(claim.sum()), int(real.sum())


def _counts(intersection: ArrayLike, predicted: ArrayLike, truth: ArrayLike) -> Counts:
    both, claim, real = np.asarray(intersection), np.asarray(predicted), np.asarray(truth)
    if not both.shape == claim.shape == real.shape:
        raise ValueError(
            f"pixel counts must have one shape; found {both.shape}, {claim.shape}, {real.shape}"
        )
    if not all(np.issubdtype(a.dtype, np.integer) or a.size == 0 for a in (both, claim, real)):
        raise ValueError("pixel counts must be whole numbers")
    if ((both < 0) | (both > claim) | (both > real)).any():
        raise ValueError("an intersection is negative or larger than one of its masks")
    return both.astype(np.int64), claim.astype(np.int64), real.astype(np.int64)


def dice_values(
    intersection: ArrayLike, predicted: ArrayLike, truth: ArrayLike
) -> NDArray[np.float64]:
    """Dice of each image, (N,): 2 |P and T| / (|P| + |T|); without truth 1 if P is empty, else 0.

    Source: MGCA mgca/models/ssl_segmenter.py; MedKLIP I2_segmentation/metric.py at 8e60b03.
    """
    both, claim, real = _counts(intersection, predicted, truth)
    return ratio(2 * both, claim + real, otherwise=1.0)


def iou_values(
    intersection: ArrayLike, predicted: ArrayLike, truth: ArrayLike
) -> NDArray[np.float64]:
    """IoU of each image, (N,): |P and T| / |P or T|; without truth 1 if P is empty, else 0."""
    both, claim, real = _counts(intersection, predicted, truth)
    return ratio(both, claim + real - both, otherwise=1.0)


def iou_smoothed_values(
    intersection: ArrayLike, predicted: ArrayLike, truth: ArrayLike
) -> NDArray[np.float64]:
    """IoU of each image with one pixel added above and below, (N,); MedKLIP's "mIoU".

    Source: MedKLIP Sample_Finetuning_SIIMACR/I2_segmentation/metric.py at 8e60b03, eps=1. An empty
    truth with p predicted pixels scores 1/(p+1) instead of 0.
    """
    both, claim, real = _counts(intersection, predicted, truth)
    return np.asarray((both + 1) / (claim + real - both + 1))


def only_positive(values: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """The values of images with truth, NaN elsewhere, (N,): the mean is over positives only."""
    return np.where(np.asarray(truth) > 0, np.asarray(values, np.float64), np.nan)


def _mean(values: NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def dice_per_image(intersection: ArrayLike, predicted: ArrayLike, truth: ArrayLike) -> float:
    """Mean of `dice_values` over all images; NaN without images.

    MGCA publishes the mean of batch means, which depends on the batch size; this does not.
    """
    return _mean(dice_values(intersection, predicted, truth))


def dice_positive(intersection: ArrayLike, predicted: ArrayLike, truth: ArrayLike) -> float:
    """Mean Dice over the images whose truth is not empty; NaN when there is none."""
    return _mean(only_positive(dice_values(intersection, predicted, truth), truth))


def dice_pooled(
    intersection: ArrayLike, predicted: ArrayLike, truth: ArrayLike, pixels: ArrayLike
) -> NDArray[np.float64]:
    """Dice of foreground and of background over all pixels of all images, averaged.

    Counts (..., N), `pixels` the size of each image; sums run over the last axis, so (B,N) counts
    already multiplied by their multiplicities give (B,). NaN where a part has no pixel at all.
    Source: BenchX's segmentation scores (mmsegmentation mDice over two classes). A small finding
    vanishes beside the background: not comparable with any per-image Dice.
    """
    both, claim, real = (a.sum(axis=-1) for a in _counts(intersection, predicted, truth))
    total = np.asarray(pixels).sum(axis=-1)
    if (claim + real - both > total).any():
        raise ValueError("the masks cover more pixels than the images have")
    tops = np.stack([2 * both, 2 * (total - claim - real + both)])
    bottoms = np.stack([claim + real, 2 * total - claim - real])
    return np.asarray(ratio(tops, bottoms).mean(axis=0))
