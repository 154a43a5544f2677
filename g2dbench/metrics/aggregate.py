"""Scores with confidence intervals, for each finding and averaged over findings.

Legend: N images, K findings, B resamples.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from g2dbench.metrics.bootstrap import bootstrap_all
from g2dbench.metrics.labels import ones_weights
from g2dbench.metrics.statistic import Statistic, evaluate
from g2dbench.metrics.statistic import mean_over as mean_over
from g2dbench.metrics.statistic import undefined as undefined
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
    """Each metric's value with its 95 % confidence interval over patients.

    Metrics with the same array of patients are resampled together, and share work where they can.
    """
    by_patients: dict[int, dict[str, PatientStatistic]] = {}
    for name, metric in statistics.items():
        by_patients.setdefault(id(metric.patients), {})[name] = metric
    found: dict[str, Score] = {}
    for metrics in by_patients.values():
        found |= _scores_of_images(metrics)
    return {name: found[name] for name in statistics}


def _scores_of_images(metrics: Mapping[str, PatientStatistic]) -> dict[str, Score]:
    """`scores` of metrics of the same images."""
    patients = next(iter(metrics.values())).patients
    whole = evaluate([m.statistic for m in metrics.values()], ones_weights(len(patients)))
    values = {name: float(value[0]) for name, value in zip(metrics, whole, strict=True)}
    defined = {name: metrics[name].statistic for name, v in values.items() if not np.isnan(v)}
    intervals = bootstrap_all(patients, defined) if defined else {}
    return {
        name: Score(value=value, n=metrics[name].n)
        if name not in intervals
        else Score(
            value=value, low=intervals[name].low, high=intervals[name].high, n=metrics[name].n
        )
        for name, value in values.items()
    }


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
    values = evaluate(list(statistics.values()), ones_weights(len(patients)))
    defined = [s for s, v in zip(statistics.values(), values, strict=True) if not np.isnan(v[0])]
    whole = PatientStatistic(patients, mean_over(defined), int(counts.any(axis=1).sum()))
    return {name: whole, **each}
