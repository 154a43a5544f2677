"""Confidence intervals and tests: bootstrap over patients, paired tests, multiple comparisons.

Legend: N rows (images), P units (patients), B resamples, b resamples of one chunk.
A unit is sampled with all its rows. Resample b is generated from SeedSequence((seed, b)) over the
sorted unit ids. So it does not depend on the order of rows, on chunks or on the number of
resamples, and two models scored on the same rows get the same resamples.

A statistic maps multiplicities (b,N) int, how often each row is sampled, to values (b,).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from g2dbench.metrics.ratio import ratio
from g2dbench.metrics.statistic import Statistic as Statistic
from g2dbench.metrics.statistic import evaluate

RESAMPLES = 1000
CONFIDENCE_LEVEL = 0.95
_MAX_ELEMENTS = 1 << 20  # resamples x rows of one call of a statistic: 8 MB per int64 array


@dataclass(frozen=True)
class ConfidenceInterval:
    """A percentile interval; `undefined` is the share of resamples whose value is NaN.

    `low` and `high` are NaN with fewer than two units: one patient has no variance.
    """

    low: float
    high: float
    undefined: float
    resamples: int


@dataclass(frozen=True)
class Difference:
    """First minus second: value on the whole set, confidence interval and two-sided p-value.

    error: standard deviation of the resampled differences.
    """

    value: float
    low: float
    high: float
    p_value: float
    undefined: float
    error: float = float("nan")


def _unit_codes(units: ArrayLike) -> tuple[NDArray[np.intp], int]:
    """The index of each row's unit among the sorted ids, (N,), and the number of units."""
    codes, ids = pd.factorize(np.asarray(units, dtype=object), sort=True)
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        raise ValueError(f"row {row} has no patient id; give such rows a unique id")
    return np.asarray(codes, dtype=np.intp), len(ids)


def resample_generators(seed: int, resamples: int) -> Iterator[np.random.Generator]:
    """One random generator for each resample: independent of the number of resamples."""
    for b in range(resamples):
        yield np.random.default_rng(np.random.SeedSequence((seed, b)))


def _check(resamples: int, seed: int) -> None:
    if resamples < 1 or seed < 0:
        raise ValueError(f"resamples must be >= 1 and seed >= 0; found {resamples} and {seed}")


