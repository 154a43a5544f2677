"""Classification metrics: exact, and vectorized over bootstrap resamples.

Legend: N images, K classes, B resamples, G distinct scores.
Labels: 1 present, 0 absent; -1 (uncertain) and NaN (not labeled) are excluded from that class.
Any other label raises ValueError, a score of a labeled image that is not finite BadResult.
An undefined value, such as the AUC of one class, is NaN, never 0 or 0.5.

`weights` are integer multiplicities (B,N): how often each resample contains each image. So
`weighted_x(...)[b]` is exactly `x` of the images repeated that often; `x` uses weights of one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from g2dbench.errors import BadResult
from g2dbench.metrics.confusion import DecisionCounts
from g2dbench.metrics.labels import Weights as Weights
from g2dbench.metrics.labels import check_weights
from g2dbench.metrics.labels import labeled as labeled
from g2dbench.metrics.labels import labeled_scores as labeled_scores
from g2dbench.metrics.labels import ones_weights as ones_weights
from g2dbench.metrics.ranking import RankedScores
from g2dbench.sample import UNCERTAIN


class MacroAverage(NamedTuple):
    """Mean over the defined classes, the value of each class, the indices of undefined ones."""

    value: float
    per_class: NDArray[np.float64]
    undefined: tuple[int, ...]


class ThresholdCounts(NamedTuple):
    """Counts for the rule "present where score >= threshold", at every distinct score.

    `thresholds` (G,) in decreasing order; `true_positives`, `false_positives` (B,G);
    `positives`, `negatives` (B,): images of each class.
    """

    thresholds: NDArray[np.float64]
    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]


def threshold_counts(truth: ArrayLike, score: ArrayLike, weights: Weights) -> ThresholdCounts:
    """Counts at every threshold for all resamples, by one sort and cumulative sums.

    truth, score (N,); weights (B,N) int. Images with equal scores share a threshold.
    """
    rows, present, value = labeled_scores(truth, score)
    check_weights(weights, np.asarray(score).size)
    order = np.argsort(-value, kind="stable")
    value, present = value[order], present[order]
    counts = weights[:, rows[order]]
    last_of_tie = np.flatnonzero(np.append(value[1:] != value[:-1], True)[: value.size])
    all_counts = np.cumsum(counts, axis=1, dtype=np.int64)
    true_positives = np.cumsum(counts * present, axis=1, dtype=np.int64)
    positives = counts[:, present].sum(axis=1, dtype=np.int64)
    negatives = counts[:, ~present].sum(axis=1, dtype=np.int64)
    true_positives = true_positives[:, last_of_tie]
    false_positives = all_counts[:, last_of_tie] - true_positives
    return ThresholdCounts(
        value[last_of_tie], true_positives, false_positives, positives, negatives
    )


def weighted_auc(truth: ArrayLike, score: ArrayLike, weights: Weights) -> NDArray[np.float64]:
    """Area under the ROC curve of each resample, (B,); NaN where one class is missing.

    The share of (present, absent) pairs that are ranked correctly; a tie counts one half. Exact
    integer counts. Source: Hanley & McNeil 1982; scikit-learn roc_auc_score.
    """
    return RankedScores(truth, score).value("auc", weights)


def auc(truth: ArrayLike, score: ArrayLike) -> float:
    """Area under the ROC curve of truth, score (N,); NaN if one class is missing."""
    return float(weighted_auc(truth, score, ones_weights(np.asarray(score).size))[0])


def macro_average(per_class: Sequence[float] | NDArray[np.float64]) -> MacroAverage:
    """Unweighted mean over the classes whose value is defined; NaN if none is."""
    values = np.asarray(per_class, dtype=np.float64)
    defined = ~np.isnan(values)
    mean = float(values[defined].mean()) if defined.any() else float("nan")
    return MacroAverage(mean, values, tuple(int(k) for k in np.flatnonzero(~defined)))


def _classes(truth: ArrayLike, score: ArrayLike) -> tuple[NDArray, NDArray]:
    labels, scores = np.asarray(truth), np.asarray(score)
    if labels.ndim != 2 or labels.shape != scores.shape:
        raise ValueError(
            f"labels {labels.shape} and scores {scores.shape} must both be (images, classes)"
        )
    return labels, scores


def macro_auc(truth: ArrayLike, score: ArrayLike) -> MacroAverage:
    """Mean AUC over the classes with positive and negative images; truth, score (N,K).

    Source: the macro AUROC of MGCA, MedKLIP and KAD. For a class without positives they fail or
    return 0.5; here it is excluded and listed in `undefined`.
    """
    labels, scores = _classes(truth, score)
    return macro_average([auc(labels[:, k], scores[:, k]) for k in range(labels.shape[1])])


def weighted_macro_auc(truth: ArrayLike, score: ArrayLike, weights: Weights) -> NDArray[np.float64]:
    """Macro AUC of each resample, (B,), over the classes that are defined on the whole set.

    NaN where one of them is undefined in the resample: a mean over fewer classes is another metric.
    """
    labels, scores = _classes(truth, score)
    undefined = macro_auc(labels, scores).undefined
    defined = [k for k in range(labels.shape[1]) if k not in undefined]
    if not defined:
        return np.full(weights.shape[0], np.nan)
    per_class = [weighted_auc(labels[:, k], scores[:, k], weights) for k in defined]
    return np.asarray(np.mean(per_class, axis=0))


def weighted_f1(truth: ArrayLike, decision: ArrayLike, weights: Weights) -> NDArray[np.float64]:
    """F1 = 2 TP / (2 TP + FP + FN) of each resample, (B,); NaN where the denominator is 0.

    truth (N,) labels, decision (N,) 1 or 0. Source: scikit-learn f1_score, zero_division=nan.
    """
    return DecisionCounts(truth, decision).value("f1", weights)


def f1(truth: ArrayLike, decision: ArrayLike) -> float:
    """F1 of binary decisions; NaN if no image is positive and none is predicted positive."""
    return float(weighted_f1(truth, decision, ones_weights(np.asarray(decision).size))[0])


def f1_at(truth: ArrayLike, score: ArrayLike, threshold: float) -> float:
    """F1 of "present where score >= threshold", for a threshold chosen on other labels.

    NaN for a NaN threshold: it was undefined on the set where it should be chosen.
    """
    return float("nan") if np.isnan(threshold) else f1(truth, binarize(score, threshold))


def binarize(score: ArrayLike, threshold: float) -> NDArray[np.float64]:
    """1 where score >= threshold, 0 below, NaN where the score is NaN."""
    value = np.asarray(score, dtype=np.float64)
    return np.where(np.isnan(value), np.nan, value >= threshold)


def correct(truth: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
    """1 for each image whose predicted class is the true class, else 0, NaN if not labeled; (N,).

    Classes are integers from 0; -1 and NaN in `truth` mean not labeled. The mean is accuracy.
    """
    label, prediction = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    if label.ndim != 1 or label.shape != prediction.shape:
        raise ValueError(
            f"labels {label.shape} and predictions {prediction.shape} must be equally long"
        )
    known = ~np.isnan(label) & (label != UNCERTAIN)
    if not (np.isin(label[known] % 1, 0) & (label[known] >= 0)).all():
        raise ValueError("true classes must be 0, 1, 2 ..., or -1 or NaN where not labeled")
    if np.isnan(prediction[known]).any():
        row = int(np.flatnonzero(known & np.isnan(prediction))[0])
        raise BadResult(f"row {row} has a true class, but no predicted class")
    return np.where(known, label == prediction, np.nan)


def accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Share of labeled images whose class is predicted, for any number of classes; NaN if none.

    Source: scikit-learn accuracy_score.
    """
    values = correct(truth, predicted)
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def accuracy_at(truth: ArrayLike, score: ArrayLike, threshold: float) -> float:
    """Accuracy of "present where score >= threshold"; NaN for a NaN threshold. Source: KAD."""
    return float("nan") if np.isnan(threshold) else accuracy(truth, binarize(score, threshold))


def accuracy_above(truth: ArrayLike, score: ArrayLike, threshold: float) -> float:
    """Accuracy of "present where score > threshold", as MedKLIP reports beside its max-F1.

    There, an image whose score equals the threshold is positive for F1 and negative for accuracy.
    Source: MedKLIP Sample_zero-shot_Classification_CXR14/test.py at 8e60b03.
    """
    return accuracy_at(truth, score, float(np.nextafter(threshold, np.inf)))
