"""Pixel alignment: values by hand, of the released code, and of smp's Dice."""

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from support.methods.g2d import wave

from g2dbench.methods.g2d.losses import pixel_alignment, soft_dice
from g2dbench.methods.g2d.settings import PixelSettings


def test_pixel_loss_by_hand() -> None:
    logits = torch.tensor([[[[0.0, np.log(3.0)], [-np.log(3.0), 0.0]]]])
    mask = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    dice = 1 - (2 * 1.25 + 1e-5) / (2 + 2 + 1e-5)
    bce = -(np.log(0.5) + np.log(0.75) + np.log(0.75) + np.log(0.5)) / 4
    found = float(pixel_alignment(logits, mask, PixelSettings()))
    assert found == pytest.approx((dice + bce) / 2, rel=1e-6)
    only = PixelSettings(dice=0, bce=1)
    assert float(pixel_alignment(logits, mask, only)) == pytest.approx(bce, rel=1e-6)


def test_the_released_pixel_loss_is_available_as_a_setting() -> None:
    """The value is that of PRETRAIN/utils/loss.py bceDiceLoss for these waves."""
    logits, mask = wave(2, 1, 4, 4, phase=0.5) * 3, (wave(2, 1, 4, 4, phase=1.0) > 0).float()
    code = PixelSettings(values="logits", dice=1, bce=0.2)
    assert float(pixel_alignment(logits, mask, code)) == pytest.approx(
        -0.6507164239883423, rel=1e-5
    )


def test_soft_dice_is_smps_whose_smooth_is_half_of_ours() -> None:
    draw = torch.Generator().manual_seed(0)
    values, mask = torch.rand(3, 1, 8, 8, generator=draw), torch.rand(3, 1, 8, 8, generator=draw)
    each = [
        smp.losses.DiceLoss("binary", from_logits=False, smooth=0.5)(v, m)
        for v, m in zip(values[:, None], mask[:, None].round(), strict=True)
    ]
    assert float(soft_dice(values, mask.round(), 1.0)) == pytest.approx(float(sum(each)) / 3)
    assert float(soft_dice(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), 1e-5)) == 0
