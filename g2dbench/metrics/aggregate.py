"""Findings as tables: labels of a data set, stored predictions, scores of each and of all.

Legend: N images, K findings, B resamples. Labels are 1, 0, -1 (uncertain) and NaN (not judged).
Images and findings are sorted by name on the way in, so that no score depends on the order of rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from g2dbench.metrics.bootstrap import Statistic, bootstrap
from g2dbench.metrics.classification import once
from g2dbench.result import Score


@dataclass(frozen=True)
class Measured:
    """A metric before its value: patients (N,), a statistic of their resamples, n that count."""

    patients: NDArray[np.object_]
    statistic: Statistic
    n: int

    @property
    def value(self) -> float:
        """The statistic on the whole set; NaN where it is undefined."""
        return float(self.statistic(once(len(self.patients)))[0])


def scores(measured: Mapping[str, Measured]) -> dict[str, Score]:
    """Each metric's value with its 95 % interval over patients."""
    return {name: _score(metric) for name, metric in measured.items()}


def _score(metric: Measured) -> Score:
    value = metric.value
    if np.isnan(value):
        return Score(value=value, n=metric.n)
    interval = bootstrap(metric.patients, metric.statistic)
    return Score(value=value, low=interval.low, high=interval.high, n=metric.n)


def family(
    name: str,
    patients: NDArray[np.object_],
    statistics: Mapping[str, Statistic],
    counts: NDArray[np.bool_],
) -> dict[str, Measured]:
    """`name` over all findings and `name:<finding>` for each; counts (N, K): images that count.

    The mean is over the findings whose value is defined on the whole set; a resample in which one
    of these has no value has none. The others are reported as NaN.
    """
    each = {
        f"{name}:{finding}": Measured(patients, statistic, int(counts[:, k].sum()))
        for k, (finding, statistic) in enumerate(statistics.items())
    }
    defined = [metric.statistic for metric in each.values() if not np.isnan(metric.value)]
    whole = Measured(patients, mean_over(defined), int(counts.any(axis=1).sum()))
    return {name: whole, **each}


def mean_over(statistics: Sequence[Statistic]) -> Statistic:
    """The mean of several statistics of the same images; NaN where there is none."""
    if not statistics:
        return undefined
    return lambda weights: np.mean([statistic(weights) for statistic in statistics], axis=0)


def undefined(weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """The statistic that has no value."""
    return np.full(len(weights), np.nan)
