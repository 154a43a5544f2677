"""Geometry of training images: images and masks move together, within the published ranges."""

import math

import numpy as np
import pytest
import torch

from g2dbench.evaluation.heads.image_warps import draw_warp, warp_masks
from g2dbench.training.batches.augmentation import warp


def draws(policy: str, count: int = 2000) -> list:
    generator = torch.Generator().manual_seed(0)
    return [draw_warp(policy, generator) for _ in range(count)]  # type: ignore[arg-type]


def test_mgca_moves_half_of_the_images_within_its_ranges() -> None:
    moved = [matrix for matrix in draws("mgca") if matrix is not None]
    assert len(moved) / 2000 == pytest.approx(0.5, abs=0.04)
    zooms = [1 / math.sqrt(np.linalg.det(matrix[:2, :2])) for matrix in moved]
    angles = [math.degrees(math.atan2(m[0, 1], m[0, 0])) for m in moved]
    assert 0.9 <= min(zooms) < 0.91
    assert 1.09 < max(zooms) <= 1.1
    assert -10 <= min(angles) < -9.5
    assert 9.5 < max(angles) <= 10
    assert all((matrix[:2, 2] == 0).all() for matrix in moved)


def test_crops_have_the_published_area_and_stay_inside() -> None:
    found = draws("resized-crop")
    assert np.mean([m[0, 0] < 0 for m in found]) == pytest.approx(0.5, abs=0.04)
    widths, heights = (np.array([abs(m[i, i]) for m in found]) for i in (0, 1))
    assert 0.2 - 1e-9 <= (widths * heights).min() < 0.21
    assert (widths * heights).max() <= 1
    ratios = (widths / heights)[widths * heights < 0.99]
    assert 3 / 4 - 1e-9 <= ratios.min() < 0.77
    assert 1.3 < ratios.max() <= 4 / 3 + 1e-9
    for axis, sides in ((0, widths), (1, heights)):
        assert max(abs(m[axis, 2]) + s for m, s in zip(found, sides, strict=True)) <= 1 + 1e-9


def test_none_never_moves_and_draws_depend_on_the_generator_only() -> None:
    assert draws("none", 3) == [None] * 3
    first, again = draws("resized-crop", 5), draws("resized-crop", 5)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("policy", ["mgca", "resized-crop"])
def test_masks_move_with_their_image(policy: str) -> None:
    mask = np.zeros((2, 64, 64), bool)
    mask[0, 20:40, 10:30] = True
    image = (255 * mask[0]).astype(np.uint8)
    for matrix in draws(policy, 40):
        if matrix is not None:
            moved, shown = warp_masks(mask, matrix), warp(image, matrix) > 127
            assert not moved[1].any()
            assert (moved[0] ^ shown).sum() <= 0.03 * 64 * 64


def test_a_mirrored_whole_image_is_exact() -> None:
    mask = np.random.default_rng(0).random((1, 8, 8)) < 0.5
    assert np.array_equal(warp_masks(mask, np.diag([-1.0, 1, 1])), mask[:, :, ::-1])
    assert warp_masks(np.zeros((0, 8, 8), bool), np.eye(3)).shape == (0, 8, 8)
