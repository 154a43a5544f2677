"""Augmentation agrees with torchvision and OpenCV, and treats each image by its own numbers."""

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from g2dbench import augment as ours
from g2dbench.recipe import Policy

POLICIES: tuple[Policy, ...] = ("none", "light", "paper", "code")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("angle", "shear", "zoom", "x", "y"),
    [(0, 0, 1, 0, 0), (10, 0, 1, 0, 0), (0, 12, 1, 0, 0), (7, -9, 1.2, 0.1, -0.05)],
)
@pytest.mark.parametrize("side", [32, 33])
def test_affine_is_torchvisions(
    side: int, angle: float, shear: float, zoom: float, x: float, y: float
) -> None:
    images = random(2, 1, side, side)
    one = torch.ones(2)
    shift = torch.tensor([[x, y]] * 2, dtype=torch.float32)
    found = ours.warp(images, ours.affine(one * angle, one * shear, one * zoom, shift))
    expected = reference.affine(
        images, angle, [x * side, y * side], zoom, [shear, 0.0], InterpolationMode.BILINEAR
    )
    assert torch.allclose(found, expected, atol=2e-5)


def test_perspective_is_opencvs() -> None:
    inset = random(5, 4, 2) * 0.5
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32)
    for given, found in zip(inset.numpy(), ours.perspective(inset).numpy(), strict=True):
        moved = (corners * (1 - given)).astype(np.float32)
        assert np.allclose(found, cv2.getPerspectiveTransform(moved, corners), atol=1e-6)


def test_intensities_are_torchvisions() -> None:
    images = random(4, 1, 9, 9) * 0.7 + 0.1
    factor = torch.full((4,), 1.3)
    assert torch.allclose(ours.brighten(images, factor), reference.adjust_brightness(images, 1.3))
    contrast = reference.adjust_contrast(images, 1.3)
    assert torch.allclose(ours.stretch_contrast(images, factor), contrast, atol=1e-6)
    assert torch.allclose(ours.autocontrast(images), reference.autocontrast(images), atol=1e-6)


def test_autocontrast_leaves_a_constant_image() -> None:
    images = torch.full((1, 1, 4, 4), 0.3)
    assert torch.equal(ours.autocontrast(images), images)


@pytest.mark.parametrize("policy", POLICIES)
def test_pixels_stay_in_range_and_black_stays_black(policy: Policy) -> None:
    draws = random(64, ours.DRAWS)
    varied = ours.augment(random(64, 1, 32, 32, seed=1), draws, policy)
    assert varied.shape == (64, 1, 32, 32)
    assert varied.dtype == torch.float32
    assert float(varied.min()) >= 0
    assert float(varied.max()) <= 1
    black = ours.augment(torch.zeros(64, 1, 32, 32), draws, policy)
    assert not black.any()


@pytest.mark.parametrize("policy", POLICIES)
def test_an_image_is_varied_by_its_own_draws_whatever_the_batch(policy: Policy) -> None:
    images, draws = random(6, 1, 32, 32), random(6, ours.DRAWS, seed=1)
    whole = ours.augment(images, draws, policy)
    parts = [ours.augment(images[at : at + 2], draws[at : at + 2], policy) for at in (0, 2, 4)]
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize("policy", ["light", "paper", "code"])
def test_a_policy_varies_and_none_does_not(policy: Policy) -> None:
    images = random(64, 1, 32, 32)
    draws = random(64, ours.DRAWS, seed=1)
    assert torch.equal(ours.augment(images, draws, "none"), images)
    changed = (ours.augment(images, draws, policy) != images).flatten(1).any(1)
    expected = {"paper": 0.75}.get(policy, 1.0)
    assert float(changed.float().mean()) == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize("policy", POLICIES)
def test_left_stays_left(policy: Policy) -> None:
    images = torch.zeros(32, 1, 32, 32)
    images[..., :8] = 1.0
    varied = ours.augment(images, random(32, ours.DRAWS), policy)
    assert (varied[..., :16].sum((1, 2, 3)) > varied[..., 16:].sum((1, 2, 3))).all()
