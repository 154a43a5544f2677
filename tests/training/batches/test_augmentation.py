"""Augmentation agrees with torchvision and Pillow, and depends on each image's numbers only."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from g2dbench.recipes.recipe import AugmentPolicy
from g2dbench.training.batches import augmentation as ours

POLICIES: tuple[AugmentPolicy, ...] = ("none", "light", "paper", "code")
LEVELS = np.arange(256) / 255


def noise(side: int = 32, seed: int = 0) -> ours.Grey:
    return np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)


def smooth(side: int) -> ours.Grey:
    """Noise that changes slowly and ends black: a neighbor differs by a few grey values."""
    blurred = cv2.GaussianBlur(noise(side).astype(np.float32), (0, 0), 3)
    whole = (blurred - blurred.min()) / np.ptp(blurred) * 255
    window = np.hanning(side)
    return (whole * window[:, None] * window).astype(np.uint8)


def draws(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(ours.RANDOM_NUMBERS)


MOVES = pytest.mark.parametrize(
    ("angle", "shear", "zoom", "x", "y"),
    [(0, 0, 1, 0, 0), (10, 0, 1, 0, 0), (0, 12, 1, 0, 0), (7, -9, 1.2, 0.1, -0.05)],
)


@MOVES
@pytest.mark.parametrize("side", [32, 33])
def test_affine_is_torchvisions(
    side: int, angle: float, shear: float, zoom: float, x: float, y: float
) -> None:
    image = smooth(side)
    found = ours.warp(image, ours.affine(angle, shear, zoom, (x, y)))
    expected = reference.affine(
        torch.from_numpy(image)[None, None].float(), angle, [x * side, y * side], zoom,
        [shear, 0.0], InterpolationMode.BILINEAR,
    )[0, 0].numpy()  # fmt: skip
    # OpenCV interpolates between 32 steps of a pixel: half a step times a slope of up to 60
    assert np.abs(found - expected).max() <= 2
    assert np.abs(found - expected).mean() < 0.5


@MOVES
def test_nearest_sampling_is_pillows(
    angle: float, shear: float, zoom: float, x: float, y: float
) -> None:
    image, right, down = noise(64), round(x * 64), round(y * 64)
    matrix = ours.affine(angle, shear, zoom, (right / 64, down / 64))
    found = ours.warp(image, matrix, "nearest")
    expected = reference.affine(Image.fromarray(image), angle, [right, down], zoom, [shear, 0.0])
    assert (found != np.asarray(expected)).mean() < 0.01  # ties between two pixels


def test_a_perspective_moves_the_corners_to_the_inset() -> None:
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    for seed in range(5):
        inset = np.random.default_rng(seed).random((4, 2)) * 0.5
        moved = np.c_[corners * (1 - inset), np.ones(4)]
        found = moved @ ours.perspective(inset).T
        assert np.allclose(found[:, :2] / found[:, 2:], corners, atol=1e-5)


def test_a_warp_by_a_perspective_is_torchs() -> None:
    image, matrix = smooth(33), ours.perspective(np.random.default_rng(1).random((4, 2)) * 0.5)
    at = (np.arange(33) * 2 + 1) / 33 - 1
    x, y = np.meshgrid(at, at)
    found = np.stack([x, y, np.ones_like(x)], -1) @ matrix.T
    grid = torch.from_numpy(found[..., :2] / found[..., 2:])[None].float()
    expected = torch.nn.functional.grid_sample(
        torch.from_numpy(image)[None, None].float(), grid, align_corners=False
    )
    assert np.abs(ours.warp(image, matrix) - expected[0, 0].numpy()).max() <= 3


def test_intensities_are_torchvisions() -> None:
    image = (noise() * 0.7 + 25).astype(np.uint8)
    exact = torch.from_numpy(image)[None].double() / 255
    for found, expected in (
        (ours.adjust_brightness(LEVELS, 1.3), reference.adjust_brightness(exact, 1.3)),
        (ours.adjust_contrast(LEVELS, 1.3, image), reference.adjust_contrast(exact, 1.3)),
        (ours.autocontrast(image), reference.autocontrast(exact)),
    ):
        assert np.allclose(found[image], expected[0], atol=1e-6)
        assert np.array_equal(ours.apply_curve(image, found), np.rint(found[image] * 255))


def test_contrast_scales_about_the_mean_after_brightness() -> None:
    image = noise()
    bright = reference.adjust_brightness(torch.from_numpy(image)[None].double() / 255, 1.5)
    expected = reference.adjust_contrast(bright, 0.5)[0]
    found = ours.adjust_contrast(ours.adjust_brightness(LEVELS, 1.5), 0.5, image)
    assert np.allclose(found[image], expected, atol=1e-6)


def test_autocontrast_does_not_change_a_constant_image() -> None:
    image = np.full((4, 4), 77, np.uint8)
    assert np.array_equal(ours.apply_curve(image, ours.autocontrast(image)), image)


@pytest.mark.parametrize("policy", POLICIES)
def test_black_stays_black_and_the_input_is_not_changed(policy: AugmentPolicy) -> None:
    for seed in range(16):
        image = noise(seed=seed)
        before = image.copy()
        varied = ours.augment(image, draws(seed), policy)
        assert varied.shape == (32, 32)
        assert varied.dtype == np.uint8
        assert np.array_equal(image, before)
        assert not ours.augment(np.zeros((32, 32), np.uint8), draws(seed), policy).any()


@pytest.mark.parametrize("policy", ["light", "paper", "code"])
def test_every_policy_but_none_changes_images(policy: AugmentPolicy) -> None:
    images = [noise(seed=seed) for seed in range(64)]
    changed = []
    for seed, image in enumerate(images):
        assert np.array_equal(ours.augment(image, draws(seed), "none"), image)
        changed.append((ours.augment(image, draws(seed), policy) != image).any())
    # auto contrast does not change noise that spans all values
    expected = {"paper": 0.5}.get(policy, 1.0)
    assert np.mean(changed) == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize("policy", POLICIES)
def test_left_stays_left(policy: AugmentPolicy) -> None:
    image = np.zeros((32, 32), np.uint8)
    image[:, :8] = 255
    for seed in range(32):
        varied = ours.augment(image, draws(seed), policy).astype(int)
        assert varied[:, :16].sum() > varied[:, 16:].sum()
