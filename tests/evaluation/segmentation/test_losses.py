"""Losses of masks: by hand, against torchvision, and at extremes."""

import math

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from g2dbench.evaluation.segmentation.losses import (
    MASK_LOSSES,
    focal_and_log_dice,
    soft_dice,
    soft_dice_and_cross_entropy,
)


def test_soft_dice_by_hand() -> None:
    targets = torch.zeros(2, 2, 2, 2)
    targets[0, 0] = 1
    chance = torch.zeros(2, 2, 2, 2)
    # 8 pixels of .5: inter 2 or 0, sums 4 + 4 or 4 + 0
    assert soft_dice(chance, targets).tolist() == pytest.approx([5 / 9, 1 / 5])


def test_mgcas_loss_against_torchvision() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        logits = 4 * torch.randn(3, 1, 5, 5, generator=generator)
        targets = (torch.rand(3, 1, 5, 5, generator=generator) < 0.4).float()
        focal = sigmoid_focal_loss(logits, targets, alpha=-1, gamma=2, reduction="mean")
        p = logits.sigmoid()
        dice = (2 * (p * targets).sum() + 1) / (p.sum() + targets.sum() + 1)
        expected = 10 * float(focal) - math.log(float(dice))
        assert float(focal_and_log_dice(logits, targets)) == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_and_dice_is_their_sum() -> None:
    logits, targets = torch.randn(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
    entropy = F.binary_cross_entropy_with_logits(logits, targets)
    expected = 1 - soft_dice(logits, targets).mean() + entropy
    assert float(soft_dice_and_cross_entropy(logits, targets)) == pytest.approx(float(expected))


@pytest.mark.parametrize("name", MASK_LOSSES)
def test_a_perfect_mask_costs_nothing_and_gradients_are_finite(name: str) -> None:
    loss = MASK_LOSSES[name]  # type: ignore[index]
    targets = torch.zeros(2, 1, 4, 4)
    targets[0, 0, :2] = 1
    assert float(loss(200 * targets - 100, targets)) == pytest.approx(0, abs=1e-5)
    wrong = (100 - 200 * targets).requires_grad_()
    loss(wrong, targets).backward()
    assert torch.isfinite(wrong.grad).all()
    empty = torch.zeros(1, 1, 4, 4)
    assert float(loss(empty - 100, empty)) == pytest.approx(0, abs=1e-5)
