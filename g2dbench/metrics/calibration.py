"""Calibration of one finding's probabilities: reliability table, expected error, Brier score.

Legend: N images, S bins. Labels as in classification.py: -1 and NaN are left out.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from g2dbench.metrics.classification import judged_pairs
from g2dbench.metrics.ratio import ratio

BINS = 15


class Reliability(NamedTuple):
    """One row per bin: edges, images, mean probability and share of positives (NaN if empty)."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    images: NDArray[np.int64]
    confidence: NDArray[np.float64]
    frequency: NDArray[np.float64]


def _judged(
    truth: ArrayLike, probability: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    _, present, chance = judged_pairs(truth, probability)
    if ((chance < 0) | (chance > 1)).any():
        raise ValueError("probabilities must lie between 0 and 1; apply a sigmoid to logits first")
    return present.astype(np.float64), chance


def reliability(truth: ArrayLike, probability: ArrayLike, bins: int = BINS) -> Reliability:
    """Predicted against observed frequency in S equal bins over [0, 1]; truth, probability (N,).

    A bin is open below and closed above, the first closed on both sides (Guo et al. 2017, eq. 2).
    """
    if bins < 1:
        raise ValueError(f"a reliability table needs at least 1 bin, not {bins}")
    present, chance = _judged(truth, probability)
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.searchsorted(edges[1:-1], chance, side="left")
    count = np.bincount(place, minlength=bins)
    confidence, frequency = (
        ratio(np.bincount(place, weights=values, minlength=bins), count)
        for values in (chance, present)
    )
    return Reliability(edges[:-1], edges[1:], count.astype(np.int64), confidence, frequency)


def ece(truth: ArrayLike, probability: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error: sum over bins of (n / N) |mean probability - frequency|.

    The binary reading: probability of the finding against its frequency. Guo et al. 2017 (eq. 3)
    use the top class's confidence instead. NaN without images.
    """
    table = reliability(truth, probability, bins)
    filled = table.images > 0
    if not filled.any():
        return float("nan")
    gap = np.abs(table.confidence[filled] - table.frequency[filled])
    return float((table.images[filled] * gap).sum() / table.images.sum())


def brier(truth: ArrayLike, probability: ArrayLike) -> float:
    """Mean squared difference of probability and outcome; NaN without images.

    Source: scikit-learn brier_score_loss.
    """
    present, chance = _judged(truth, probability)
    return float(((chance - present) ** 2).mean()) if chance.size else float("nan")
