"""Pseudo masks and the decoder on a GPU equal those of the CPU."""

from typing import Any

import pytest
import torch
from support.gpu import CPU, GPU, MARKS, exact_fp32, relative_error
from support.methods.g2d import build
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from g2dbench.methods.g2d.pseudo_mask import (
    PseudoMask,
    above_mixture,
    above_percentile,
    bilateral_filter,
    disc_window,
    otsu,
    outline,
)
from g2dbench.methods.g2d.settings import MaskSettings
from g2dbench.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

pytestmark = MARKS

SIDE, COUNT = 256, 8
SETTINGS: list[dict[str, Any]] = [
    {},
    {"heads": "separate", "upsampling": "nearest", "body": "otsu"},
    {"threshold": "mixture", "smoothing": "guided"},
    {"body": "none", "smoothing": "none", "pairing": "shuffled"},
]


def images() -> Tensor:
    """Noisy pictures of two grey levels, normalized as for ImageNet."""
    draw = torch.Generator().manual_seed(0)
    spots = torch.rand(COUNT, 1, 8, 8, generator=draw) > 0.5
    levels = torch.nn.functional.interpolate(spots.float(), (SIDE, SIDE)) * 0.5 + 0.2
    grey = (levels + 0.05 * torch.randn(COUNT, 1, SIDE, SIDE, generator=draw)).clamp(0, 1)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return ((grey * 255).round() / 255).expand(-1, 3, -1, -1).sub(mean).div(std)


def attention(heads: int = 3, grid: int = 16) -> Tensor:
    logits = torch.randn(COUNT, heads, grid * grid, generator=torch.Generator().manual_seed(1))
    return logits.softmax(-1).view(COUNT, heads, grid, grid)


@pytest.mark.parametrize("changes", SETTINGS, ids=lambda c: "-".join(c) or "default")
def test_pseudo_masks_equal_those_of_the_cpu(changes: dict[str, Any]) -> None:
    """Rounding may move a pixel at the threshold, and with it its surroundings: 1 in 1,000."""
    mask = PseudoMask(
        MaskSettings.model_validate(changes),
        Preprocess(size=SIDE, mean=IMAGENET_MEAN, std=IMAGENET_STD),
    )
    right = mask.to(CPU)(attention(), images())
    found = mask.to(GPU)(attention().to(GPU), images().to(GPU)).cpu()
    assert found.shape == right.shape
    different = (found - right).abs() > 1e-3
    assert different.float().mean() < 1e-3


def test_each_step_of_the_mask_is_exact_on_the_gpu() -> None:
    """Comparisons, integer counts and fp64 sums give the same bits; the blur by FFT is near."""
    draw = torch.Generator().manual_seed(2)
    scores = torch.rand(COUNT, 1, 64, 64, generator=draw)
    grey = (scores[:, 0] * 255).round().long()
    binary = (scores > 0.7).float()
    assert torch.equal(above_percentile(scores.to(GPU), 85.0).cpu(), above_percentile(scores, 85.0))
    assert torch.equal(otsu(grey.to(GPU)).cpu(), otsu(grey))
    assert torch.equal(outline((grey > 250).to(GPU)).cpu(), outline(grey > 250))
    assert (above_mixture(scores.to(GPU)).cpu() != above_mixture(scores)).float().mean() < 1e-3
    window = disc_window(4.0, 6)
    right = bilateral_filter(binary, window, 1.0)
    torch.testing.assert_close(
        bilateral_filter(binary.to(GPU), window.to(GPU), 1.0).cpu(), right, atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("stride", [32, 16])
def test_dense_features_attention_and_decoder_equal_those_of_the_cpu(
    stride: int, tokenizer: PreTrainedTokenizerFast
) -> None:
    method: Any = build(tokenizer, attention={"heads": 2, "stride": stride}).eval()
    given = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad(), exact_fp32():
        levels = method.pyramid(given)
        right = [method.dense(levels), method.attend(levels), method.decode(levels)]
        method = method.to(GPU)
        levels = method.pyramid(given.to(GPU))
        found = [method.dense(levels), method.attend(levels), method.decode(levels)]
    for one, other in zip(found, right, strict=True):
        assert relative_error(one, other) < 1e-4
