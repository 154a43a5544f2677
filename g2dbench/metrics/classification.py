"""Classification metrics: exact, vectorised over bootstrap resamples, honest about one-class data.

Legend: N images, K classes, B resamples, G distinct scores.
Labels: 1 present, 0 absent; -1 (uncertain) and NaN (never judged) are left out of that class.
Any other label, and a score that is not finite where the label is judged, is a ValueError.
Undefined values are NaN, never 0 or 0.5; the caller says "undefined".

`weights` are integer multiplicities (B,N): row b says how often resample b holds each image, so
`weighted_x(...)[b]` is exactly `x` of the images repeated that often; `x` itself is a row of ones.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from g2dbench.metrics.ratio import ratio
from g2dbench.sample import ABSENT, PRESENT, UNCERTAIN

Weights = NDArray[np.integer]


class Macro(NamedTuple):
    """Mean over the defined classes, every class's value, and the indices of undefined ones."""

    value: float
    per_class: NDArray[np.float64]
    undefined: tuple[int, ...]


class Sweep(NamedTuple):
    """What deciding "present where score >= threshold" catches, at every distinct score.

    `thresholds` (G,) falls; `hits` and `alarms` (B,G) count true and false positives;
    `positives` and `negatives` (B,) are the totals.
    """

    thresholds: NDArray[np.float64]
    hits: NDArray[np.int64]
    alarms: NDArray[np.int64]
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]


def judged(truth: ArrayLike) -> NDArray[np.bool_]:
    """Where a label is 0 or 1; False for -1 (uncertain) and NaN (missing); else ValueError."""
    label = np.asarray(truth, dtype=np.float64)
    known: NDArray[np.bool_] = (label == PRESENT) | (label == ABSENT)
    left_out = (label == UNCERTAIN) | np.isnan(label)
    if not (known | left_out).all():
        strange = label[~(known | left_out)][0]
        raise ValueError(f"labels must be 1, 0, -1 (uncertain) or NaN (missing); found {strange:g}")
    return known


def judged_pairs(
    truth: ArrayLike, score: ArrayLike
) -> tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[np.float64]]:
    """Indices of the judged images, their labels and their scores, each (M,), M <= N.

    Raises ValueError when shapes differ or a judged image has no finite score.
    """
    label, value = np.asarray(truth), np.asarray(score, dtype=np.float64)
    if label.ndim != 1 or label.shape != value.shape:
        raise ValueError(
            f"labels {label.shape} and scores {value.shape} must be two equally long lists"
        )
    rows = np.flatnonzero(judged(label))
    if not np.isfinite(value[rows]).all():
        row = rows[~np.isfinite(value[rows])][0]
        raise ValueError(f"the score of row {row} is {value[row]}; every judged image needs one")
    return rows, label[rows] == PRESENT, value[rows]


def once(count: int) -> NDArray[np.int64]:
    """Multiplicities (1, count) of the set itself: every image once."""
    return np.ones((1, count), dtype=np.int64)


def _check_weights(weights: Weights, count: int) -> None:
    if weights.ndim != 2 or weights.shape[1] != count:
        raise ValueError(f"weights have shape {weights.shape}; expected (resamples, {count})")
    if not np.issubdtype(weights.dtype, np.integer):
        raise ValueError(f"weights are whole multiplicities, not {weights.dtype}")
    if weights.size and weights.min() < 0:
        raise ValueError("weights are multiplicities and cannot be negative")


def sweep(truth: ArrayLike, score: ArrayLike, weights: Weights) -> Sweep:
    """Counts at every threshold, for all resamples at once: one sort, then cumulative sums.

    truth, score (N,); weights (B,N) int. Equal scores always enter together.
    """
    rows, present, value = judged_pairs(truth, score)
    _check_weights(weights, np.asarray(score).size)
    order = np.argsort(-value, kind="stable")
    value, present = value[order], present[order]
    drawn = weights[:, rows[order]]
    last_of_tie = np.flatnonzero(np.append(value[1:] != value[:-1], True)[: value.size])
    counted = np.cumsum(drawn, axis=1, dtype=np.int64)
    hits = np.cumsum(drawn * present, axis=1, dtype=np.int64)
    positives = drawn[:, present].sum(axis=1, dtype=np.int64)
    negatives = drawn[:, ~present].sum(axis=1, dtype=np.int64)
    hits = hits[:, last_of_tie]
    alarms = counted[:, last_of_tie] - hits
    return Sweep(value[last_of_tie], hits, alarms, positives, negatives)


def weighted_auc(truth: ArrayLike, score: ArrayLike, weights: Weights) -> NDArray[np.float64]:
    """Area under the ROC curve of each resample, (B,); NaN where one class is missing.

    Definition: the share of (present, absent) pairs ranked correctly, a tie counting one half
    (Mann-Whitney U / (P N)); the counts are exact integers. Source: scikit-learn roc_auc_score.
    """
    curve = sweep(truth, score, weights)
    earlier_hits = np.zeros_like(curve.hits)
    earlier_hits[:, 1:] = curve.hits[:, :-1]
    new_alarms = np.diff(curve.alarms, axis=1, prepend=0)
    twice_area = ((earlier_hits + curve.hits) * new_alarms).sum(axis=1)
    return ratio(twice_area, 2 * curve.positives * curve.negatives)


def auc(truth: ArrayLike, score: ArrayLike) -> float:
    """Area under the ROC curve, ties one half; NaN if one class is missing. truth, score (N,)."""
    return float(weighted_auc(truth, score, once(np.asarray(score).size))[0])


