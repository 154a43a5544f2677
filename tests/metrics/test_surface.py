"""Boundary distances: by hand, degenerate, and against all pairwise distances by SciPy."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from g2dbench.metrics.surface import surface_distances


def square(side, y0, x0, y1, x1):
    mask = np.zeros((side, side), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def boundary_points(mask):
    """Pixels with one of four neighbors outside the mask, by a loop."""
    padded = np.pad(mask, 1)
    return np.array(
        [
            (y, x)
            for y, x in np.argwhere(mask)
            if not (
                padded[y, x + 1] and padded[y + 2, x + 1]
                and padded[y + 1, x] and padded[y + 1, x + 2]
            )
        ]
    )  # fmt: skip


def slow_distances(predicted, truth):
    pairs = cdist(boundary_points(predicted), boundary_points(truth))
    forth, back = pairs.min(axis=1), pairs.min(axis=0)
    hd95 = max(np.percentile(forth, 95), np.percentile(back, 95))
    return hd95, np.concatenate([forth, back]).mean()


def random_mask(rng, side):
    """A few blocks, at times cut by the border, and noise."""
    mask = rng.random((side, side)) < rng.choice([0, 0.02])
    for _ in range(rng.integers(1, 4)):
        y, x = rng.integers(0, side, 2)
        mask[y : y + rng.integers(1, 9), x : x + rng.integers(1, 9)] = True
    return mask


def test_single_pixels_by_hand():
    found = surface_distances(square(9, 1, 1, 2, 2), square(9, 4, 5, 5, 6))
    assert found == (5.0, 5.0)  # 3 rows and 4 columns apart


def test_a_square_shifted_by_one_column_by_hand():
    # 8 boundary pixels each: 3 move by 1 onto nothing, 1 onto the other's inside, 4 lie on it
    found = surface_distances(square(9, 2, 2, 5, 5), square(9, 2, 3, 5, 6))
    assert found.hd95 == 1.0
    assert found.assd == 0.5


def test_equal_masks_touching_the_border_have_no_distance():
    whole = np.ones((5, 5), bool)
    assert surface_distances(whole, whole) == (0.0, 0.0)


def test_empty_masks_follow_the_stated_rule():
    empty, some = np.zeros((30, 40), bool), np.zeros((30, 40), bool)
    some[3, 3] = True
    assert surface_distances(empty, empty) == (0.0, 0.0)
    assert surface_distances(empty, some) == surface_distances(some, empty) == (50.0, 50.0)


def test_a_thousand_random_pairs_equal_all_pairwise_distances():
    rng = np.random.default_rng(0)
    for _ in range(1000):
        predicted, truth = random_mask(rng, 20), random_mask(rng, 20)
        found = surface_distances(predicted, truth)
        assert found == pytest.approx(slow_distances(predicted, truth), abs=1e-12)
        assert found == pytest.approx(surface_distances(truth, predicted), abs=1e-12)


@pytest.mark.parametrize(
    ("predicted", "truth"),
    [
        (np.ones((2, 2)), np.ones((2, 2), bool)),
        (np.ones((2, 2), bool), np.ones((2, 3), bool)),
        (np.ones(3, bool), np.ones(3, bool)),
    ],
)
def test_other_input_is_refused(predicted, truth):
    with pytest.raises(ValueError, match="boolean masks"):
        surface_distances(predicted, truth)
