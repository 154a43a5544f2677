"""Thresholds chosen from labels: by best F1 (MedKLIP), Matthews correlation (KAD), Youden index.

A threshold chosen on validation labels is a valid operating point: pass it to `f1_at`,
`accuracy_at`. One chosen on the scored labels is an oracle; such functions have it in their name.
Legend as in classification.py: N images, B resamples, G distinct scores.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from g2dbench.metrics.classification import ThresholdCounts, threshold_counts
from g2dbench.metrics.labels import Weights, ones_weights
from g2dbench.metrics.ranking import RankedScores
from g2dbench.metrics.ratio import ratio


def _f1_curve(curve: ThresholdCounts) -> NDArray[np.float64]:
    """F1 at each threshold, (B,G); NaN in resamples without a positive image."""
    positives = curve.positives[:, None]
    values = ratio(
        2 * curve.true_positives,
        curve.true_positives + curve.false_positives + positives,
        zero_division=0.0,
    )
    return np.where(positives > 0, values, np.nan)


def _mcc_curve(curve: ThresholdCounts) -> NDArray[np.float64]:
    """Matthews correlation at each threshold, (B,G); NaN in resamples with one class.

    0 where all or no images are predicted positive, as in scikit-learn. Computed in floats: the
    product of four counts overflows int64.
    """
    true_positives, false_positives = (
        curve.true_positives.astype(np.float64),
        curve.false_positives.astype(np.float64),
    )
    positives = curve.positives[:, None].astype(np.float64)
    negatives = curve.negatives[:, None].astype(np.float64)
    predicted_positives = true_positives + false_positives
    denominator = np.sqrt(
        predicted_positives * (positives + negatives - predicted_positives)
    ) * np.sqrt(positives * negatives)
    numerator = true_positives * negatives - false_positives * positives
    two_classes = (positives > 0) & (negatives > 0)
    return np.where(two_classes, ratio(numerator, denominator, zero_division=0.0), np.nan)


def _best_threshold(thresholds: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """The lowest threshold that reaches the maximum; NaN if undefined."""
    if values.size == 0 or np.isnan(values).any():
        return float("nan")
    return float(thresholds[np.flatnonzero(values == values.max())[-1]])


def _unweighted_counts(truth: ArrayLike, score: ArrayLike) -> ThresholdCounts:
    return threshold_counts(truth, score, ones_weights(np.asarray(score).size))


def f1_threshold(truth: ArrayLike, score: ArrayLike) -> float:
    """The (lowest) threshold t with the best F1 of "score >= t"; NaN without a positive image.

    Candidates are the scores themselves. Source: MedKLIP
    Sample_zero-shot_Classification_CXR14/test.py at 8e60b03 (argmax over the PR curve).
    """
    curve = _unweighted_counts(truth, score)
    return _best_threshold(curve.thresholds, _f1_curve(curve)[0])


def mcc_threshold(truth: ArrayLike, score: ArrayLike) -> float:
    """The (lowest) threshold t with the best MCC of "score >= t"; NaN with one class.

    Source: KAD A3_CLIP/test_chexpert.py, compute_mccs. Among equal maxima it takes the first image
    of the file, so its threshold depends on the order of images.
    """
    curve = _unweighted_counts(truth, score)
    return _best_threshold(curve.thresholds, _mcc_curve(curve)[0])


def youden_threshold(truth: ArrayLike, score: ArrayLike) -> float:
    """The (lowest) threshold t with the best sensitivity + specificity of "score >= t".

    It has the best balanced accuracy. NaN with one class. Source: Youden 1950, Index for Rating
    Diagnostic Tests.
    """
    curve = _unweighted_counts(truth, score)
    positives, negatives = int(curve.positives[0]), int(curve.negatives[0])
    if positives == 0 or negatives == 0:
        return float("nan")
    # In whole numbers, so that equal maxima are equal: (TP / P - FP / N) x P x N.
    index = curve.true_positives[0] * negatives - curve.false_positives[0] * positives
    return _best_threshold(curve.thresholds, index.astype(np.float64))


def weighted_oracle_f1(truth: ArrayLike, score: ArrayLike, weights: Weights) -> NDArray[np.float64]:
    """Oracle F1 of each resample, (B,); the threshold is chosen again in each resample."""
    return RankedScores(truth, score).value("oracle_f1", weights)


def oracle_f1(truth: ArrayLike, score: ArrayLike) -> float:
    """Best F1 over all thresholds, chosen on the scored labels; NaN without a positive image.

    An upper bound, not an operating point. Source: MedKLIP's max-F1 (see `f1_threshold`).
    """
    return float(weighted_oracle_f1(truth, score, ones_weights(np.asarray(score).size))[0])


def weighted_oracle_mcc(
    truth: ArrayLike, score: ArrayLike, weights: Weights
) -> NDArray[np.float64]:
    """Oracle Matthews correlation of each resample, (B,); the threshold is chosen in each."""
    return RankedScores(truth, score).value("oracle_mcc", weights)


def oracle_mcc(truth: ArrayLike, score: ArrayLike) -> float:
    """Best Matthews correlation over all thresholds, chosen on the scored labels. Source: KAD."""
    return float(weighted_oracle_mcc(truth, score, ones_weights(np.asarray(score).size))[0])
