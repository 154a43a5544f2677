"""Calibration of one finding's probabilities: reliability table, ECE, Brier score, temperature.

Legend: N images, K classes, S bins, B resamples. Labels as in labels.py: -1 and NaN are excluded.
For classes that exclude each other, `top_class` gives what Guo et al. measure: the confidence in
the predicted class, and whether it is right.
A temperature is fitted on validation images and applied to test images. It keeps the ranking, so
AUC stays the same.
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logit

from g2dbench.errors import BadResult
from g2dbench.metrics.labels import Weights, check_weights, labeled_scores
from g2dbench.metrics.ratio import ratio
from g2dbench.metrics.statistic import Statistic, each_of
from g2dbench.sample import UNCERTAIN

BINS = 15
CALIBRATION_METRICS = ("ece", "brier")

TEMPERATURES = (0.01, 100.0)
"""Limits of a fitted temperature: labels that the scores separate perfectly would want 0."""

_SMALLEST = 1e-12  # probabilities of 0 and 1 are moved by this before their logit is taken


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
    edges = _edges(bins)
    outcome, probability = _labeled_probabilities(truth, probability)
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

    Source: Brier 1950, Verification of Forecasts Expressed in Terms of Probability, who sums over
    both classes: twice this value; scikit-learn brier_score_loss.
    """
    outcome, probability = _labeled_probabilities(truth, probability)
    return float(((probability - outcome) ** 2).mean()) if probability.size else float("nan")


class CalibrationSums:
    """The probabilities of one finding; gives `CALIBRATION_METRICS` for any resample."""

    def __init__(self, truth: ArrayLike, probability: ArrayLike, bins: int = BINS) -> None:
        rows, _, _ = labeled_scores(truth, probability)
        outcome, value = _labeled_probabilities(truth, probability)
        index = np.searchsorted(_edges(bins)[1:-1], value, side="left")
        self.images: Final = np.asarray(probability).size
        self._columns = np.zeros((bins + 2, self.images))
        self._columns[index, rows] = value - outcome
        self._columns[bins, rows] = (value - outcome) ** 2
        self._columns[bins + 1, rows] = 1

    def __call__(
        self, weights: Weights, names: AbstractSet[str]
    ) -> Mapping[str, NDArray[np.float64]]:
        """The values (B,) of each of the named metrics for multiplicities (B,N)."""
        check_weights(weights, self.images)
        *gaps, squares, images = self._columns @ weights.T.astype(np.float64)
        found = {"ece": ratio(np.abs(gaps).sum(axis=0), images), "brier": ratio(squares, images)}
        return {name: found[name] for name in names}

    def statistics(self) -> dict[str, Statistic]:
        """`CALIBRATION_METRICS` by name, as statistics."""
        return each_of(self, CALIBRATION_METRICS)


def _edges(bins: int) -> NDArray[np.float64]:
    if bins < 1:
        raise ValueError(f"a reliability table needs at least 1 bin, not {bins}")
    return np.linspace(0.0, 1.0, bins + 1)


def top_class(
    truth: ArrayLike, probability: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Whether the most probable class is right (1, 0, NaN if not labeled), and its probability.

    truth (N,) classes from 0; probability (N,K), rows of sum 1. Pass both to `ece` etc.
    Source: Guo et al. 2017.
    """
    label, values = _class_scores(truth, probability)
    if (np.abs(values.sum(axis=1) - 1) > 1e-4).any() or (values < 0).any():
        raise ValueError("each row of probabilities must sum to 1; apply a softmax to logits first")
    right = np.where(np.isnan(label), np.nan, values.argmax(axis=1) == label)
    return right, values.max(axis=1)


def fit_temperature(truth: ArrayLike, probability: ArrayLike) -> float:
    """The temperature T that makes sigmoid(logit(probability) / T) most likely; truth (N,).

    Between the limits of `TEMPERATURES`; NaN with one class. Source: Guo et al. 2017, section 4.2.
    """
    outcome, value = _labeled_probabilities(truth, probability)
    if outcome.size == 0 or outcome.min() == outcome.max():
        return float("nan")
    margin = np.where(outcome == 1, 1, -1) * _logit(value)
    return _most_likely(lambda t: float(np.logaddexp(0, -margin / t).mean()))


def fit_class_temperature(truth: ArrayLike, logits: ArrayLike) -> float:
    """The temperature T that makes softmax(logits / T) most likely; truth (N,), logits (N,K).

    Between the limits of `TEMPERATURES`; NaN without a labeled image. Source: Guo et al. 2017.
    """
    label, values = _class_scores(truth, logits)
    known = ~np.isnan(label)
    if not known.any():
        return float("nan")
    chosen, values = label[known].astype(int)[:, None], values[known]

    def loss(temperature: float) -> float:
        logs = np.take_along_axis(log_softmax(values / temperature, axis=1), chosen, axis=1)
        return -float(logs.mean())

    return _most_likely(loss)


def apply_temperature(probability: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """sigmoid(logit(probability) / temperature), of any shape; NaN for a NaN temperature."""
    return np.asarray(expit(_logit(np.asarray(probability, np.float64)) / temperature))


def _logit(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(logit(np.clip(probability, _SMALLEST, 1 - _SMALLEST)))


def _most_likely(loss: Callable[[float], float]) -> float:
    """The temperature with the least loss: the loss is convex in 1 / temperature."""
    limits = np.log(TEMPERATURES)
    found = minimize_scalar(
        lambda x: loss(float(np.exp(x))), bounds=limits, method="bounded", options={"xatol": 1e-9}
    )
    return float(np.exp(found.x))


def _class_scores(
    truth: ArrayLike, score: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Classes (N,), NaN if not labeled, and scores (N,K); all scores must be finite."""
    label, values = np.asarray(truth, np.float64), np.asarray(score, np.float64)
    if label.ndim != 1 or values.ndim != 2 or len(label) != len(values) or values.shape[1] < 2:
        raise ValueError(f"classes {label.shape} and scores {values.shape} do not fit")
    if not np.isfinite(values).all():
        row = np.flatnonzero(~np.isfinite(values).all(axis=1))[0]
        raise BadResult(f"the scores of row {row} are {values[row].tolist()}: not all finite")
    label = np.where(label == UNCERTAIN, np.nan, label)
    if not np.isin(label[~np.isnan(label)], np.arange(values.shape[1])).all():
        raise ValueError(f"classes must be whole numbers from 0 to {values.shape[1] - 1}")
    return label, values
