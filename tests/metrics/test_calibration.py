"""Calibration: by hand, degenerate, and against scikit-learn."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
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


def test_a_resample_is_the_set_of_the_repeated_images():
    rng = np.random.default_rng(0)
    truth, probability = rng.choice([0, 1, -1], 40), rng.integers(0, 31, 40) / 30
    weights = rng.multinomial(40, np.full(40, 1 / 40), size=1000)
    weights[0] = 0
    found = {n: f(weights) for n, f in c.CalibrationSums(truth, probability).statistics().items()}
    for b, row in enumerate(weights):
        again = np.repeat(np.arange(40), row)
        expected = c.ece(truth[again], probability[again])
        assert found["ece"][b] == pytest.approx(expected, abs=1e-12, nan_ok=True)
        expected = c.brier_score(truth[again], probability[again])
        assert found["brier"][b] == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_a_known_temperature_is_found_and_calibrates():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, 20_000)
    truth = (rng.random(20_000) < expit(logits)).astype(int)
    overconfident = expit(3 * logits)
    temperature = c.fit_temperature(truth, overconfident)
    assert temperature == pytest.approx(3, rel=0.05)
    assert c.ece(truth, overconfident) > 0.05
    assert c.ece(truth, c.apply_temperature(overconfident, temperature)) < 0.015


@pytest.mark.parametrize("seed", range(5))
def test_the_temperature_is_that_of_a_logistic_regression_without_intercept(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, 200)
    truth = (rng.random(200) < expit(logits / 2)).astype(int)
    fit = LogisticRegression(C=1e12, fit_intercept=False, tol=1e-12).fit(logits[:, None], truth)
    assert c.fit_temperature(truth, expit(logits)) == pytest.approx(1 / fit.coef_[0, 0], rel=1e-4)
    two = np.stack([np.zeros(200), logits], axis=1)
    expected = c.fit_temperature(truth, expit(logits))
    assert c.fit_class_temperature(truth, two) == pytest.approx(expected, rel=1e-6)


def test_temperatures_at_the_limits_and_undefined_ones():
    low, high = c.TEMPERATURES
    assert c.fit_temperature([0, 1], [0.4, 0.6]) == pytest.approx(low, rel=1e-3)
    assert c.fit_temperature([1, 0], [0.4, 0.6]) == pytest.approx(high, rel=1e-3)
    assert np.isnan(
        [c.fit_temperature([1, 1, -1], [0.4, 0.6, 0.1]), c.fit_temperature([], [])]
    ).all()
    assert np.isnan(c.fit_class_temperature([-1], [[0.1, 0.2]]))
    assert c.apply_temperature([0.0, 0.5, 1.0], 2).tolist() == pytest.approx([1e-6, 0.5, 1 - 1e-6])


def test_the_top_class_of_classes_that_exclude_each_other():
    right, confidence = c.top_class([0, 1, 2, -1], [[0.5, 0.3, 0.2], [0.6, 0.3, 0.1], [0, 0, 1.0],
                                                    [0.2, 0.7, 0.1]])  # fmt: skip
    assert np.array_equal(right, [1, 0, 1, np.nan], equal_nan=True)
    assert confidence.tolist() == [0.5, 0.6, 1.0, 0.7]
    # .5 is in the lower bin and right; .6, wrong, and 1.0, right, share the upper one
    assert c.ece(right, confidence, bins=2) == pytest.approx((0.5 + abs(1.6 - 1)) / 3)
    scores = softmax(np.random.default_rng(0).normal(size=(50, 3)), axis=1)
    assert c.top_class(scores.argmax(axis=1), scores)[0].all()


@pytest.mark.parametrize(
    ("truth", "score", "words"),
    [
        ([0, 3], [[0.5, 0.5], [0.5, 0.5]], "from 0 to 1"),
        ([0], [[0.5, 0.4]], "sum to 1"),
        ([0], [[np.nan, 0.4]], "row 0"),
        ([0, 1], [[0.5, 0.5]], "do not fit"),
    ],
)
def test_broken_class_scores_are_refused(truth, score, words):
    with pytest.raises(ValueError, match=words):
        c.top_class(truth, score)
