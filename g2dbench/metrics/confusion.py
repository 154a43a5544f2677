"""Metrics of decisions, from the confusion matrix: two classes, or K classes that exclude others.

Legend: N images, B resamples, K classes. All are NaN where their denominator is 0.

Decisions about one finding, 1 present or 0 absent (`DecisionCounts`):

    f1             2 TP / (2 TP + FP + FN)
    acc            (TP + TN) / all
    mcc            Matthews correlation: 0 where all or none are predicted, NaN with one class
    balanced_acc   mean of sensitivity and specificity
    sensitivity    TP / (TP + FN), also called recall
    specificity    TN / (TN + FP)
    precision      TP / (TP + FP), also called positive predictive value
    npv            TN / (TN + FN), negative predictive value

Classes that exclude each other, as in COVIDx (`ClassCounts`). The means are over the classes that
are defined on the whole set; they are NaN in a resample where one of these is undefined:

    acc            share of images whose class is predicted
    balanced_acc   mean over the classes of the share of their images that is predicted
    macro_f1       mean over the classes of F1
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from g2dbench.errors import BadResult
from g2dbench.metrics.labels import Weights, check_weights, labeled_scores, ones_weights
from g2dbench.metrics.ratio import ratio
from g2dbench.metrics.statistic import Statistic, each_of, undefined
from g2dbench.sample import UNCERTAIN

DECISION_METRICS = (
    "f1", "acc", "mcc", "balanced_acc", "sensitivity", "specificity", "precision", "npv",
)  # fmt: skip
CLASS_METRICS = ("acc", "balanced_acc", "macro_f1")

Values = NDArray[np.float64]


def _sums(columns: NDArray[np.float64], weights: Weights) -> Values:
    """Sums (C,B) of columns (C,N) in each resample: exact, since all are whole numbers."""
    return np.asarray(columns @ weights.T.astype(np.float64))


class DecisionCounts:
    """The decisions about one finding; truth (N,) labels as in labels.py, decision (N,) 1 or 0."""

    def __init__(self, truth: ArrayLike, decision: ArrayLike) -> None:
        rows, present, predicted = labeled_scores(truth, decision)
        if not np.isin(predicted, (0, 1)).all():
            raise ValueError("decisions must be 1 or 0; turn scores into decisions with `binarize`")
        self.images: Final = np.asarray(decision).size
        self.one_class: Final = bool(present.all() or not present.any())
        positive = predicted == 1
        self._columns = np.zeros((4, self.images))
        self._columns[:, rows] = [present & positive, ~present & positive, present, ~present]

    def __call__(self, weights: Weights, names: AbstractSet[str]) -> Mapping[str, Values]:
        """The values (B,) of each of the named metrics for multiplicities (B,N)."""
        check_weights(weights, self.images)
        found = _decision_values(*_sums(self._columns, weights))
        return {name: found[name] for name in names}

    def value(self, name: str, weights: Weights) -> Values:
        """The values (B,) of one metric for multiplicities (B,N)."""
        return self(weights, {name})[name]


def _decision_values(hits: Values, alarms: Values, positives: Values, negatives: Values) -> dict:
    """Every metric (B,) from true positives, false positives and the sizes of both classes."""
    sensitivity = ratio(hits, positives)
    specificity = ratio(negatives - alarms, negatives)
    predicted, total = hits + alarms, positives + negatives
    rejected = total - predicted
    noise = np.sqrt(predicted * rejected) * np.sqrt(positives * negatives)
    mcc = ratio(hits * negatives - alarms * positives, noise, zero_division=0.0)
    return {
        "f1": ratio(2 * hits, predicted + positives),
        "acc": ratio(hits + negatives - alarms, total),
        "mcc": np.where(positives * negatives > 0, mcc, np.nan),
        "balanced_acc": (sensitivity + specificity) / 2,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "precision": ratio(hits, predicted),
        "npv": ratio(negatives - alarms, rejected),
    }


def decision_statistics(truth: ArrayLike, decision: ArrayLike) -> dict[str, Statistic]:
    """`DECISION_METRICS` of one finding, by name; all are undefined with one class.

    truth (N,) labels; decision (N,) 1 or 0, as by `classification.binarize`.
    """
    counts = DecisionCounts(truth, decision)
    if counts.one_class:
        return dict.fromkeys(DECISION_METRICS, undefined)
    return each_of(counts, DECISION_METRICS)


def argmax_class(score: ArrayLike) -> NDArray[np.float64]:
    """The class with the highest score of each image, (N,); score (N,K). The first of equals.

    NaN for an image without any score (all NaN): it cannot have a label. BadResult for a score
    that is NaN or infinite beside others.
    """
    values = np.asarray(score, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 2:
        raise ValueError(f"scores must be (images, classes), two or more; found {values.shape}")
    missing = np.asarray(np.isnan(values).all(axis=1))
    bad = np.flatnonzero(~missing & ~np.isfinite(values).all(axis=1))
    if bad.size:
        raise BadResult(f"row {bad[0]} has the scores {values[bad[0]].tolist()}: not all finite")
    best = np.where(missing[:, None], 0, values).argmax(axis=1)
    return np.where(missing, np.nan, best.astype(np.float64))


class ClassCounts:
    """True and predicted classes (N,), integers from 0 to K-1; -1 or NaN: not labeled."""

    def __init__(self, truth: ArrayLike, predicted: ArrayLike, classes: int) -> None:
        label, guess = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
        rows, label, guess = _labeled_classes(label, guess, classes)
        self.images: Final = np.asarray(predicted).size
        every = np.arange(classes)[:, None]
        self._columns = np.zeros((3 * classes, self.images))
        both = (label == every) & (guess == every)
        self._columns[:, rows] = np.concatenate([both, label == every, guess == every])
        _, recall, f1 = self._values(ones_weights(self.images))
        self._with_recall, self._with_f1 = (~np.isnan(v[:, 0]) for v in (recall, f1))

    def _values(self, weights: Weights) -> tuple[Values, Values, Values]:
        """Accuracy (B,), recall and F1 of each class (K,B)."""
        hits, of_class, predicted = np.split(_sums(self._columns, weights), 3)
        accuracy = ratio(hits.sum(axis=0), of_class.sum(axis=0))
        return accuracy, ratio(hits, of_class), ratio(2 * hits, of_class + predicted)

    def __call__(self, weights: Weights, names: AbstractSet[str]) -> Mapping[str, Values]:
        """The values (B,) of each of the named metrics for multiplicities (B,N)."""
        check_weights(weights, self.images)
        accuracy, recall, f1 = self._values(weights)
        found = {
            "acc": accuracy,
            "balanced_acc": _mean_of_rows(recall[self._with_recall]),
            "macro_f1": _mean_of_rows(f1[self._with_f1]),
        }
        return {name: found[name] for name in names}

    def value(self, name: str, weights: Weights) -> Values:
        """The values (B,) of one metric for multiplicities (B,N)."""
        return self(weights, {name})[name]


def _mean_of_rows(values: Values) -> Values:
    return values.mean(axis=0) if len(values) else np.full(values.shape[1], np.nan)


def _labeled_classes(
    label: Values, guess: Values, classes: int
) -> tuple[NDArray[np.intp], Values, Values]:
    """Indices of the labeled images, their classes and predicted classes."""
    if label.ndim != 1 or label.shape != guess.shape:
        raise ValueError(f"classes {label.shape} and predictions {guess.shape} must be two lists")
    rows = np.flatnonzero(~np.isnan(label) & (label != UNCERTAIN))
    label, guess = label[rows], guess[rows]
    if np.isnan(guess).any():
        row = rows[np.isnan(guess)][0]
        raise BadResult(f"row {row} has a true class, but no predicted class")
    for values, name in ((label, "true"), (guess, "predicted")):
        if not np.isin(values, np.arange(classes)).all():
            raise ValueError(f"{name} classes must be whole numbers from 0 to {classes - 1}")
    return rows, label, guess


def class_statistics(truth: ArrayLike, predicted: ArrayLike, classes: int) -> dict[str, Statistic]:
    """`CLASS_METRICS` by name; truth, predicted (N,) classes, as by `argmax_class`.

    Source: scikit-learn accuracy_score, balanced_accuracy_score, f1_score(average="macro").
    """
    return each_of(ClassCounts(truth, predicted, classes), CLASS_METRICS)
