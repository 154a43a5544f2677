"""Grounding: by hand, degenerate, and against a plain loop and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from g2dbench.metrics import grounding as g

NAN = float("nan")
TRUTH = np.array([[True, True, False], [False, False, False]])
MAP = np.array([[0.9, 0.2, 0.5], [0.1, 0.5, NAN]])


def test_overlap_worked_by_hand():
    found = g.overlap_at(MAP, TRUTH, [0.1, 0.2, 0.5, 0.9])
    assert found.intersection.tolist() == [2, 1, 1, 0]
    assert found.predicted.tolist() == [4, 3, 1, 0]
    assert found.truth == 2
    assert g.iou(found).tolist() == [2 / 4, 1 / 4, 1 / 2, 0]
    assert g.dice(found).tolist() == [4 / 6, 2 / 5, 2 / 3, 0]
    assert g.recall(found).tolist() == [1, 1 / 2, 1 / 2, 0]
    assert g.precision(found).tolist() == [1 / 2, 1 / 3, 1, 0]


def test_without_ground_truth_every_measure_is_undefined():
    nothing = np.zeros((2, 3), bool)
    found = g.overlap_at(MAP, nothing, [0.1, 0.5])
    for measure in (g.iou, g.dice, g.recall, g.precision):
        assert np.isnan(measure(found)).all()
    assert np.isnan(g.pointing_game(MAP, nothing))
    assert np.isnan(g.cnr(MAP, nothing))


def test_pixels_outside_the_crop_are_not_predicted_but_count_as_ground_truth():
    found = g.overlap_at(np.full((2, 3), NAN), TRUTH, [0.1])
    assert found.intersection.tolist() == found.predicted.tolist() == [0]
    assert found.truth == 2
    assert g.recall(found).tolist() == g.precision(found).tolist() == [0]
    half = np.array([[0.9, NAN, 0.0], [0.0, 0.0, 0.0]])
    assert g.recall(g.overlap_at(half, TRUTH, [0.5])).tolist() == [0.5]
    assert g.pointing_game(np.full((2, 3), NAN), TRUTH) == 0.0
    assert np.isnan(g.cnr(np.full((2, 3), NAN), TRUTH))


@pytest.mark.parametrize("seed", range(3))
def test_overlap_measures_equal_sklearn_on_random_maps_with_ties(seed):
    rng = np.random.default_rng(seed)
    values, truth = rng.integers(0, 11, (13, 9)) / 10, rng.random((13, 9)) < 0.3
    cuts = [0.0, 0.25, 0.3, 0.7, 0.95]
    found = g.overlap_at(values, truth, cuts)
    pairs = ((g.iou, jaccard_score), (g.dice, f1_score), (g.recall, recall_score))
    for measure, reference in (*pairs, (g.precision, precision_score)):
        expected = [reference(truth.ravel(), (values > cut).ravel()) for cut in cuts]
        assert measure(found) == pytest.approx(expected, abs=1e-12)


def test_pointing_game_by_hand_and_ties_favor_the_model():
    assert g.pointing_game(MAP, TRUTH) == 1.0
    assert g.pointing_game(-MAP, TRUTH) == 0.0
    assert g.pointing_game(np.zeros((2, 3)), TRUTH) == 1.0


def test_cnr_worked_by_hand():
    # inside .9 .2: mean .55, variance .1225; outside .5 .1 .5: mean .3667, variance .03556
    expected = (0.55 - 1.1 / 3) / np.sqrt(0.1225 + np.var([0.5, 0.1, 0.5]))
    assert g.cnr(MAP, TRUTH) == pytest.approx(expected)
    assert g.signed_cnr(-MAP, TRUTH) == pytest.approx(-expected)
    assert g.cnr(-MAP, TRUTH) == pytest.approx(expected)


def test_cnr_does_not_change_with_scale_and_offset():
    rng = np.random.default_rng(0)
    values, truth = rng.random((8, 8)), rng.random((8, 8)) < 0.4
    assert g.cnr(values * 7 - 3, truth) == pytest.approx(g.cnr(values, truth))


def test_cnr_of_maps_without_noise():
    assert g.cnr(np.full((2, 3), 0.1), TRUTH) == 0.0
    assert g.signed_cnr(np.where(TRUTH, 0.7, 0.1), TRUTH) == np.inf
    assert g.signed_cnr(np.where(TRUTH, 0.1, 0.7), TRUTH) == -np.inf
    assert np.isnan(g.cnr(MAP, np.ones((2, 3), bool)))


def test_box_mask_covers_half_open_boxes_and_cuts_off_the_outside():
    mask = g.box_mask([(1, 0, 3, 2), (-5, 3, 1, 99)], (4, 5))
    expected = np.zeros((4, 5), bool)
    expected[0:2, 1:3] = True
    expected[3:, 0:1] = True
    assert np.array_equal(mask, expected)
    assert g.box_mask([(0.5, 0.0, 2.0, 1.0)], (1, 3)).tolist() == [[False, True, False]]
    assert not g.box_mask([], (2, 2)).any()
    assert not g.box_mask([(-9, -9, -1, -1)], (2, 2)).any()
    with pytest.raises(ValueError, match="not finite"):
        g.box_mask([(0, 0, NAN, 1)], (2, 2))


@pytest.mark.parametrize(
    ("values", "truth"),
    [
        (np.zeros((2, 2)), TRUTH),
        (np.zeros((2, 3)), TRUTH.astype(int)),
        (np.full((2, 3), np.inf), TRUTH),
        (np.zeros(6), TRUTH.ravel()),
    ],
)
def test_maps_and_masks_that_do_not_fit_are_refused(values, truth):
    for measure in (g.pointing_game, g.cnr):
        with pytest.raises(ValueError):
            measure(values, truth)


@pytest.mark.parametrize("cuts", [[0.5, 0.1], [0.1, 0.1], [NAN]])
def test_thresholds_must_increase(cuts):
    with pytest.raises(ValueError, match="increasing"):
        g.overlap_at(MAP, TRUTH, cuts)


def test_the_oracle_takes_one_threshold_for_all_images_with_truth():
    cuts = [0.1, 0.3, 0.6]
    truth = np.array([[True, False]])
    maps = [np.array([[0.5, 0.2]]), np.array([[0.9, 0.7]]), np.array([[0.9, 0.9]])]
    truths = [truth, truth, ~truth & truth]
    overlaps = [g.overlap_at(m, t, cuts) for m, t in zip(maps, truths, strict=True)]
    # IoU of image 0: .5, 1, 0; of image 1: .5, .5, .5; image 2 has no truth
    assert g.oracle_mean(overlaps, g.iou, cuts) == (0.75, 0.3)
    values = np.array([g.iou(overlap) for overlap in overlaps])
    weights = np.array([[1, 1, 1], [0, 1, 1], [0, 0, 3]])
    found = g.weighted_oracle_mean(values, weights)
    assert found[:2].tolist() == [0.75, 0.5]
    assert np.isnan(found[2])


def test_an_oracle_without_truth_is_undefined_and_without_thresholds_refused():
    assert np.isnan(g.oracle_mean([], g.iou, [0.1]).value)
    with pytest.raises(ValueError, match="threshold"):
        g.oracle_mean([], g.iou, [])
