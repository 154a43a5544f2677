"""Scores with confidence intervals, for each finding and averaged over findings.

Legend: N images, K findings, B resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from g2dbench.metrics.bootstrap import Statistic, bootstrap
from g2dbench.metrics.classification import ones_weights
from g2dbench.result import Score


@dataclass(frozen=True)
class PatientStatistic:
    """A metric as a function of patient resamples: patients (N,), the statistic, sample size n."""

    patients: NDArray[np.object_]
    statistic: Statistic
    n: int

    @property
    def value(self) -> float:
        """The statistic on the whole set; NaN where it is undefined."""
        return float(self.statistic(ones_weights(len(self.patients)))[0])


def scores(statistics: Mapping[str, PatientStatistic]) -> dict[str, Score]:
    """Each metric's value with its 95 % confidence interval over patients."""
    return {name: _score(metric) for name, metric in statistics.items()}


def _score(metric: PatientStatistic) -> Score:
    value = metric.value
    if np.isnan(value):
        return Score(value=value, n=metric.n)
    interval = bootstrap(metric.patients, metric.statistic)
    return Score(value=value, low=interval.low, high=interval.high, n=metric.n)


def per_finding(
    name: str,
    patients: NDArray[np.object_],
    statistics: Mapping[str, Statistic],
    counts: NDArray[np.bool_],
) -> dict[str, PatientStatistic]:
    """`name:<finding>` for each finding and `name`, their mean; counts (N, K): images included.

    The mean is over the findings that are defined on the whole set; it is NaN in a resample in
    which one of them is undefined. Findings that are undefined on the whole set are NaN.
    """
    each = {
        f"{name}:{finding}": PatientStatistic(patients, statistic, int(counts[:, k].sum()))
        for k, (finding, statistic) in enumerate(statistics.items())
    }
    defined = [metric.statistic for metric in each.values() if not np.isnan(metric.value)]
    whole = PatientStatistic(patients, mean_over(defined), int(counts.any(axis=1).sum()))
    return {name: whole, **each}


def mean_over(statistics: Sequence[Statistic]) -> Statistic:
    """The mean of several statistics of the same images; NaN for an empty list."""
    if not statistics:
        return undefined
    return lambda weights: np.mean([statistic(weights) for statistic in statistics], axis=0)


def undefined(weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """The statistic that is NaN in every resample."""
    return np.full(len(weights), np.nan)