def multiplicities(
    units: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> Iterator[NDArray[np.int64]]:
    """Yield chunks (b,N): how often each row is sampled; all chunks together have `resamples` rows.

    units (N,) ids. P units are sampled with replacement, each with all its rows. In memory, the
    multiplicities of one row lie side by side: metrics that sort rows move whole lines of them.
    """
    _check(resamples, seed)
    codes, count = _unit_codes(units)
    step = max(1, _MAX_ELEMENTS // max(1, codes.size))
    chunk: list[NDArray[np.int64]] = []
    for generator in resample_generators(seed, resamples):
        sampled = generator.integers(count, size=count) if count else np.zeros(0, dtype=np.int64)
        chunk.append(np.bincount(sampled, minlength=count))
        if len(chunk) == step:
            yield np.stack(chunk, axis=1).take(codes, axis=0).T
            chunk = []
    if chunk:
        yield np.stack(chunk, axis=1).take(codes, axis=0).T


def _percentiles(values: NDArray[np.float64], level: float, units: int) -> ConfidenceInterval:
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies between 0 and 1; found {level}")
    defined = values[~np.isnan(values)]
    undefined = 1.0 - defined.size / values.size
    if units < 2 or defined.size == 0:
        return ConfidenceInterval(float("nan"), float("nan"), undefined, values.size)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return ConfidenceInterval(float(low), float(high), undefined, values.size)


def bootstrap(
    units: ArrayLike,
    statistic: Statistic,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = CONFIDENCE_LEVEL,
) -> ConfidenceInterval:
    """Percentile bootstrap confidence interval of a statistic, resampling whole patients.

    units (N,) patient ids. Resamples with a NaN are excluded; `undefined` is their share.
    Source: Efron & Tibshirani 1993, chapter 13; Field & Welsh 2007 for clusters.
    """
    found = bootstrap_all(units, {"": statistic}, resamples=resamples, seed=seed, level=level)
    return found[""]


def bootstrap_all(
    units: ArrayLike,
    statistics: Mapping[str, Statistic],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = CONFIDENCE_LEVEL,
) -> dict[str, ConfidenceInterval]:
    """`bootstrap` of several statistics of the same images: the same intervals, in one pass.

    units (N,) patient ids. Statistics that share work (see statistic.py) do it once.
    """
    values = _resampled(list(statistics.values()), units, resamples, seed)
    count = _unit_codes(units)[1]
    return {
        name: _percentiles(row, level, count) for name, row in zip(statistics, values, strict=True)
    }


def _resampled(
    statistics: Sequence[Statistic], units: ArrayLike, resamples: int, seed: int
) -> list[NDArray[np.float64]]:
    """The values (B,) of each statistic."""
    blocks = [
        evaluate(statistics, weights)
        for weights in multiplicities(units, resamples=resamples, seed=seed)
    ]
    return [np.concatenate(parts) for parts in zip(*blocks, strict=True)]


def weighted_mean(values: ArrayLike, weights: NDArray[np.integer]) -> NDArray[np.float64]:
    """Mean of per-row values in each resample, (B,), without NaN rows; NaN if no row is left."""
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or weights.ndim != 2 or weights.shape[1] != numbers.size:
        raise ValueError(f"values {numbers.shape} and weights {weights.shape} do not fit")
    defined = ~np.isnan(numbers)
    counts = weights[:, defined]
    return ratio(counts @ numbers[defined], counts.sum(axis=1))


def mean_of(values: ArrayLike) -> Statistic:
    """The statistic "mean of these per-row values", (N,), for `bootstrap`."""
    numbers = np.asarray(values, dtype=np.float64)
    return lambda weights: weighted_mean(numbers, weights)


def paired_bootstrap(
    first: Statistic,
    second: Statistic,
    units: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = CONFIDENCE_LEVEL,
) -> Difference:
    """Difference of two statistics on the same resamples: value, confidence interval, p-value.

    The two-sided p inverts the percentile interval: twice the smaller share of resamples on one
    side of 0, with 1 added to count and total. Both are expanded for few units: normal quantiles
    become Student's t with P - 1 degrees, and the bootstrap's variance, of divisor P, that of
    divisor P - 1. Without it, 6.4 % of 4,000 comparisons of equal AUCs of 30 patients had p < .05.
    NaN with fewer than two units. Sources: Davison & Hinkley 1997, 4.2; Hesterberg 2015, What
    Teachers Should Know About the Bootstrap, 5.3 (expanded percentile interval).
    """
    one, other = _resampled([first, second], units, resamples, seed)
    values = one - other
    codes, count = _unit_codes(units)
    interval = _percentiles(values, _expanded_level(level, count), count)
    one, other = evaluate([first, second], np.ones((1, codes.size), dtype=np.int64))
    whole = float(one[0] - other[0])
    defined = values[~np.isnan(values)]
    p_value = expanded_p(_two_sided_p(defined), count)
    error = float(defined.std(ddof=1)) if count > 1 and defined.size > 1 else float("nan")
    return Difference(whole, interval.low, interval.high, p_value, interval.undefined, error)


def _expanded_level(level: float, units: int) -> float:
    """The level of the percentile interval that has this level after the expansion."""
    if units < 2:
        return level
    reach = stats.t.isf((1 - level) / 2, units - 1) * np.sqrt(units / (units - 1))
    return min(1 - 2 * float(stats.norm.sf(reach)), float(np.nextafter(1.0, 0.0)))


def expanded_p(p_value: float, units: int) -> float:
    """The p of the percentile interval after the expansion for few units."""
    if units < 2:
        return float("nan")
    normal = stats.norm.isf(p_value / 2)
    return float(2 * stats.t.sf(normal * np.sqrt((units - 1) / units), units - 1))


def _two_sided_p(values: NDArray[np.float64]) -> float:
    if values.size == 0:
        return float("nan")
    smaller = min(int((values <= 0).sum()), int((values >= 0).sum()))
    return min(1.0, 2 * (smaller + 1) / (values.size + 1))


def paired_permutation(
    first: ArrayLike,
    second: ArrayLike,
    units: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> float:
    """Two-sided p-value of a permutation test that swaps the two models within each patient.

    first, second, units (N,): per-row values; the test statistic is the mean difference. Rows that
    are NaN in both are excluded. Uses all 2**P swaps if these are at most `resamples`, else a
    random sample, with 1 added to count and total. NaN without rows. AUC and mAP are not means of
    per-row values: use `paired_bootstrap` for them. Source: Phipson & Smyth 2010.
    """
    _check(resamples, seed)
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    patients = np.asarray(units, dtype=object)
    if not a.shape == b.shape == patients.shape or a.ndim != 1:
        raise ValueError(f"paired rows must fit: {a.shape}, {b.shape}, units {patients.shape}")
    if (np.isnan(a) != np.isnan(b)).any():
        row = int(np.flatnonzero(np.isnan(a) != np.isnan(b))[0])
        raise ValueError(f"row {row} has a value for one model only; the test needs both")
    defined = ~np.isnan(a)
    codes, count = _unit_codes(patients[defined])
    if count == 0:
        return float("nan")
    per_unit = np.bincount(codes, weights=(a - b)[defined], minlength=count)
    exact = count < 63 and 2**count <= resamples
    all_signs = _all_swaps(count) if exact else _random_swaps(count, resamples, seed)
    # Equal sums may differ by rounding; they count as equally extreme.
    limit = abs(per_unit.sum()) - 1e-12 * np.abs(per_unit).sum()
    extreme = int(sum((np.abs(signs @ per_unit) >= limit).sum() for signs in all_signs))
    return extreme / 2**count if exact else (extreme + 1) / (resamples + 1)


def _all_swaps(count: int) -> Iterator[NDArray[np.float64]]:
    patterns = np.arange(2**count)
    yield np.where((patterns[:, None] >> np.arange(count)) & 1, -1.0, 1.0)


def _random_swaps(count: int, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    for generator in resample_generators(seed, resamples):
        yield np.where(generator.integers(2, size=(1, count)), -1.0, 1.0)


def holm(p_values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """p-values adjusted for multiple comparisons by Holm's step-down method, in the given order.

    NaN stays NaN and does not count as a comparison. Source: Holm 1979.
    """
    given = np.asarray(p_values, dtype=np.float64)
    if given.ndim != 1 or ((given < 0) | (given > 1)).any():
        raise ValueError("p-values must be a list of numbers between 0 and 1")
    tested = np.flatnonzero(~np.isnan(given))
    order = tested[np.argsort(given[tested], kind="stable")]
    adjusted = np.full(given.shape, np.nan)
    factors = np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(given[order] * factors))
    return adjusted