def macro(per_class: Sequence[float] | NDArray[np.float64]) -> Macro:
    """Unweighted mean over the classes whose value is defined; NaN when none is."""
    values = np.asarray(per_class, dtype=np.float64)
    defined = ~np.isnan(values)
    mean = float(values[defined].mean()) if defined.any() else float("nan")
    return Macro(mean, values, tuple(int(k) for k in np.flatnonzero(~defined)))


def _classes(truth: ArrayLike, score: ArrayLike) -> tuple[NDArray, NDArray]:
    labels, scores = np.asarray(truth), np.asarray(score)
    if labels.ndim != 2 or labels.shape != scores.shape:
        raise ValueError(
            f"labels {labels.shape} and scores {scores.shape} must both be (images, classes)"
        )
    return labels, scores


def macro_auc(truth: ArrayLike, score: ArrayLike) -> Macro:
    """Mean AUC over the classes that have both kinds of image; truth, score (N,K).

    Source: the macro AUROC of MGCA, MedKLIP and KAD. They fail or return 0.5 on a class without
    positives; here it is named in `undefined` and left out.
    """
    labels, scores = _classes(truth, score)
    return macro([auc(labels[:, k], scores[:, k]) for k in range(labels.shape[1])])


def weighted_macro_auc(truth: ArrayLike, score: ArrayLike, weights: Weights) -> NDArray[np.float64]:
    """Macro AUC of each resample, (B,), always over the classes defined in the whole set.

    A resample that loses one of those classes is NaN: a mean over other classes is another metric.
    """
    labels, scores = _classes(truth, score)
    undefined = macro_auc(labels, scores).undefined
    kept = [k for k in range(labels.shape[1]) if k not in undefined]
    if not kept:
        return np.full(weights.shape[0], np.nan)
    per_class = [weighted_auc(labels[:, k], scores[:, k], weights) for k in kept]
    return np.asarray(np.mean(per_class, axis=0))


def weighted_f1(truth: ArrayLike, decision: ArrayLike, weights: Weights) -> NDArray[np.float64]:
    """F1 = 2 TP / (2 TP + FP + FN) of each resample, (B,); NaN where nothing is true or claimed.

    truth (N,) labels, decision (N,) 1 or 0. Source: scikit-learn f1_score, zero_division=nan.
    """
    rows, present, claimed = judged_pairs(truth, decision)
    _check_weights(weights, np.asarray(decision).size)
    if not np.isin(claimed, (0, 1)).all():
        raise ValueError("decisions must be 1 or 0; turn scores into decisions with `decide`")
    drawn, claim = weights[:, rows], claimed == 1
    both = drawn[:, present & claim].sum(axis=1)
    return ratio(2 * both, drawn[:, present].sum(axis=1) + drawn[:, claim].sum(axis=1))


def f1(truth: ArrayLike, decision: ArrayLike) -> float:
    """F1 of yes/no decisions; NaN when no image is positive and none is claimed."""
    return float(weighted_f1(truth, decision, once(np.asarray(decision).size))[0])


def f1_at(truth: ArrayLike, score: ArrayLike, threshold: float) -> float:
    """F1 of "present where score >= threshold", a threshold that the test labels did not choose.

    NaN where the threshold is NaN: undefined on the set that should have chosen it.
    """
    return float("nan") if np.isnan(threshold) else f1(truth, decide(score, threshold))


def decide(score: ArrayLike, threshold: float) -> NDArray[np.float64]:
    """1 where score >= threshold, 0 below, NaN where there is no score (so that it is noticed)."""
    value = np.asarray(score, dtype=np.float64)
    return np.where(np.isnan(value), np.nan, value >= threshold)


def correct(truth: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
    """Per image 1 if the predicted class is the true one, 0 if not, NaN if nobody judged; (N,).

    Classes are whole numbers from 0; -1 and NaN in `truth` mean not judged. The mean is accuracy.
    """
    label, claim = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    if label.ndim != 1 or label.shape != claim.shape:
        raise ValueError(f"labels {label.shape} and predictions {claim.shape} must be equally long")
    known = ~np.isnan(label) & (label != UNCERTAIN)
    if not (np.isin(label[known] % 1, 0) & (label[known] >= 0)).all():
        raise ValueError("true classes must be 0, 1, 2 ...; -1 or NaN where nobody judged")
    if np.isnan(claim[known]).any():
        raise ValueError("an image with a true class has no predicted class")
    return np.where(known, label == claim, np.nan)


def accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Share of judged images whose class is predicted; two or more classes; NaN without images."""
    hits = correct(truth, predicted)
    judged_hits = hits[~np.isnan(hits)]
    return float(judged_hits.mean()) if judged_hits.size else float("nan")


def accuracy_at(truth: ArrayLike, score: ArrayLike, threshold: float) -> float:
    """Accuracy of "present where score >= threshold", KAD's rule; NaN for a NaN threshold."""
    return float("nan") if np.isnan(threshold) else accuracy(truth, decide(score, threshold))


def accuracy_above(truth: ArrayLike, score: ArrayLike, threshold: float) -> float:
    """Accuracy of "present where score > threshold"; MedKLIP's rule beside its own max-F1.

    Source: MedKLIP Sample_zero-shot_Classification_CXR14/test.py at 8e60b03. The image whose score
    is the threshold counts as positive in the F1 there and as negative in the accuracy.
    """
    return accuracy_at(truth, score, float(np.nextafter(threshold, np.inf)))
