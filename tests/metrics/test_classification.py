"""Classification metrics by hand, degenerate, and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from g2dbench.metrics import classification as c

NAN = float("nan")


def resamples_of(rng, resamples, count):
    return rng.multinomial(count, np.full(count, 1 / count), size=resamples)


def tied_scores(rng, count):
    return rng.integers(0, 7, count) / 7


def test_auc_worked_by_hand():
    # pairs (present, absent): .9>.1, .9>.5, .5>.1, .5=.5 -> 3.5 of 4
    assert c.auc([1, 1, 0, 0], [0.9, 0.5, 0.5, 0.1]) == 3.5 / 4
    assert c.auc([1, 0], [0.2, 0.8]) == 0.0
    assert c.auc([1, 0, 1, 0], [0.3] * 4) == 0.5


@pytest.mark.parametrize("truth", [[1, 1, 1], [0, 0, 0], [-1, 1, 1], [NAN, 0, 0], [NAN, -1, NAN]])
def test_auc_of_one_class_is_undefined(truth):
    assert np.isnan(c.auc(truth, [0.1, 0.2, 0.3]))


def test_auc_of_no_image_is_undefined():
    assert np.isnan(c.auc([], []))


def test_uncertain_and_missing_labels_are_excluded_even_without_a_score():
    assert c.auc([1, 0, -1, NAN], [0.9, 0.1, 0.0, NAN]) == 1.0


@pytest.mark.parametrize(
    ("truth", "score", "words"),
    [
        ([1, 2], [0.1, 0.2], "found 2"),
        ([1, 0.5], [0.1, 0.2], "found 0.5"),
        ([1, 0], [0.1, NAN], "row 1"),
        ([1, 0], [np.inf, 0.1], "row 0"),
        ([1, 0, 1], [0.1, 0.2], "equally long"),
    ],
)
def test_broken_input_is_refused_with_the_reason(truth, score, words):
    with pytest.raises(ValueError, match=words):
        c.auc(truth, score)


@pytest.mark.parametrize("seed", range(5))
def test_auc_equals_sklearn_with_and_without_ties(seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, 200)
    for score in (rng.normal(size=200), tied_scores(rng, 200), rng.random(200).astype(np.float32)):
        assert c.auc(truth, score) == pytest.approx(roc_auc_score(truth, score), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_weighted_auc_is_the_auc_of_the_repeated_images(seed):
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 0, 0, 1, -1], 60)
    score = tied_scores(rng, 60) if seed % 2 else rng.normal(size=60)
    weights = resamples_of(rng, 30, 60)
    found = c.weighted_auc(truth, score, weights)
    for b, row in enumerate(weights):
        again = np.repeat(np.arange(60), row)
        again = again[truth[again] >= 0]
        assert found[b] == pytest.approx(roc_auc_score(truth[again], score[again]), abs=1e-12)


def test_weighted_auc_is_undefined_only_in_the_resamples_without_a_class():
    weights = np.array([[1, 1, 1], [0, 2, 1], [2, 1, 0], [0, 0, 0]])
    assert np.array_equal(
        c.weighted_auc([1, 0, 0], [0.5, 0.1, 0.9], weights), [0.5, NAN, 1.0, NAN], equal_nan=True
    )


@pytest.mark.parametrize(
    "weights", [np.ones((2, 2), int), np.ones((2, 3)), np.array([[1, -1, 1]]), np.ones(3, int)]
)
def test_weights_that_are_not_multiplicities_are_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        c.weighted_auc([1, 0, 0], [0.5, 0.1, 0.9], weights)


def test_macro_auc_excludes_and_lists_undefined_classes():
    truth = np.array([[1, 1, 1], [0, 1, -1], [1, 1, 0], [0, 1, NAN]])
    score = np.array([[0.9, 0.1, 0.2], [0.8, 0.2, 0.5], [0.7, 0.3, 0.6], [0.1, 0.4, 0.9]])
    found = c.macro_auc(truth, score)
    assert found.undefined == (1,)
    assert found.per_class[[0, 2]].tolist() == [0.75, 0.0]
    assert found.value == 0.375


def test_macro_auc_without_any_defined_class_is_undefined():
    found = c.macro_auc(np.ones((3, 2)), np.ones((3, 2)))
    assert np.isnan(found.value)
    assert found.undefined == (0, 1)
    assert np.isnan(c.weighted_macro_auc(np.ones((3, 2)), np.ones((3, 2)), c.ones_weights(3))).all()


def test_a_class_undefined_on_the_whole_set_does_not_make_resamples_undefined():
    truth = np.array([[1, 0, 0], [0, 0, 1], [1, 0, 1]])
    score = np.array([[0.5, 0.1, 0.3], [0.5, 0.2, 0.2], [0.9, 0.3, 0.4]])
    found = c.weighted_macro_auc(truth, score, np.array([[1, 1, 1], [1, 3, 2]]))
    assert found[0] == pytest.approx(c.macro_auc(truth, score).value)
    assert found[1] == pytest.approx((2.5 / 3 + 2 / 5) / 2)


def test_macro_auc_equals_sklearn_macro():
    rng = np.random.default_rng(3)
    truth, score = rng.integers(0, 2, (90, 5)), rng.integers(0, 20, (90, 5))
    expected = roc_auc_score(truth, score, average="macro")
    assert c.macro_auc(truth, score).value == pytest.approx(expected, abs=1e-12)
    weighted = c.weighted_macro_auc(truth, score, c.ones_weights(90))
    assert weighted[0] == pytest.approx(expected, abs=1e-12)


def test_a_resample_without_one_class_is_undefined_not_a_mean_of_the_others():
    truth = np.array([[1, 1], [0, 0], [0, 1], [1, 0]])
    score = np.array([[0.9, 0.9], [0.1, 0.5], [0.2, 0.8], [0.3, 0.1]])
    weights = np.array([[1, 1, 1, 1], [2, 0, 2, 0], [0, 2, 0, 2]])
    found = c.weighted_macro_auc(truth, score, weights)
    assert found[0] == 1.0
    assert np.isnan(found[1:]).all()


def test_f1_worked_by_hand():
    # TP 1, FP 2, FN 1 -> 2 / (2 + 2 + 1)
    assert c.f1([1, 0, 0, 1, -1], [1, 1, 1, 0, 1]) == pytest.approx(0.4)
    assert c.f1_at([1, 0, 1], [0.5, 0.4, 0.49], 0.5) == pytest.approx(2 / 3)


def test_f1_degenerate_cases():
    assert np.isnan(c.f1([0, 0], [0, 0]))
    assert c.f1([0, 0], [1, 0]) == 0.0
    assert c.f1([1, 1], [0, 0]) == 0.0
    assert np.isnan(c.f1([], []))
    assert np.isnan(c.f1_at([1, 0], [0.3, 0.4], NAN))


def test_f1_refuses_scores_in_place_of_decisions():
    with pytest.raises(ValueError, match="binarize"):
        c.f1([1, 0], [0.7, 0.2])


def test_weighted_f1_equals_sklearn_on_the_repeated_images():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 2, 20), rng.integers(0, 2, 20)
    weights = resamples_of(rng, 50, 20)
    for row, value in zip(weights, c.weighted_f1(truth, predicted, weights), strict=True):
        again = np.repeat(np.arange(20), row)
        expected = f1_score(truth[again], predicted[again], zero_division=np.nan)
        assert value == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_accuracy_of_many_classes_by_hand_and_against_sklearn():
    assert c.accuracy([0, 1, 2, -1, NAN], [0, 2, 2, 0, NAN]) == pytest.approx(2 / 3)
    rng = np.random.default_rng(1)
    truth, predicted = rng.integers(0, 3, 100), rng.integers(0, 3, 100)
    assert c.accuracy(truth, predicted) == pytest.approx(accuracy_score(truth, predicted))


def test_accuracy_degenerate_cases():
    assert np.isnan(c.accuracy([], []))
    assert np.isnan(c.accuracy([-1, NAN], [0, 1]))
    for truth, predicted in [([0.5], [0]), ([-2], [0]), ([1], [NAN]), ([1, 0], [1])]:
        with pytest.raises(ValueError):
            c.accuracy(truth, predicted)


def test_a_score_on_the_threshold_is_positive_at_it_and_negative_above_it():
    truth, score = [1, 1, 0], [0.5, 0.6, 0.4]
    assert c.accuracy_at(truth, score, 0.5) == 1.0
    assert c.accuracy_above(truth, score, 0.5) == pytest.approx(2 / 3)
    assert np.isnan(c.accuracy_at(truth, score, NAN))
