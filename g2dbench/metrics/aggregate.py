"""Scores with confidence intervals: for each finding, averaged over findings, for each group.

Legend: N images, K findings, B resamples. Groups are of patients or images: sex, age band, view,
source.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from g2dbench.metrics.bootstrap import RESAMPLES, bootstrap_all, resample_generators
from g2dbench.metrics.intervals.jackknife import Scale, jackknife_intervals
from g2dbench.metrics.labels import ones_weights
from g2dbench.metrics.statistic import Combined, Statistic, evaluate
from g2dbench.metrics.statistic import mean_over as mean_over
from g2dbench.metrics.statistic import undefined as undefined
from g2dbench.result import Score

IntervalScale = Scale | Literal["bootstrap"]
"""bootstrap: the percentile bootstrap, for metrics that are not smooth, such as medians."""


@dataclass(frozen=True)
class PatientStatistic:
    """A metric as a function of patient resamples: patients (N,), the statistic, sample size n.

    scale: of its confidence interval; None chooses by the metric's name, see `scale_of`.
    """

    patients: NDArray[np.object_]
    statistic: Statistic
    n: int
    scale: IntervalScale | None = None

    @property
    def value(self) -> float:
        """The statistic on the whole set; NaN where it is undefined."""
        return float(self.statistic(ones_weights(len(self.patients)))[0])


def scores(statistics: Mapping[str, PatientStatistic]) -> dict[str, Score]:
    """Each metric's value with its 95 % confidence interval over patients, by the jackknife.

    A metric that is undefined without one of the patients, such as a mean over findings of which
    one has a single positive patient, gets the percentile bootstrap of the defined resamples.
    Metrics with the same array of patients are resampled together, and share work where they can.
    """
    by_patients: dict[int, dict[str, PatientStatistic]] = {}
    for name, metric in statistics.items():
        by_patients.setdefault(id(metric.patients), {})[name] = metric
    found: dict[str, Score] = {}
    for metrics in by_patients.values():
        found |= _scores_of_images(metrics)
    return {name: found[name] for name in statistics}


_REAL = ("hd95", "assd", "cnr", "signed_cnr", "entropy", "temperature")
_CORRELATIONS = ("mcc", "oracle_mcc")
_NOT_SMOOTH = ("median_rank", "_gap", "_lowest", "_highest", "relative_drop")


def scale_of(name: str, value: float) -> IntervalScale:
    """The scale of a metric by its name without finding or group; "unit" for values in [0, 1]."""
    metric = name.partition(":")[0].partition("@")[0]
    if metric.endswith(_NOT_SMOOTH):
        return "bootstrap"
    if metric in _CORRELATIONS:
        return "correlation"
    return "real" if metric.startswith(_REAL) or not 0 <= value <= 1 else "unit"


def _scores_of_images(metrics: Mapping[str, PatientStatistic]) -> dict[str, Score]:
    """`scores` of metrics of the same images."""
    patients = next(iter(metrics.values())).patients
    whole = evaluate([m.statistic for m in metrics.values()], ones_weights(len(patients)))
    values = {name: float(value[0]) for name, value in zip(metrics, whole, strict=True)}
    found = {name: Score(value=value, n=metrics[name].n) for name, value in values.items()}
    scales = {
        name: metrics[name].scale or scale_of(name, value)
        for name, value in values.items()
        if not np.isnan(value)
    }
    smooth = {name: s for name, s in scales.items() if s != "bootstrap"}
    resampled = [name for name in scales if name not in smooth]
    if smooth:
        statistics = {name: metrics[name].statistic for name in smooth}
        for name, limit in jackknife_intervals(patients, statistics, values, smooth).items():
            limits = {"low": limit.low, "high": limit.high, "bearers": limit.bearers}
            found[name] = found[name].model_copy(update=limits)
            if limit.undefined and limit.bearers > 1:
                resampled.append(name)  # undefined without one of the patients
    if resampled:
        statistics = {name: metrics[name].statistic for name in resampled}
        for name, interval in bootstrap_all(patients, statistics).items():
            limits = {"low": interval.low, "high": interval.high, "undefined": interval.undefined}
            found[name] = found[name].model_copy(update=limits)
    return found


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


def within(statistic: Statistic, images: NDArray[np.bool_]) -> Statistic:
    """The statistic of some of the images, (N,) bool: the others get the multiplicity 0."""
    return lambda weights: statistic(weights * images)


def per_group(
    name: str, metric: PatientStatistic, groups: ArrayLike, counts: NDArray[np.bool_] | None = None
) -> dict[str, PatientStatistic]:
    """A metric in each group of images, and the gap between groups.

    groups (N,): group of each image, None or NaN where unknown. counts (N,): images that the metric
    includes; None for all. Gives `name@<group>` for each group; `name_gap`, largest minus smallest
    value; `name_lowest` and `name_highest`. The last three are over the groups that are defined on
    the whole set; they are NaN for fewer than two, and in a resample where one is undefined.
    The gap of equal groups is above 0 by chance, and so is its interval: see `gap_p_value`.
    """
    names, masks = _groups(groups, len(metric.patients))
    included = np.ones(len(metric.patients), dtype=bool) if counts is None else counts
    each = {
        f"{name}@{group}": PatientStatistic(
            metric.patients, within(metric.statistic, mask), int((mask & included).sum())
        )
        for group, mask in zip(names, masks, strict=True)
    }
    defined = [k for k, m in enumerate(each.values()) if not np.isnan(m.value)]
    parts = [list(each.values())[k].statistic for k in defined]
    n = int((masks[defined].any(axis=0) & included).sum()) if defined else 0
    whole = {
        f"{name}_{kind}": PatientStatistic(metric.patients, _over_groups(parts, kind), n)
        for kind in _OVER_GROUPS
    }
    return {**whole, **each}


def _groups(groups: ArrayLike, images: int) -> tuple[list[str], NDArray[np.bool_]]:
    """Names of the groups, sorted, and the images of each, (G,N)."""
    codes, names = pd.factorize(np.asarray(groups, dtype=object), sort=True)
    if codes.shape != (images,):
        raise ValueError(f"groups {codes.shape} do not fit {images} images")
    return [str(name) for name in names], codes == np.arange(len(names))[:, None]


_OVER_GROUPS: Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "gap": lambda values: np.asarray(np.ptp(values, axis=0)),
    "lowest": lambda values: np.asarray(values.min(axis=0)),
    "highest": lambda values: np.asarray(values.max(axis=0)),
}


def _over_groups(parts: Sequence[Statistic], kind: str) -> Statistic:
    return Combined(tuple(parts), _OVER_GROUPS[kind]) if len(parts) > 1 else undefined


def gap_p_value(
    metric: PatientStatistic, groups: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> float:
    """One-sided p-value of the gap between groups of patients, by a permutation test.

    Groups are shuffled among the patients that have one; all images of a patient have the same, or
    ValueError. Shuffles in which a group is undefined are excluded; 1 is added to count and total.
    NaN for fewer than two groups, or if one is undefined. Source: Phipson & Smyth 2010,
    Permutation P-values Should Never Be Zero.
    """
    names, masks = _groups(groups, len(metric.patients))
    known = masks.any(axis=0)
    patient, owners = pd.factorize(metric.patients[known])
    group = np.where(known, masks.argmax(axis=0), -1)[known]
    of_patient = np.zeros(len(owners), dtype=np.int64)
    of_patient[patient] = group
    if (of_patient[patient] != group).any():
        raise ValueError("a patient has images of two groups: shuffling needs one of each patient")
    shuffled = [g.permutation(of_patient) for g in resample_generators(seed, resamples)]
    values = np.full((resamples + 1, len(names)), np.nan)
    for row, order in enumerate([of_patient, *shuffled]):
        weights = np.zeros((len(names), len(metric.patients)), dtype=np.int64)
        weights[:, known] = order[patient] == np.arange(len(names))[:, None]
        values[row] = metric.statistic(weights)
    gaps = np.ptp(values, axis=1) if len(names) > 1 else np.full(resamples + 1, np.nan)
    if np.isnan(gaps[0]):
        return float("nan")
    by_chance = gaps[1:][~np.isnan(gaps[1:])]
    extreme = int((by_chance >= gaps[0] - 1e-12).sum())
    return float((extreme + 1) / (by_chance.size + 1))
