"""Monitors of attention and masks: values by hand and against OpenCV."""

import numpy as np
import pytest
import torch
from support.methods.g2d import build
from support.methods.networks import batch
from transformers import PreTrainedTokenizerFast

from g2dbench.methods.g2d import monitors
from g2dbench.methods.shared.attention_entropy import relative_entropy


def test_monitors_give_one_value_each_and_change_nothing(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    method = build(tokenizer).eval()
    before = {k: v.clone() for k, v in method.state_dict().items()}
    found = method.monitors(batch(method))
    assert set(found) == {
        "attention_entropy", "mask_share", "mask_empty", "mask_full", "mask_parts",
        "mask_overlap", "mask_overlap_chance", "decoder_dice",
    }  # fmt: skip
    assert all(0 <= value <= 1 for value in found.values())
    assert all(torch.equal(before[k], v) for k, v in method.state_dict().items())


def test_monitors_by_hand() -> None:
    uniform, sharp = torch.full((1, 2, 2, 2), 0.25), torch.zeros(1, 1, 2, 2)
    sharp[..., 0, 0] = 1
    half = torch.tensor([[[[0.1, 0.1], [0.0, 0.0]]]])
    assert relative_entropy(uniform) == pytest.approx(1)
    assert relative_entropy(sharp) == 0
    assert relative_entropy(half) == pytest.approx(0.5)
    a = torch.tensor([[1.0, 1, 0, 0], [0, 1, 1, 0], [1, 1, 0, 0]]).view(3, 1, 2, 2)
    assert monitors.share(a) == 0.5
    assert monitors.overlap(a) == pytest.approx((1 / 3 + 1 + 1 / 3) / 3)
    assert monitors.overlap(torch.zeros(2, 1, 2, 2)) == 1
    assert monitors.decoder_dice(a[:2], a[1:]) == pytest.approx(0.5)
    assert monitors.decoder_dice(a * 0, a * 0) == 1
    empty, full = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    some = torch.cat([empty, full, a[:2]])
    assert (monitors.emptiness(some), monitors.fullness(some)) == (0.25, 0.25)
    corners = torch.tensor([[1.0, 0], [0, 1]]).view(1, 1, 2, 2)
    assert monitors.parts(torch.cat([corners, full])) == 1.5
    assert monitors.parts(empty) == 0
    found = monitors.mask_monitors(a[:1], a[:1])
    assert found["mask_overlap_chance"] == pytest.approx(0.5 / 1.5)


def test_connected_parts_are_those_of_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    masks = (torch.rand(6, 2, 40, 40, generator=torch.Generator().manual_seed(2)) > 0.6).float()
    planes = masks.flatten(0, 1).numpy().astype(np.uint8)
    counts = [cv2.connectedComponents(plane, connectivity=4)[0] - 1 for plane in planes]
    assert monitors.parts(masks) == pytest.approx(np.mean(counts))


def test_chance_overlap_is_that_of_independent_masks() -> None:
    draw = torch.Generator().manual_seed(0)
    masks = (torch.rand(8, 1, 64, 64, generator=draw) > 0.8).float()
    found = monitors.mask_monitors(masks, masks)
    assert found["mask_overlap"] == pytest.approx(found["mask_overlap_chance"], abs=0.01)
