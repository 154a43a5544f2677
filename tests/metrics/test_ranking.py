"""Metrics of ranked scores: by hand, degenerate, and against scikit-learn on repeated images."""

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    matthews_corrcoef,
    precision_recall_curve,
    roc_auc_score,
)

from g2dbench.errors import BadResult
from g2dbench.metrics import ranking as r
from g2dbench.metrics.labels import ones_weights
from g2dbench.metrics.statistic import evaluate
from g2dbench.metrics.threshold import f1_threshold, mcc_threshold

NAN = float("nan")


def values_of(truth, score, weights=None):
    """Every metric of a whole set, or of its resamples (B,)."""
    weights = ones_weights(len(score)) if weights is None else weights
    return r.RankedScores(truth, score)(weights, set(r.RANKING_METRICS))


def random_finding(rng, images):
    """Labels, some of them unknown, and scores: continuous, tied, constant, or of float32."""
    truth = rng.choice([0, 1, -1, NAN], images, p=[0.5, 0.3, 0.1, 0.1])
    kind = rng.integers(4)
    score = rng.normal(size=images) + np.where(truth == 1, rng.normal(), 0)
    if kind == 0:
        score = np.round(score * 2)
    if kind == 1:
        score = score.astype(np.float32)
    if kind == 2 and rng.random() < 0.3:
        score = np.full(images, 0.5)
    return truth, score


def sklearn_values(truth, score):
    """The same metrics of labeled images by scikit-learn and a loop over all thresholds."""
    cuts = np.unique(score)
    both = truth.min() < truth.max()
    decisions = [(score >= cut).astype(int) for cut in cuts]
    f1 = np.array([2 * (truth * d).sum() / (truth + d).sum() for d in decisions])
    mcc = np.array([_mcc(truth, d) for d in decisions])
    lowest_f1 = cuts[np.flatnonzero(f1 >= f1.max() - 1e-12)[0]]
    at_mcc = np.flatnonzero(mcc >= mcc.max() - 1e-12)[0]
    return {
        "auc": roc_auc_score(truth, score) if both else NAN,
        "ap": average_precision_score(truth, score),
        "oracle_f1": f1.max(),
        "oracle_mcc": mcc.max() if both else NAN,
        "oracle_acc_medklip": ((score > lowest_f1) == (truth == 1)).mean(),
        "oracle_f1_kad": f1[at_mcc] if both else NAN,
        "oracle_acc_kad": (decisions[at_mcc] == truth).mean() if both else NAN,
    }


def _mcc(truth, decision):
    hits, alarms = (truth * decision).sum(), ((1 - truth) * decision).sum()
    missed, rejected = (truth * (1 - decision)).sum(), ((1 - truth) * (1 - decision)).sum()
    margins = (hits + alarms) * (hits + missed) * (rejected + alarms) * (rejected + missed)
    return (hits * rejected - alarms * missed) / np.sqrt(margins) if margins else 0.0


def test_every_metric_worked_by_hand():
    # by decreasing score: present, absent, present, absent
    found = values_of([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1])
    assert found["auc"] == [3 / 4]
    assert found["ap"] == pytest.approx([(1 + 2 / 3) / 2])
    assert found["oracle_f1"] == [4 / 5]  # at .7: 2 true positives, 1 false one
    assert found["oracle_acc_medklip"] == [2 / 4]  # above .7: .9 right, .8 wrong; else: .7 wrong
    assert found["oracle_mcc"] == pytest.approx([2 / np.sqrt(12)])  # at .9 and at .7
    assert found["oracle_f1_kad"] == [4 / 5]
    assert found["oracle_acc_kad"] == [3 / 4]


def test_ties_of_both_classes_count_one_half_and_share_a_threshold():
    found = values_of([1, 0, 1, 0], [0.5, 0.5, 0.5, 0.5])
    assert found["auc"] == [0.5]
    assert found["ap"] == [0.5]
    assert found["oracle_f1"] == [2 / 3]
    assert found["oracle_mcc"] == [0]
    assert found["oracle_acc_medklip"] == [0.5]  # nothing is above the only threshold


def test_an_inverted_score_has_auc_0_and_no_negative_best_correlation():
    found = values_of([0, 0, 1], [0.9, 0.8, 0.1])
    assert found["auc"] == found["oracle_mcc"] == [0]
    assert found["ap"] == [1 / 3]


