"""Monitors of G2D's pseudo masks on one held-out batch, as pure functions.

Shapes: B images, H heads, h w grid, K masks of an image, S side.
A failure seen in a small experiment: nearly uniform attention, masks that hardly depend on the
image, and a decoder that predicts them perfectly. The entropy is then near 1, the overlap far above
chance, and the Dice near 1.
"""

import torch
from scipy import ndimage
from torch import Tensor

EMPTY, FULL = 0.001, 0.9
"""A mask that covers less or more than this fraction of the image has no shape."""


def mask_monitors(mask: Tensor, predicted: Tensor) -> dict[str, float]:
    """Masks and the decoder's probabilities (B, K, S, S) -> all monitors by name."""
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
    """(B, K, S, S) -> mean fraction of the image in the mask (above 1/2)."""
    return float((mask > 0.5).float().mean())


def emptiness(mask: Tensor) -> float:
    """(B, K, S, S) -> fraction of masks that cover less than a thousandth of their image."""
    return float((_areas(mask) < EMPTY).float().mean())


def fullness(mask: Tensor) -> float:
    """(B, K, S, S) -> fraction of masks that cover more than nine tenths of their image."""
    return float((_areas(mask) > FULL).float().mean())


def parts(mask: Tensor) -> float:
    """(B, K, S, S) -> mean number of connected components, with 4-connectivity."""
    planes = (mask > 0.5).flatten(0, 1).cpu().numpy()
    return float(sum(ndimage.label(plane)[1] for plane in planes) / len(planes))


def overlap(mask: Tensor) -> float:
    """(B, K, S, S) -> mean IoU of the masks of two different images; 1 for two empty masks.

    Independent masks that cover a fraction s have s / (2 - s); 1 means the same mask for all.
    """
    flat = (mask > 0.5).flatten(1).float()
    both = flat @ flat.T
    size = flat.sum(1)
    union = size[:, None] + size[None, :] - both
    iou = torch.where(union > 0, both / union.clamp(min=1), 1.0)
    pairs = len(flat) * (len(flat) - 1)
    return float((iou.sum() - iou.diagonal().sum()) / pairs) if pairs else 1.0


def decoder_dice(predicted: Tensor, mask: Tensor) -> float:
    """Probabilities and masks (B, K, S, S) -> mean Dice of both at 1/2; 1 if both are empty."""
    a, b = (predicted > 0.5).flatten(1).float(), (mask > 0.5).flatten(1).float()
    size = a.sum(1) + b.sum(1)
    dice = torch.where(size > 0, 2 * (a * b).sum(1) / size.clamp(min=1), 1.0)
    return float(dice.mean())


def _areas(mask: Tensor) -> Tensor:
    """(B, K, S, S) -> (B, K) fraction of the image above 1/2."""
    return (mask > 0.5).float().mean((2, 3))
