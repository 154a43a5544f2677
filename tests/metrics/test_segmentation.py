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


def overlap_statistics(counts, pixels, weights):
    found = s.OverlapCounts(*counts, pixels).statistics()
    return {name: statistic(weights) for name, statistic in found.items()}


def test_every_convention_worked_by_hand():
    counts = (INTERSECTION, PREDICTED, TRUTH)
    found = overlap_statistics(counts, [20] * 4, np.ones((1, 4), int))
    assert tuple(found) == s.OVERLAP_METRICS
    assert found["dice_per_image"] == pytest.approx([(4 / 7 + 1) / 4])
    assert found["iou_per_image"] == pytest.approx([(2 / 5 + 1) / 4])
    assert found["dice_positive"] == pytest.approx([4 / 7 / 2])
    assert found["iou_positive"] == pytest.approx([2 / 5 / 2])
    assert found["dice_foreground"] == pytest.approx([4 / 18])
    assert found["iou_foreground"] == pytest.approx([2 / 16])
    assert found["dice_pooled"] == pytest.approx([float(s.dice_pooled(*counts, [20] * 4))])
    assert found["iou_pooled"] == pytest.approx([(2 / 16 + 64 / 78) / 2])
    assert found["dice_smoothed"] == pytest.approx([(5 / 8 + 1 + 1 / 6 + 1 / 7) / 4])
    assert found["iou_smoothed"] == pytest.approx([(3 / 6 + 1 + 1 / 6 + 1 / 7) / 4])


def test_every_convention_equals_sklearn_on_the_pixels_of_a_thousand_resamples():
    rng = np.random.default_rng(3)
    predicted, truth = random_masks(3, images=8, size=(4, 4))
    weights = rng.multinomial(8, np.full(8, 1 / 8), size=1000)
    found = overlap_statistics(counts_of(predicted, truth), np.full(8, 16), weights)
    for b in rng.choice(1000, 60, replace=False):
        again = np.repeat(np.arange(8), weights[b])
        pixels = truth[again].ravel(), predicted[again].ravel()
        expected = {
            "dice_foreground": f1_score(*pixels, zero_division=np.nan),
            "iou_foreground": jaccard_score(*pixels, zero_division=0),
            "dice_pooled": f1_score(*pixels, average="macro"),
            "iou_pooled": jaccard_score(*pixels, average="macro"),
        }
        for name, value in expected.items():
            assert found[name][b] == pytest.approx(value, abs=1e-12), name
    inter, pred, true = counts_of(predicted, truth)
    for b, row in enumerate(weights):
        again = np.repeat(np.arange(8), row)
        counts = inter[again], pred[again], true[again]
        expected = {
            "dice_per_image": s.dice_per_image(*counts),
            "dice_positive": s.dice_positive(*counts),
            "dice_pooled": s.dice_pooled(*counts, np.full(8, 16)),
            "iou_per_image": s.iou_values(*counts).mean(),
            "dice_smoothed": ((2 * counts[0] + 1) / (counts[1] + counts[2] + 1)).mean(),
            "iou_smoothed": s.iou_smoothed_values(*counts).mean(),
        }
        for name, value in expected.items():
            assert found[name][b] == pytest.approx(value, abs=1e-12, nan_ok=True), name


def test_images_without_annotation_are_excluded():
    counts = [[*values, np.nan] for values in (INTERSECTION, PREDICTED, TRUTH)]
    weights = np.array([[1, 1, 1, 1, 3]])
    whole = overlap_statistics(counts, [20, 20, 20, 20, np.nan], weights)
    without = overlap_statistics((INTERSECTION, PREDICTED, TRUTH), [20] * 4, weights[:, :4])
    assert [float(v[0]) for v in whole.values()] == [float(v[0]) for v in without.values()]
    none = overlap_statistics([[np.nan]] * 3, [np.nan], np.array([[1]]))
    assert np.isnan(list(none.values())).all()


def test_impossible_counts_of_a_set_are_refused():
    for counts, words in (
        (([0], [6], [6], [10]), "more pixels"),
        (([0.5], [1], [1], [9]), "whole"),
        (([np.nan], [1], [1], [9]), "whole"),
        (([0], [1], [1], [np.nan]), "whole"),
    ):
        with pytest.raises(ValueError, match=words):
            s.OverlapCounts(*counts)


def test_strata_by_area_have_an_exclusive_lower_limit():
    values, shares = [0.1, 0.2, 0.3, 0.4], [0.0, 0.01, 0.011, 0.9]
    found = {
        name: np.flatnonzero(~np.isnan(s.only_areas(values, shares, limits))).tolist()
        for name, limits in s.AREA_SHARES.items()
    }
    assert found == {"small": [1], "medium": [2], "large": [3]}
