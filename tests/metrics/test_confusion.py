"""Metrics of decisions: by hand, degenerate, and against scikit-learn on repeated images."""

import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from g2dbench.errors import BadResult
from g2dbench.metrics import confusion as c
from g2dbench.metrics.labels import ones_weights

NAN = float("nan")
SKLEARN = {
    "f1": lambda t, d: sk.f1_score(t, d, zero_division=np.nan),
    "acc": sk.accuracy_score,
    "sensitivity": lambda t, d: sk.recall_score(t, d, zero_division=np.nan),
    "specificity": lambda t, d: sk.recall_score(t, d, pos_label=0, zero_division=np.nan),
    "precision": lambda t, d: sk.precision_score(t, d, zero_division=np.nan),
    "npv": lambda t, d: sk.precision_score(t, d, pos_label=0, zero_division=np.nan),
    "mcc": lambda t, d: sk.matthews_corrcoef(t, d) if len(set(t)) == 2 else NAN,
    "balanced_acc": lambda t, d: sk.balanced_accuracy_score(t, d) if len(set(t)) == 2 else NAN,
}


def decided(truth, decision, weights=None):
    weights = ones_weights(len(truth)) if weights is None else weights
    return c.DecisionCounts(truth, decision)(weights, set(c.DECISION_METRICS))


def classes(truth, predicted, count, weights=None):
    weights = ones_weights(len(truth)) if weights is None else weights
    return c.ClassCounts(truth, predicted, count)(weights, set(c.CLASS_METRICS))


def test_decisions_worked_by_hand():
    # 2 true and 1 false positives, 1 missed, 4 rejected; one image is not labeled
    found = decided([1, 1, 0, 1, 0, 0, 0, 0, -1], [1, 1, 1, 0, 0, 0, 0, 0, 1])
    assert found["f1"] == [4 / 6]
    assert found["acc"] == [6 / 8]
    assert found["sensitivity"] == found["precision"] == [2 / 3]
    assert found["specificity"] == found["npv"] == [4 / 5]
    assert found["balanced_acc"] == pytest.approx([(2 / 3 + 4 / 5) / 2])
    assert found["mcc"] == pytest.approx([(2 * 4 - 1 * 1) / np.sqrt(3 * 3 * 5 * 5)])


def test_decisions_of_one_class_or_one_answer():
    present = decided([1, 1], [1, 0])
    assert present["sensitivity"] == present["acc"] == [0.5]
    assert np.isnan([present[n] for n in ("mcc", "balanced_acc", "specificity")]).all()
    never = decided([1, 0], [0, 0])
    assert never["mcc"] == never["f1"] == [0]
    assert np.isnan(never["precision"])
    assert np.isnan(list(decided([], []).values())).all()
    assert np.isnan(c.decision_statistics([1, 1], [1, 0])["acc"](ones_weights(2)))


def test_hundreds_of_random_decisions_equal_sklearn():
    rng = np.random.default_rng(0)
    truth, decision = rng.integers(0, 2, (2, 9))
    weights = rng.multinomial(9, np.full(9, 1 / 9), size=60)
    found = decided(truth, decision, weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for b, row in enumerate(weights):
            again = np.repeat(np.arange(9), row)
            for name, reference in SKLEARN.items():
                expected = reference(truth[again], decision[again])
                assert found[name][b] == pytest.approx(expected, abs=1e-12, nan_ok=True), name


def test_scores_and_missing_decisions_are_refused():
    with pytest.raises(ValueError, match="binarize"):
        c.DecisionCounts([1, 0], [0.7, 0.2])
    with pytest.raises(BadResult, match="row 1 is nan"):
        c.DecisionCounts([1, 0], [1, NAN])
    with pytest.raises(ValueError, match="weights"):
        c.DecisionCounts([1, 0], [1, 0]).value("f1", np.ones((1, 3), int))


def test_classes_worked_by_hand():
    # class 0: 1 of 2 found; 1: 1 of 1; 2: 0 of 1, never predicted. The last is not labeled.
    found = classes([0, 0, 1, 2, -1], [0, 1, 1, 1, 2], 3)
    assert found["acc"] == [2 / 4]
    assert found["balanced_acc"] == [(0.5 + 1 + 0) / 3]
    assert found["macro_f1"] == pytest.approx([(2 / 3 + 2 / 4 + 0) / 3])


def test_argmax_is_the_published_accuracy_and_not_that_of_each_class_against_the_others():
    score = np.array([[0.5, 0.3, 0.2], [0.4, 0.35, 0.25], [0.1, 0.2, 0.7]])
    assert c.argmax_class(score).tolist() == [0, 0, 2]
    assert classes([0, 1, 2], c.argmax_class(score), 3)["acc"] == pytest.approx([2 / 3])
    assert c.argmax_class([[0.2, 0.2]]).tolist() == [0]
    assert np.isnan(c.argmax_class([[NAN, NAN]])).all()
    with pytest.raises(BadResult, match="row 1"):
        c.argmax_class([[0.1, 0.2], [0.1, NAN]])
    with pytest.raises(ValueError, match="two or more"):
        c.argmax_class([[0.1], [0.2]])


def test_a_class_without_images_or_predictions_is_not_averaged():
    found = classes([0, 1], [0, 1], 5)
    assert found["balanced_acc"] == found["macro_f1"] == [1]
    resampled = classes([0, 1], [0, 1], 5, np.array([[2, 0]]))
    assert resampled["acc"] == [1]
    assert np.isnan([resampled["balanced_acc"], resampled["macro_f1"]]).all()
    assert np.isnan(list(classes([], [], 3).values())).all()


def test_hundreds_of_random_class_predictions_equal_sklearn():
    rng = np.random.default_rng(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(200):
            truth, predicted = rng.integers(0, 4, (2, int(rng.integers(1, 20))))
            found = classes(truth, predicted, 4)
            assert found["acc"] == pytest.approx(sk.accuracy_score(truth, predicted))
            expected = sk.balanced_accuracy_score(truth, predicted)
            assert found["balanced_acc"] == pytest.approx(expected, abs=1e-12)
            expected = sk.f1_score(truth, predicted, average="macro")
            assert found["macro_f1"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("truth", "predicted", "words"),
    [
        ([0, 3], [0, 1], "true classes"),
        ([0, 0.5], [0, 1], "true classes"),
        ([0, 1], [0, 3], "predicted classes"),
        ([0, 1], [0, NAN], "row 1"),
        ([0, 1], [0], "two lists"),
    ],
)
def test_broken_classes_are_refused(truth, predicted, words):
    with pytest.raises(ValueError, match=words):
        c.ClassCounts(truth, predicted, 3)
