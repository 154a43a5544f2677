"""Metrics of ranked scores over all thresholds: images are sorted once, then resampled.

Legend: N images, B resamples, P positive images, G distinct scores that a positive image has.
A threshold t means "present where score >= t". Between two scores of positive images, a lower
threshold adds false positives only. So AUC and average precision change, and F1 and the Matthews
correlation have their maximum, only at the G scores of positive images, and counts are needed
there alone.

    auc                   area under the ROC curve; a tie counts one half. Hanley & McNeil 1982
    ap                    average precision, without interpolation; scikit-learn
    oracle_f1             best F1 over all thresholds. MedKLIP
    oracle_mcc            best Matthews correlation over all thresholds. KAD
    oracle_acc_medklip    accuracy of "score > t" at MedKLIP's t, the lowest with the best F1
    oracle_f1_kad         F1 of "score >= t" at KAD's t, the lowest with the best correlation
    oracle_acc_kad        accuracy of "score >= t" at the same t

The last five choose t on the scored labels, again in each resample: upper bounds, no operating
points. Undefined is NaN: with one class `auc`, `oracle_mcc`, `oracle_f1_kad` and `oracle_acc_kad`,
without a positive image the others.
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from g2dbench.metrics.labels import Weights, check_weights, labeled_scores
from g2dbench.metrics.ratio import ratio
from g2dbench.metrics.statistic import Statistic, each_of, undefined

Counts = NDArray[np.float64]
"""Whole numbers as floats: exact, and divided without a conversion."""

_MAX_ELEMENTS = 1 << 18  # thresholds x resamples held at once: 2 MB per array, for the cache


class RankedScores:
    """The sorted scores of one finding; truth and score (N,), labels as in labels.py.

    Memory for a block of B resamples: about 10 arrays of (G,B) numbers of 8 bytes.
    """

    def __init__(self, truth: ArrayLike, score: ArrayLike) -> None:
        rows, present, value = labeled_scores(truth, score)
        self.images: Final = np.asarray(score).size
        self.one_class: Final = bool(present.all() or not present.any())
        order = np.argsort(-value, kind="stable")
        positive, negative = order[present[order]], order[~present[order]]
        self._positive, self._negative = rows[positive], rows[negative]
        scores = value[positive]
        self._group_start = np.flatnonzero(
            np.append(True, scores[1:] != scores[:-1])[: scores.size]
        )
        # Negatives with a higher score than each group, and with a score at least as high.
        distinct, falling = -scores[self._group_start], -value[negative]
        before, until = (np.searchsorted(falling, distinct, side=s) for s in ("left", "right"))
        self._cuts = np.unique(np.concatenate([[0, negative.size], before, until]))
        self._before, self._until = (np.searchsorted(self._cuts, c) for c in (before, until))
        self._tied = bool((before != until).any())

    def counts_at(self, weights: Weights) -> "PositiveCounts":
        """Counts at the scores of positive images for multiplicities (B,N)."""
        check_weights(weights, self.images)
        by_image = weights.T
        new = by_image.take(self._positive, axis=0).astype(np.float64)
        if self._group_start.size < self._positive.size:
            new = np.add.reduceat(new, self._group_start, axis=0)
        passed = np.zeros((self._cuts.size, len(weights)))
        if self._cuts.size > 1:
            negative = by_image.take(self._negative, axis=0)
            sums = np.add.reduceat(negative, self._cuts[:-1], axis=0)
            np.cumsum(sums, axis=0, out=passed[1:])
        before = passed.take(self._before, axis=0)
        until = passed.take(self._until, axis=0) if self._tied else before
        return PositiveCounts(new, before, until, passed[-1])

    def __call__(
        self, weights: Weights, names: AbstractSet[str]
    ) -> Mapping[str, NDArray[np.float64]]:
        """The values (B,) of each of the named metrics for multiplicities (B,N)."""
        step = max(1, _MAX_ELEMENTS // max(1, self._group_start.size))
        found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names}
        for start in range(0, max(1, len(weights)), step):
            counts = self.counts_at(weights[start : start + step])
            for name in names:
                found[name].append(_METRICS[name](counts))
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def value(self, name: str, weights: Weights) -> NDArray[np.float64]:
        """The values (B,) of one metric for multiplicities (B,N)."""
        return self(weights, {name})[name]


class PositiveCounts:
    """Counts at G thresholds in decreasing order, the scores of positive images.

    new: (G,B) positive images with exactly this score. before, until: (G,B) negative images with a
    higher score, and with a score at least as high. negatives: (B,).
    """

    def __init__(self, new: Counts, before: Counts, until: Counts, negatives: Counts) -> None:
        self.new, self.before, self.until, self.negatives = new, before, until, negatives
        self.positives: Final = new.sum(axis=0)

    @cached_property
    def true_positives(self) -> Counts:
        """Positive images with a score at least as high, (G,B)."""
        return np.cumsum(self.new, axis=0)

    @cached_property
    def predicted(self) -> Counts:
        """Images with a score at least as high, (G,B)."""
        return self.true_positives + self.until

    @cached_property
    def f1(self) -> NDArray[np.float64]:
        """F1 at each threshold, (G,B); 0 in resamples without a positive image."""
        # A denominator of 0 stands over a numerator of 0.
        twice = 2 * self.true_positives
        return np.asarray(twice / np.maximum(self.predicted + self.positives, 1))

    @cached_property
    def mcc(self) -> NDArray[np.float64]:
        """Matthews correlation at each threshold, (G,B); 0 where all or none are predicted."""
        total = self.positives + self.negatives
        numerator = self.true_positives * total
        numerator -= self.predicted * self.positives
        denominator = total - self.predicted
        denominator *= self.predicted
        np.sqrt(denominator, out=denominator)
        denominator *= np.sqrt(self.positives * self.negatives)
        # A denominator that is not 0 is at least 1; over 0 stands 0.
        np.maximum(denominator, 1, out=denominator)
        return np.asarray(np.divide(numerator, denominator, out=numerator))

    def lowest_best(self, curve: NDArray[np.float64]) -> NDArray[np.intp]:
        """Index (1,B) of the lowest threshold of the resample's images with the best value."""
        best = (curve == curve.max(axis=0)) & (self.new > 0)
        return np.asarray(len(curve) - 1 - best[::-1].argmax(axis=0))[None]

    def at(self, counts: Counts, index: NDArray[np.intp]) -> Counts:
        """The counts (B,) at one threshold of each resample."""
        return np.asarray(np.take_along_axis(counts, index, axis=0)[0])


