"""Losses of segmentation heads. Legend: B images, K findings, S input side."""

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from torch import Tensor
from torch.nn import functional as F

MaskLoss: TypeAlias = Literal["dice-ce", "mgca"]

FOCAL_WEIGHT = 10.0


def soft_dice(logits: Tensor, targets: Tensor) -> Tensor:
    """(B, K, S, S) logits and 0/1 targets -> (K,): soft Dice over all pixels of the batch.

    1 is added to numerator and denominator. Source: MGCA utils/segmentation_loss.py.
    """
    probability, axes = logits.sigmoid(), (0, 2, 3)
    inter, total = (probability * targets).sum(axes), probability.sum(axes) + targets.sum(axes)
    return (2 * inter + 1) / (total + 1)


def soft_dice_and_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """1 - soft Dice, mean over findings, + cross-entropy of (B, K, S, S) logits."""
    dice = soft_dice(logits, targets).mean()
    return 1 - dice + F.binary_cross_entropy_with_logits(logits, targets)


def focal_and_log_dice(logits: Tensor, targets: Tensor) -> Tensor:
    """10 x focal loss - log(soft Dice), mean over findings, of (B, K, S, S) logits.

    Focal loss: cross-entropy weighted by the squared probability of the wrong class.
    Source: MGCA utils/segmentation_loss.py, MixedLoss(alpha=10, gamma=2); it has one finding.
    """
    wrong = F.logsigmoid(logits * (1 - 2 * targets)).exp()
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    focal = (wrong.square() * entropy).mean()
    return FOCAL_WEIGHT * focal - soft_dice(logits, targets).log().mean()


MASK_LOSSES: Mapping[MaskLoss, Callable[[Tensor, Tensor], Tensor]] = {
    "dice-ce": soft_dice_and_cross_entropy,
    "mgca": focal_and_log_dice,
}
