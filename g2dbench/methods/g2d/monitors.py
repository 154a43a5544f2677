"""Signs that G2D's training goes wrong, on one held-out batch; pure functions.

Shapes: B images, H heads, h w grid, K masks of an image, S side.
Seen before (one small trial): attention all but uniform, masks that hardly depend on the image,
a decoder that agrees with them perfectly. Entropy near 1, overlap far above chance, Dice near 1.
"""

import torch
from scipy import ndimage
from torch import Tensor

EMPTY, FULL = 0.001, 0.9
"""Shares of the image below and above which a mask holds no shape."""


def mask_monitors(mask: Tensor, predicted: Tensor) -> dict[str, float]:
    """Masks and the decoder's probabilities (B, K, S, S), all together."""
    area = share(mask)
    return {
        "mask_share": area,
        "mask_empty": emptiness(mask),
        "mask_full": fullness(mask),
        "mask_parts": parts(mask),
        "mask_overlap": overlap(mask),
        "mask_overlap_chance": area / (2 - area),
        "decoder_dice": decoder_dice(predicted, mask),
    }


def share(mask: Tensor) -> float:
    """(B, K, S, S) -> mean part of the image above 1/2."""
    return float((mask > 0.5).float().mean())


def emptiness(mask: Tensor) -> float:
    """(B, K, S, S) -> part of the masks that cover less than a thousandth of their image."""
    return float((_areas(mask) < EMPTY).float().mean())


def fullness(mask: Tensor) -> float:
    """(B, K, S, S) -> part of the masks that cover more than nine tenths of their image."""
    return float((_areas(mask) > FULL).float().mean())


def parts(mask: Tensor) -> float:
    """(B, K, S, S) -> mean number of connected parts; pixels touch by their sides, not corners."""
    planes = (mask > 0.5).flatten(0, 1).cpu().numpy()
    return float(sum(ndimage.label(plane)[1] for plane in planes) / len(planes))


def overlap(mask: Tensor) -> float:
    """(B, K, S, S) -> mean IoU of the masks of two different images; two empty masks count as 1.

    Independent masks of share s have s / (2 - s); 1 means one mask for all.
    """
    flat = (mask > 0.5).flatten(1).float()
    both = flat @ flat.T
    size = flat.sum(1)
    union = size[:, None] + size[None, :] - both
    iou = torch.where(union > 0, both / union.clamp(min=1), 1.0)
    pairs = len(flat) * (len(flat) - 1)
    return float((iou.sum() - iou.diagonal().sum()) / pairs) if pairs else 1.0


def decoder_dice(predicted: Tensor, mask: Tensor) -> float:
    """Probabilities and masks (B, K, S, S) -> mean Dice of both at 1/2; two empty ones give 1."""
    a, b = (predicted > 0.5).flatten(1).float(), (mask > 0.5).flatten(1).float()
    size = a.sum(1) + b.sum(1)
    dice = torch.where(size > 0, 2 * (a * b).sum(1) / size.clamp(min=1), 1.0)
    return float(dice.mean())


def _areas(mask: Tensor) -> Tensor:
    """(B, K, S, S) -> (B, K) part of the image above 1/2."""
    return (mask > 0.5).float().mean((2, 3))