def _auc(counts: PositiveCounts) -> NDArray[np.float64]:
    negatives_below = 2 * counts.negatives - counts.before - counts.until  # a tie counts one half
    twice_area = np.einsum("gb,gb->b", counts.new, negatives_below)
    return ratio(twice_area, 2 * counts.positives * counts.negatives)


def _average_precision(counts: PositiveCounts) -> NDArray[np.float64]:
    precision = counts.true_positives / np.maximum(counts.predicted, 1)
    return ratio(np.einsum("gb,gb->b", counts.new, precision), counts.positives)


def _oracle_f1(counts: PositiveCounts) -> NDArray[np.float64]:
    return np.where(counts.positives > 0, counts.f1.max(axis=0, initial=0), np.nan)


def _oracle_mcc(counts: PositiveCounts) -> NDArray[np.float64]:
    if len(counts.new) == 0:
        return np.full(counts.negatives.shape, np.nan)
    return np.where(_two_classes(counts), counts.mcc.max(axis=0), np.nan)


def _two_classes(counts: PositiveCounts) -> NDArray[np.bool_]:
    return np.asarray((counts.positives > 0) & (counts.negatives > 0))


def _acc_medklip(counts: PositiveCounts) -> NDArray[np.float64]:
    if len(counts.new) == 0:
        return np.full(counts.negatives.shape, np.nan)
    index = counts.lowest_best(counts.f1)
    true_positives = counts.at(counts.true_positives, index) - counts.at(counts.new, index)
    correct = true_positives + counts.negatives - counts.at(counts.before, index)
    return _where_positive(counts, correct)


def _where_positive(counts: PositiveCounts, correct: Counts) -> NDArray[np.float64]:
    accuracy = ratio(correct, counts.positives + counts.negatives)
    return np.where(counts.positives > 0, accuracy, np.nan)


def _f1_kad(counts: PositiveCounts) -> NDArray[np.float64]:
    if len(counts.new) == 0:
        return np.full(counts.negatives.shape, np.nan)
    at_best = np.take_along_axis(counts.f1, counts.lowest_best(counts.mcc), axis=0)[0]
    return np.where(_two_classes(counts), at_best, np.nan)


def _acc_kad(counts: PositiveCounts) -> NDArray[np.float64]:
    if len(counts.new) == 0:
        return np.full(counts.negatives.shape, np.nan)
    index = counts.lowest_best(counts.mcc)
    correct = counts.at(counts.true_positives, index) + counts.negatives
    correct = correct - counts.at(counts.until, index)
    return np.where(_two_classes(counts), _where_positive(counts, correct), np.nan)


_METRICS: Final[dict[str, Callable[[PositiveCounts], NDArray[np.float64]]]] = {
    "auc": _auc,
    "ap": _average_precision,
    "oracle_f1": _oracle_f1,
    "oracle_mcc": _oracle_mcc,
    "oracle_acc_medklip": _acc_medklip,
    "oracle_f1_kad": _f1_kad,
    "oracle_acc_kad": _acc_kad,
}
RANKING_METRICS = tuple(_METRICS)


def ranking_statistics(truth: ArrayLike, score: ArrayLike) -> dict[str, Statistic]:
    """The metrics of this module for one finding, by name; all are undefined with one class.

    truth, score (N,). Evaluated together, as by `aggregate.scores`, they share one pass.
    """
    ranked = RankedScores(truth, score)
    if ranked.one_class:
        return dict.fromkeys(RANKING_METRICS, undefined)
    return each_of(ranked, RANKING_METRICS)
