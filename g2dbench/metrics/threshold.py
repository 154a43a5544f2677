"""Thresholds chosen from labels: by best F1 (MedKLIP) or best Matthews correlation (KAD).

Chosen on validation labels they are a fair operating point: hand them to `f1_at`, `accuracy_at`.
Chosen on the labels that are then scored they are an oracle, and every such function says so.
Legend as in classification.py: N images, B resamples, G distinct scores.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from g2dbench.metrics.classification import Sweep, Weights, once, sweep
from g2dbench.metrics.ratio import ratio


def _f1_curve(curve: Sweep) -> NDArray[np.float64]:
    """F1 at every threshold, (B,G); NaN in resamples without a positive."""
    positives = curve.positives[:, None]
    values = ratio(2 * curve.hits, curve.hits + curve.alarms + positives, otherwise=0.0)
    return np.where(positives > 0, values, np.nan)


def _mcc_curve(curve: Sweep) -> NDArray[np.float64]:
    """Matthews correlation at every threshold, (B,G); 0 where all or none are claimed, as sklearn.

    NaN in resamples with one class. Floats, because the product of four counts leaves int64.
    """
    hits, alarms = curve.hits.astype(np.float64), curve.alarms.astype(np.float64)
    positives = curve.positives[:, None].astype(np.float64)
    negatives = curve.negatives[:, None].astype(np.float64)
    claimed = hits + alarms
    bottom = np.sqrt(claimed * (positives + negatives - claimed)) * np.sqrt(positives * negatives)
    top = hits * negatives - alarms * positives
    two_classes = (positives > 0) & (negatives > 0)
    return np.where(two_classes, ratio(top, bottom, otherwise=0.0), np.nan)


def _best(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """Maximum of each row, (B,); NaN where a row is empty or undefined."""
    if curve.shape[1] == 0:
        return np.full(curve.shape[0], np.nan)
    return np.asarray(curve.max(axis=1))


def _argbest(thresholds: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """The lowest threshold that reaches the maximum; NaN when undefined."""
    if values.size == 0 or np.isnan(values).any():
        return float("nan")
    return float(thresholds[np.flatnonzero(values == values.max())[-1]])


def _whole(truth: ArrayLike, score: ArrayLike) -> Sweep:
    return sweep(truth, score, once(np.asarray(score).size))


def f1_threshold(truth: ArrayLike, score: ArrayLike) -> float:
    """The threshold t with the best F1 of "score >= t"; of equals the lowest; NaN if no positive.

    Candidates are the scores themselves. Source: MedKLIP
    Sample_zero-shot_Classification_CXR14/test.py at 8e60b03 (argmax over the PR curve).
    """
    curve = _whole(truth, score)
    return _argbest(curve.thresholds, _f1_curve(curve)[0])


def mcc_threshold(truth: ArrayLike, score: ArrayLike) -> float:
    """The threshold t with the best Matthews correlation of "score >= t"; NaN with one class.

    Of equals the lowest. Source: KAD A3_CLIP/test_chexpert.py, compute_mccs, which takes the first
    image of the file that reaches the maximum, so that its choice among equals depends on order.
    """
    curve = _whole(truth, score)
    return _argbest(curve.thresholds, _mcc_curve(curve)[0])


def weighted_oracle_f1(truth: ArrayLike, score: ArrayLike, weights: Weights) -> NDArray[np.float64]:
    """Oracle F1 of each resample, (B,), the threshold chosen again inside every resample."""
    return _best(_f1_curve(sweep(truth, score, weights)))


def oracle_f1(truth: ArrayLike, score: ArrayLike) -> float:
    """Best F1 over all thresholds, chosen on the labels it is scored on; NaN if no positive.

    An upper bound, not an operating point. Source: MedKLIP's max-F1 (see `f1_threshold`).
    """
    return float(_best(_f1_curve(_whole(truth, score)))[0])


def weighted_oracle_mcc(
    truth: ArrayLike, score: ArrayLike, weights: Weights
) -> NDArray[np.float64]:
    """Oracle Matthews correlation of each resample, (B,), the threshold chosen in each, as KAD."""
    return _best(_mcc_curve(sweep(truth, score, weights)))


def oracle_mcc(truth: ArrayLike, score: ArrayLike) -> float:
    """Best Matthews correlation over all thresholds, chosen on the labels it is scored on."""
    return float(_best(_mcc_curve(_whole(truth, score)))[0])
