"""Dice and IoU, one name per definition: by hand, degenerate, and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score

from g2dbench.metrics import segmentation as s
from g2dbench.metrics.bootstrap import mean_of

# image 0: overlap 2 of 4 and 3; 1: both empty; 2: false positive; 3: missed
INTERSECTION, PREDICTED, TRUTH = [2, 0, 0, 0], [4, 0, 5, 0], [3, 0, 0, 6]


def random_masks(seed, images=12, size=(9, 7)):
    rng = np.random.default_rng(seed)
    shape = (images, *size)
    share = rng.choice([0, 0.1, 0.5], (images, 1, 1))
    return rng.random(shape) < share, rng.random(shape) < rng.permutation(share)


def counts_of(predicted, truth):
    pairs = [s.overlap_counts(p, t) for p, t in zip(predicted, truth, strict=True)]
    return np.array(pairs).T


def test_values_worked_by_hand():
    assert s.dice_values(INTERSECTION, PREDICTED, TRUTH).tolist() == [4 / 7, 1, 0, 0]
    assert s.iou_values(INTERSECTION, PREDICTED, TRUTH).tolist() == [2 / 5, 1, 0, 0]
    assert s.iou_smoothed_values(INTERSECTION, PREDICTED, TRUTH).tolist() == [
        3 / 6,
        1,
        1 / 6,
        1 / 7,
    ]


def test_means_worked_by_hand():
    assert s.dice_per_image(INTERSECTION, PREDICTED, TRUTH) == pytest.approx((4 / 7 + 1) / 4)
    assert s.dice_positive(INTERSECTION, PREDICTED, TRUTH) == pytest.approx((4 / 7) / 2)
    # foreground 2*2/(9+9); background: 20 pixels each, 2*(80-9-9+2)/(71+71)
    expected = (4 / 18 + 128 / 142) / 2
    assert s.dice_pooled(INTERSECTION, PREDICTED, TRUTH, [20] * 4) == pytest.approx(expected)


def test_no_image_and_no_positive_are_undefined():
    assert np.isnan(s.dice_per_image([], [], []))
    assert np.isnan(s.dice_positive([], [], []))
    assert np.isnan(s.dice_positive([0, 0], [0, 3], [0, 0]))
    assert np.isnan(s.dice_pooled([], [], [], []))
    assert np.isnan(s.dice_pooled([0], [0], [0], [9]))


@pytest.mark.parametrize("seed", range(4))
def test_values_of_images_with_truth_equal_sklearn(seed):
    predicted, truth = random_masks(seed)
    inter, pred, true = counts_of(predicted, truth)
    dice, iou = s.dice_values(inter, pred, true), s.iou_values(inter, pred, true)
    for i in np.flatnonzero(true):
        assert dice[i] == pytest.approx(f1_score(truth[i].ravel(), predicted[i].ravel()))
        assert iou[i] == pytest.approx(jaccard_score(truth[i].ravel(), predicted[i].ravel()))


def test_pooled_dice_is_sklearns_macro_f1_of_all_pixels_and_not_the_per_image_mean():
    predicted, truth = random_masks(7)
    counts = counts_of(predicted, truth)
    pooled = s.dice_pooled(*counts, np.full(12, 63))
    assert pooled == pytest.approx(f1_score(truth.ravel(), predicted.ravel(), average="macro"))
    assert abs(pooled - s.dice_per_image(*counts)) > 0.05


def test_pooled_dice_of_resamples_is_that_of_the_repeated_images():
    counts = counts_of(*random_masks(8))
    weights = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), size=5)
    found = s.dice_pooled(*(weights * row for row in counts), weights * 63)
    for row, value in zip(weights, found, strict=True):
        again = np.repeat(np.arange(12), row)
        assert value == pytest.approx(s.dice_pooled(*counts[:, again], np.full(12, 63)))


def test_the_mean_of_only_positive_is_over_images_with_ground_truth():
    values = s.only_positive(s.dice_values(INTERSECTION, PREDICTED, TRUTH), TRUTH)
    assert np.isnan(values).tolist() == [False, True, True, False]
    assert mean_of(values)(np.array([[1, 1, 1, 1]]))[0] == s.dice_positive(
        INTERSECTION, PREDICTED, TRUTH
    )


@pytest.mark.parametrize(
    "counts",
    [([3], [2], [4]), ([3], [4], [2]), ([-1], [2], [2]), ([1, 1], [2], [2]), ([0.5], [1.0], [1.0])],
)
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ValueError):
        s.dice_values(*counts)


def test_masks_larger_than_their_images_are_refused():
    with pytest.raises(ValueError, match="more pixels"):
        s.dice_pooled([0], [6], [6], [10])


def test_overlap_counts_needs_two_boolean_masks_of_the_same_shape():
    mask = np.ones((2, 3), bool)
    assert s.overlap_counts(mask, ~mask) == (0, 6, 0)
    for other in (mask.astype(int), np.ones((3, 2), bool)):
        with pytest.raises(ValueError, match="boolean"):
            s.overlap_counts(mask, other)
