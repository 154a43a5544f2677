"""Calibration: by hand, degenerate, and against scikit-learn."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from g2dbench.metrics import calibration as c


def test_worked_by_hand():
    truth, chance = [0, 1, 1, 1, -1], [0.1, 0.3, 0.9, 0.7, 0.2]
    table = c.reliability(truth, chance, bins=2)
    assert table.images.tolist() == [2, 2]
    assert table.confidence.tolist() == pytest.approx([0.2, 0.8])
    assert table.frequency.tolist() == [0.5, 1.0]
    assert c.ece(truth, chance, bins=2) == pytest.approx(0.5 * 0.3 + 0.5 * 0.2)
    assert c.brier(truth, chance) == pytest.approx((0.01 + 0.49 + 0.01 + 0.09) / 4)


def test_bins_are_closed_above_and_the_first_on_both_sides():
    table = c.reliability([0, 0, 0, 0], [0.0, 0.5, 0.75, 1.0], bins=4)
    assert table.images.tolist() == [1, 1, 1, 1]
    assert table.low.tolist() == [0, 0.25, 0.5, 0.75]
    assert table.high.tolist() == [0.25, 0.5, 0.75, 1]


def test_empty_bins_and_empty_sets_are_undefined():
    table = c.reliability([1], [0.9], bins=3)
    assert np.isnan(table.frequency).tolist() == [True, True, False]
    assert np.isnan(c.ece([], []))
    assert np.isnan(c.brier([-1, np.nan], [0.5, np.nan]))


def test_perfect_and_worst_predictions():
    assert c.ece([1, 0], [1.0, 0.0]) == c.brier([1, 0], [1.0, 0.0]) == 0.0
    assert c.ece([0, 1], [1.0, 0.0]) == c.brier([0, 1], [1.0, 0.0]) == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_table_and_scores_equal_sklearn_on_random_input_with_ties(seed):
    rng = np.random.default_rng(seed)
    truth, chance = rng.integers(0, 2, 400), rng.integers(0, 31, 400) / 30
    table = c.reliability(truth, chance)
    frequency, confidence = calibration_curve(truth, chance, n_bins=c.BINS)
    filled = table.images > 0
    assert table.frequency[filled] == pytest.approx(frequency)
    assert table.confidence[filled] == pytest.approx(confidence)
    share = table.images[filled] / 400
    assert c.ece(truth, chance) == pytest.approx((share * abs(frequency - confidence)).sum())
    assert c.brier(truth, chance) == pytest.approx(brier_score_loss(truth, chance))


@pytest.mark.parametrize("chance", [[1.1], [-0.1], [np.nan]])
def test_what_is_no_probability_is_refused(chance):
    for function in (c.ece, c.brier, c.reliability):
        with pytest.raises(ValueError):
            function([1], chance)


def test_a_table_without_bins_is_refused():
    with pytest.raises(ValueError, match="at least 1 bin"):
        c.reliability([1], [0.5], bins=0)
