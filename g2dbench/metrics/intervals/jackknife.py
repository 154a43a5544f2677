"""Confidence intervals by the delete-one-patient jackknife, on the scale of the metric.

Legend: N images, P patients, G groups of patients.

Each patient is left out once with all images, or, for more than `MAX_GROUPS` patients, each of
`MAX_GROUPS` groups of patients. The variance of these values gives a symmetric interval on a
transformed scale: log odds for metrics between 0 and 1, Fisher's z for correlations, the metric
itself for others. For the AUC this is DeLong's variance with clusters on the logit scale.
The percentile bootstrap, which we used before, covered an AUC of .95 with 30 patients in 78 % of
samples instead of 95 %; docs/statistics.md has the table and `benchmarks/coverage.py` makes it.

A value at the end of its scale has no variance. Its interval is then the exact binomial one for as
many trials as patients bear the metric: at 1, from (alpha / 2) ** (1 / P) to 1.

Sources: Efron & Stein 1981; Obuchowski 1997 for clustered ROC data; Qin & Hotilovac 2008 compare
intervals of the AUC; Shao & Tu 1995, chapter 2, for groups.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import expit, logit

from g2dbench.metrics.statistic import Statistic, evaluate

Scale = Literal["unit", "correlation", "real"]
"""unit: between 0 and 1. correlation: between -1 and 1. real: any number."""

MAX_GROUPS = 400
_BLOCK = 1 << 20  # weights held at once


@dataclass(frozen=True)
class Interval:
    """A confidence interval; NaN if it cannot be computed.

    bearers: patients (or groups) without whom the value changes. undefined: share of the values
    with a patient left out that are undefined; such a metric hangs on single patients.
    """

    low: float
    high: float
    bearers: int
    undefined: float


def jackknife_intervals(
    patients: ArrayLike,
    statistics: Mapping[str, Statistic],
    values: Mapping[str, float],
    scales: Mapping[str, Scale],
    level: float = 0.95,
) -> dict[str, Interval]:
    """The interval of each statistic of the same images.

    patients: (N,) ids. values: of the statistics on all images. A value that is undefined without
    one of the patients has no interval.
    """
    codes, groups = _groups(patients)
    rows = _left_out(list(statistics.values()), codes, groups)
    return {
        name: _interval(values[name], left_out, scales[name], level)
        for name, left_out in zip(statistics, rows, strict=True)
    }


def _groups(patients: ArrayLike) -> tuple[NDArray[np.intp], int]:
    """The group of each image (N,) and the number of groups.

    With many patients, groups are formed by a hash of the ids, so that they do not depend on order.
    """
    codes, ids = pd.factorize(np.asarray(patients, dtype=object), sort=True)
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        raise ValueError(f"row {row} has no patient id; give such rows a unique id")
    count = len(ids)
    if count <= MAX_GROUPS:
        return np.asarray(codes, dtype=np.intp), count
    digests = [hashlib.sha256(str(name).encode(errors="backslashreplace")).digest() for name in ids]
    rank = np.argsort(np.argsort(np.array(digests, dtype="S32"), kind="stable"), kind="stable")
    return np.asarray((rank % MAX_GROUPS)[codes], dtype=np.intp), MAX_GROUPS


def _left_out(
    statistics: Sequence[Statistic], codes: NDArray[np.intp], groups: int
) -> list[NDArray[np.float64]]:
    """The values (G,) of each statistic with each of the groups left out."""
    step = max(1, _BLOCK // max(1, codes.size))
    blocks = []
    for start in range(0, groups, step):
        without = np.arange(start, min(start + step, groups))[:, None]
        blocks.append(evaluate(statistics, (codes != without).astype(np.int64)))
    return [np.concatenate(parts) for parts in zip(*blocks, strict=True)]


def _interval(value: float, left_out: NDArray[np.float64], scale: Scale, level: float) -> Interval:
    undefined = float(np.isnan(left_out).mean())
    bearers = int((left_out != value).sum())  # NaN differs from every number
    if np.isnan(value) or undefined > 0 or left_out.size < 2:
        return Interval(float("nan"), float("nan"), bearers, undefined)
    count = left_out.size
    # The jackknife's variance with count instead of count - 1: a little wider for few patients.
    error = float(np.sqrt(((left_out - left_out.mean()) ** 2).sum()))
    tail = (1 - level) / 2
    if error == 0 or (scale == "unit" and value in (0.0, 1.0)):
        low, high = _at_the_end(value, scale, count, tail)
        return Interval(low, high, bearers, undefined)
    width = float(stats.norm.isf(tail)) * error
    low, high = _on_scale(value, width, scale)
    return Interval(low, high, bearers, undefined)


def _on_scale(value: float, width: float, scale: Scale) -> tuple[float, float]:
    """The limits: symmetric on the transformed scale, by the delta method."""
    if scale == "unit" and 0 < value < 1:
        center, reach = float(logit(value)), width / (value * (1 - value))
        return float(expit(center - reach)), float(expit(center + reach))
    if scale == "correlation" and -1 < value < 1:
        center, reach = np.arctanh(value), width / (1 - value**2)
        return float(np.tanh(center - reach)), float(np.tanh(center + reach))
    return value - width, value + width


def _at_the_end(value: float, scale: Scale, count: int, tail: float) -> tuple[float, float]:
    """The exact binomial interval at 0 and 1; elsewhere, equal values say nothing: NaN."""
    bound = tail ** (1 / count)
    if scale == "unit" and value == 1:
        return bound, 1.0
    if scale == "unit" and value == 0:
        return 0.0, 1 - bound
    return float("nan"), float("nan")
