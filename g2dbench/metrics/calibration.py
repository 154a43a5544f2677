"""Calibration of one finding's probabilities: reliability table, ECE, Brier score.

Legend: N images, S bins. Labels as in classification.py: -1 and NaN are excluded.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from g2dbench.metrics.classification import labeled_scores
from g2dbench.metrics.ratio import ratio

BINS = 15


class ReliabilityTable(NamedTuple):
    """One row per bin: edges, images, mean probability, share of positives (NaN if empty)."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    images: NDArray[np.int64]
    confidence: NDArray[np.float64]
    frequency: NDArray[np.float64]


def _labeled_probabilities(
    truth: ArrayLike, probability: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    _, outcome, probability = labeled_scores(truth, probability)
    if ((probability < 0) | (probability > 1)).any():
        raise ValueError("probabilities must lie between 0 and 1; apply a sigmoid to logits first")
    return outcome.astype(np.float64), probability


def reliability_table(
    truth: ArrayLike, probability: ArrayLike, bins: int = BINS
) -> ReliabilityTable:
    """Predicted and observed frequency in S equal bins over [0, 1]; truth, probability (N,).

    A bin excludes its lower edge and includes its upper one; the first includes both.
    Source: Guo et al. 2017, eq. 2.
    """
    if bins < 1:
        raise ValueError(f"a reliability table needs at least 1 bin, not {bins}")
    outcome, probability = _labeled_probabilities(truth, probability)
    edges = np.linspace(0.0, 1.0, bins + 1)
    bin_index = np.searchsorted(edges[1:-1], probability, side="left")
    count = np.bincount(bin_index, minlength=bins)
    confidence, frequency = (
        ratio(np.bincount(bin_index, weights=values, minlength=bins), count)
        for values in (probability, outcome)
    )
    return ReliabilityTable(edges[:-1], edges[1:], count.astype(np.int64), confidence, frequency)


def ece(truth: ArrayLike, probability: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error: sum over bins of (n / N) |mean probability - frequency|.

    Source: Guo et al. 2017, eq. 3, with the probability of the finding where they use the
    confidence of the top class. NaN without images.
    """
    table = reliability_table(truth, probability, bins)
    not_empty = table.images > 0
    if not not_empty.any():
        return float("nan")
    gap = np.abs(table.confidence[not_empty] - table.frequency[not_empty])
    return float((table.images[not_empty] * gap).sum() / table.images.sum())


def brier_score(truth: ArrayLike, probability: ArrayLike) -> float:
    """Mean squared difference of probability and outcome; NaN without images.

    Source: Brier 1950; scikit-learn brier_score_loss.
    """
    outcome, probability = _labeled_probabilities(truth, probability)
    return float(((probability - outcome) ** 2).mean()) if probability.size else float("nan")