@pytest.mark.parametrize("truth", [[0, 0, 0], [-1, NAN, 0], [NAN, NAN, -1]])
def test_without_a_positive_image_everything_is_undefined(truth):
    assert np.isnan(list(values_of(truth, [0.1, 0.2, 0.3]).values())).all()


def test_with_positive_images_only_what_needs_no_negative_is_defined():
    found = values_of([1, 1], [0.1, 0.2])
    assert found["ap"] == found["oracle_f1"] == [1]
    assert found["oracle_acc_medklip"] == [0.5]  # the image on the threshold is negative
    assert np.isnan(
        [found[name] for name in ("auc", "oracle_mcc", "oracle_f1_kad", "oracle_acc_kad")]
    ).all()


def test_no_image_and_no_resample():
    assert np.isnan(list(values_of([], []).values())).all()
    none = values_of([1, 0], [0.2, 0.1], np.zeros((0, 2), int))
    assert {value.shape for value in none.values()} == {(0,)}


def test_five_hundred_random_findings_equal_sklearn():
    rng = np.random.default_rng(0)
    for _ in range(500):
        truth, score = random_finding(rng, int(rng.integers(3, 14)))
        known = truth >= 0
        found = values_of(truth, score)
        if (truth == 1).any():
            expected = sklearn_values(truth[known], score[known].astype(np.float64))
            for name, value in expected.items():
                assert found[name][0] == pytest.approx(value, abs=1e-12, nan_ok=True), name


def test_a_resample_is_the_set_of_the_repeated_images():
    rng = np.random.default_rng(1)
    for _ in range(20):
        truth, score = random_finding(rng, 25)
        weights = rng.multinomial(25, np.full(25, 1 / 25), size=20)
        found = values_of(truth, score, weights)
        for b, row in enumerate(weights):
            again = np.repeat(np.arange(25), row)
            alone = values_of(truth[again], score[again])
            for name, values in found.items():
                assert values[b] == pytest.approx(alone[name][0], abs=1e-12, nan_ok=True), name


def test_blocks_of_resamples_give_the_same_numbers(monkeypatch):
    rng = np.random.default_rng(2)
    truth, score = random_finding(rng, 80)
    weights = rng.integers(0, 4, (33, 80))
    whole = values_of(truth, score, weights)
    monkeypatch.setattr(r, "_MAX_ELEMENTS", 100)
    blocks = values_of(truth, score, np.asfortranarray(weights))
    assert all(np.array_equal(whole[name], blocks[name]) for name in whole)


def test_medklips_threshold_is_that_of_its_precision_recall_curve():
    rng = np.random.default_rng(3)
    truth, score = rng.integers(0, 2, 400), rng.integers(0, 60, 400) / 60
    precision, recall, cuts = precision_recall_curve(truth, score)
    best = cuts[np.argmax(2 * precision * recall / np.maximum(precision + recall, 1e-9))]
    expected = ((score > best) == (truth == 1)).mean()
    assert values_of(truth, score)["oracle_acc_medklip"] == [expected]
    assert f1_threshold(truth, score) == best


def test_kads_rule_uses_the_threshold_of_the_best_correlation():
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 2, 300)
    score = rng.normal(size=300) + truth
    decision = (score >= mcc_threshold(truth, score)).astype(int)
    found = values_of(truth, score)
    assert found["oracle_f1_kad"] == pytest.approx([f1_score(truth, decision)])
    assert found["oracle_acc_kad"] == [(decision == truth).mean()]
    assert found["oracle_mcc"] == pytest.approx([matthews_corrcoef(truth, decision)])


def test_statistics_of_one_class_are_undefined_and_others_are_the_metrics():
    weights = np.array([[1, 1, 1], [2, 0, 1]])
    for statistic in r.ranking_statistics([1, 1, -1], [0.1, 0.2, 0.3]).values():
        assert np.isnan(statistic(weights)).all()
    statistics = r.ranking_statistics([1, 0, 1], [0.3, 0.2, 0.1])
    together = evaluate(list(statistics.values()), weights)
    for (name, statistic), values in zip(statistics.items(), together, strict=True):
        assert np.array_equal(statistic(weights), values, equal_nan=True), name
        expected = r.RankedScores([1, 0, 1], [0.3, 0.2, 0.1]).value(name, weights)
        assert np.array_equal(values, expected, equal_nan=True), name


def test_a_score_that_is_no_number_is_reported():
    for bad in (NAN, np.inf):
        with pytest.raises(BadResult, match=f"row 1 is {bad}"):
            r.RankedScores([1, 0], [0.1, bad])
