"""Thresholds chosen from labels: by hand, degenerate, and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import (
    balanced_accuracy_score,
    f1_score,
    matthews_corrcoef,
    precision_recall_curve,
)

from g2dbench.metrics import threshold as t
from g2dbench.metrics.classification import f1_at, ones_weights

TRUTH = [1, 0, 1, 0]
SCORE = [0.9, 0.8, 0.7, 0.1]


def best_by_brute_force(truth, score, measure):
    """Best value and lowest threshold reaching it, trying every score as threshold."""
    tried = {cut: measure(truth, (score >= cut).astype(int)) for cut in np.unique(score)}
    best = max(tried.values())
    return best, min(cut for cut, value in tried.items() if value >= best - 1e-12)


def test_oracle_f1_worked_by_hand():
    # at .9: 2/3; at .8: 1/2; at .7: 4/5; at .1: 2/3
    assert t.oracle_f1(TRUTH, SCORE) == pytest.approx(0.8)
    assert t.f1_threshold(TRUTH, SCORE) == 0.7


def test_oracle_mcc_worked_by_hand():
    # at .9 and at .7: 2 / sqrt(12); at .8: 0; at .1: 0. The lower of two equals is taken.
    assert t.oracle_mcc(TRUTH, SCORE) == pytest.approx(2 / np.sqrt(12))
    assert t.mcc_threshold(TRUTH, SCORE) == 0.7


def test_the_best_f1_of_a_constant_score_predicts_all_positive():
    assert t.oracle_f1([1, 0, 0], [0.5, 0.5, 0.5]) == pytest.approx(0.5)
    assert t.oracle_mcc([1, 0, 0], [0.1, 0.5, 0.5]) == 0.0


@pytest.mark.parametrize("truth", [[0, 0], [-1, 0], []])
def test_without_positives_every_value_is_undefined(truth):
    score = [0.1, 0.2][: len(truth)]
    for function in (t.oracle_f1, t.oracle_mcc, t.f1_threshold, t.mcc_threshold):
        assert np.isnan(function(truth, score))


def test_with_only_positives_the_correlation_is_undefined_but_not_f1():
    assert np.isnan(t.oracle_mcc([1, 1], [0.1, 0.2]))
    assert np.isnan(t.mcc_threshold([1, 1], [0.1, 0.2]))
    assert t.oracle_f1([1, 1], [0.1, 0.2]) == 1.0
    assert t.f1_threshold([1, 1], [0.1, 0.2]) == 0.1


@pytest.mark.parametrize("seed", range(6))
def test_best_values_and_thresholds_equal_brute_force_with_sklearn(seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, 80)
    score = rng.integers(0, 9, 80) / 8 if seed % 2 else rng.normal(size=80) + truth
    best, cut = best_by_brute_force(truth, score, f1_score)
    assert t.oracle_f1(truth, score) == pytest.approx(best, abs=1e-12)
    assert t.f1_threshold(truth, score) == cut
    assert f1_at(truth, score, cut) == pytest.approx(best, abs=1e-12)
    best, cut = best_by_brute_force(truth, score, matthews_corrcoef)
    assert t.oracle_mcc(truth, score) == pytest.approx(best, abs=1e-12)
    assert matthews_corrcoef(truth, score >= t.mcc_threshold(truth, score)) == pytest.approx(best)


def test_oracle_f1_equals_medklips_maximum_over_the_precision_recall_curve():
    rng = np.random.default_rng(9)
    truth, score = rng.integers(0, 2, 300), rng.integers(0, 50, 300) / 50
    precision, recall, thresholds = precision_recall_curve(truth, score)
    top, bottom = 2 * precision * recall, precision + recall
    curve = np.divide(top, bottom, out=np.zeros_like(bottom), where=bottom != 0)
    assert t.oracle_f1(truth, score) == pytest.approx(curve.max(), abs=1e-12)
    assert t.f1_threshold(truth, score) == thresholds[np.argmax(curve)]


@pytest.mark.parametrize(
    ("weighted", "single"),
    [(t.weighted_oracle_f1, t.oracle_f1), (t.weighted_oracle_mcc, t.oracle_mcc)],
)
def test_every_resample_chooses_its_own_threshold(weighted, single):
    rng = np.random.default_rng(2)
    truth, score = rng.choice([0, 1, -1], 30), rng.integers(0, 9, 30)
    weights = rng.multinomial(30, np.full(30, 1 / 30), size=40)
    found = weighted(truth, score, weights)
    for row, value in zip(weights, found, strict=True):
        again = np.repeat(np.arange(30), row)
        assert value == pytest.approx(single(truth[again], score[again]), abs=1e-12, nan_ok=True)
    assert weighted(truth, score, ones_weights(30))[0] == single(truth, score)


def test_the_correlation_is_right_for_counts_whose_product_overflows():
    many = np.array([[10**6, 10**6, 10**6, 10**6]])
    found = t.weighted_oracle_mcc(TRUTH, SCORE, many)
    assert found[0] == pytest.approx(2 / np.sqrt(12))


def test_youdens_threshold_by_hand_degenerate_and_by_brute_force():
    # at .9 and at .7 sensitivity + specificity is 1.5; the lower of two equals is taken
    assert t.youden_threshold(TRUTH, SCORE) == 0.7
    assert np.isnan([t.youden_threshold([1, 1], [0.1, 0.2]), t.youden_threshold([], [])]).all()
    rng = np.random.default_rng(0)
    for seed in range(20):
        truth = rng.permutation(np.arange(30) % 3 == 0).astype(int)
        score = rng.integers(0, 9, 30) / 8 if seed % 2 else rng.normal(size=30) + truth
        _, cut = best_by_brute_force(truth, score, balanced_accuracy_score)
        assert t.youden_threshold(truth, score) == cut
