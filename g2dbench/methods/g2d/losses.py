"""Pixel alignment: losses between the decoder's logits and the pseudo mask, or the image itself.

Shapes: B images, K masks of an image, S side.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from g2dbench.methods.g2d.settings import PixelSettings


def pixel_alignment(logits: Tensor, mask: Tensor, pixel: PixelSettings) -> Tensor:
    """(B, K, S, S) logits and masks in [0, 1] -> scalar: weighted soft Dice and cross-entropy.

    "probabilities" with weights 1/2 and 1/2 is the paper's loss; "logits" with weights 1 and 0.2
    that of the released code (PRETRAIN/utils/loss.py), whose Dice of raw logits has no lower bound.
    Always fp32.
    """
    logits, mask = logits.float(), mask.float()
    with torch.autocast(logits.device.type, enabled=False):
        bce = F.binary_cross_entropy_with_logits(logits, mask)
        values = logits.sigmoid() if pixel.values == "probabilities" else logits
        return pixel.dice * soft_dice(values, mask, pixel.smooth) + pixel.bce * bce


def reconstruction(logits: Tensor, grey: Tensor, pixel: PixelSettings) -> Tensor:
    """(B, 1, S, S) logits and grey values in [0, 1] -> scalar: weighted mean squared error, fp32.

    The probabilities are the predicted image, so that the network is the same as for pseudo masks
    (paper, table 5a, "reconstruction").
    """
    return pixel.mse * F.mse_loss(logits.float().sigmoid(), grey.float())


def soft_dice(values: Tensor, mask: Tensor, smooth: float) -> Tensor:
    """1 - (2 sum(v m) + smooth) / (sum(v) + sum(m) + smooth) per image, averaged over images."""
    v, m = values.flatten(1), mask.flatten(1)
    overlap = 2 * (v * m).sum(1) + smooth
    return (1 - overlap / (v.sum(1) + m.sum(1) + smooth)).mean()
