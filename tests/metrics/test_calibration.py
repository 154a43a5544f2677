"""Calibration: by hand, degenerate, and against scikit-learn."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from g2dbench.metrics import calibration as c


def test_worked_by_hand():
    truth, probability = [0, 1, 1, 1, -1], [0.1, 0.3, 0.9, 0.7, 0.2]
    table = c.reliability_table(truth, probability, bins=2)
    assert table.images.tolist() == [2, 2]
    assert table.confidence.tolist() == pytest.approx([0.2, 0.8])
    assert table.frequency.tolist() == [0.5, 1.0]
    assert c.ece(truth, probability, bins=2) == pytest.approx(0.5 * 0.3 + 0.5 * 0.2)
    assert c.brier_score(truth, probability) == pytest.approx((0.01 + 0.49 + 0.01 + 0.09) / 4)


def test_bins_include_the_upper_edge_and_the_first_bin_both_edges():
    table = c.reliability_table([0, 0, 0, 0], [0.0, 0.5, 0.75, 1.0], bins=4)
    assert table.images.tolist() == [1, 1, 1, 1]
    assert table.low.tolist() == [0, 0.25, 0.5, 0.75]
    assert table.high.tolist() == [0.25, 0.5, 0.75, 1]


def test_empty_bins_and_empty_sets_are_undefined():
    table = c.reliability_table([1], [0.9], bins=3)
    assert np.isnan(table.frequency).tolist() == [True, True, False]
    assert np.isnan(c.ece([], []))
    assert np.isnan(c.brier_score([-1, np.nan], [0.5, np.nan]))


def test_perfect_and_worst_predictions():
    assert c.ece([1, 0], [1.0, 0.0]) == c.brier_score([1, 0], [1.0, 0.0]) == 0.0
    assert c.ece([0, 1], [1.0, 0.0]) == c.brier_score([0, 1], [1.0, 0.0]) == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_table_and_scores_equal_sklearn_on_random_input_with_ties(seed):
    rng = np.random.default_rng(seed)
    truth, probability = rng.integers(0, 2, 400), rng.integers(0, 31, 400) / 30
    table = c.reliability_table(truth, probability)
    frequency, confidence = calibration_curve(truth, probability, n_bins=c.BINS)
    not_empty = table.images > 0
    assert table.frequency[not_empty] == pytest.approx(frequency)
    assert table.confidence[not_empty] == pytest.approx(confidence)
    share = table.images[not_empty] / 400
    assert c.ece(truth, probability) == pytest.approx((share * abs(frequency - confidence)).sum())
    assert c.brier_score(truth, probability) == pytest.approx(brier_score_loss(truth, probability))


@pytest.mark.parametrize("probability", [[1.1], [-0.1], [np.nan]])
def test_values_that_are_not_probabilities_are_refused(probability):
    for function in (c.ece, c.brier_score, c.reliability_table):
        with pytest.raises(ValueError):
            function([1], probability)


def test_a_table_without_bins_is_refused():
    with pytest.raises(ValueError, match="at least 1 bin"):
        c.reliability_table([1], [0.5], bins=0)
