"""How sure a number is: patient-cluster bootstrap, paired tests, correction for many comparisons.

Legend: N rows (images), P units (patients), B resamples.
A unit is drawn with all its rows. Resample b comes from SeedSequence((seed, b)) over the sorted
unit ids: it depends neither on the order of the rows, nor on chunks, nor on how many resamples are
asked for, and two models scored on the same rows see the same resamples.

A statistic maps multiplicities (b,N) int to values (b,). It is called in chunks of rows of b.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from g2dbench.metrics.ratio import ratio

Statistic = Callable[[NDArray[np.int64]], NDArray[np.float64]]

RESAMPLES = 1000
LEVEL = 0.95
_CELLS = 1 << 20  # resamples x rows handed to a statistic at once: 8 MB per int64 array


@dataclass(frozen=True)
class Interval:
    """A percentile interval; `undefined` is the share of resamples that had no value.

    `low` and `high` are NaN with fewer than two units: one patient says nothing about others.
    """

    low: float
    high: float
    undefined: float
    resamples: int


@dataclass(frozen=True)
class Difference:
    """First minus second: the value on the whole set, its interval and a two-sided p-value."""

    value: float
    low: float
    high: float
    p_value: float
    undefined: float


def _unit_codes(units: ArrayLike) -> tuple[NDArray[np.intp], int]:
    """Row -> position of its unit among the sorted ids, and the number of units."""
    codes, ids = pd.factorize(np.asarray(units, dtype=object), sort=True)
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        raise ValueError(f"row {row} has no patient; give rows without one an id of their own")
    return np.asarray(codes, dtype=np.intp), len(ids)


def _generators(seed: int, resamples: int) -> Iterator[np.random.Generator]:
    for b in range(resamples):
        yield np.random.default_rng(np.random.SeedSequence((seed, b)))


def _check(resamples: int, seed: int) -> None:
    if resamples < 1 or seed < 0:
        raise ValueError(f"resamples must be >= 1 and seed >= 0; found {resamples} and {seed}")


def multiplicities(
    units: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> Iterator[NDArray[np.int64]]:
    """Chunks (b,N) of how often each row is drawn; all chunks together have `resamples` rows.

    units (N,) ids; P units are drawn with replacement P times, each bringing all its rows.
    """
    _check(resamples, seed)
    codes, count = _unit_codes(units)
    step = max(1, _CELLS // max(1, codes.size))
    chunk: list[NDArray[np.int64]] = []
    for generator in _generators(seed, resamples):
        drawn = generator.integers(count, size=count) if count else np.zeros(0, dtype=np.int64)
        chunk.append(np.bincount(drawn, minlength=count))
        if len(chunk) == step:
            yield np.stack(chunk)[:, codes]
            chunk = []
    if chunk:
        yield np.stack(chunk)[:, codes]


def _values(statistic: Statistic, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    values = np.asarray(statistic(weights), dtype=np.float64)
    if values.shape != (len(weights),):
        raise ValueError(f"the statistic gave {values.shape} for {len(weights)} resamples")
    return values


def _percentiles(values: NDArray[np.float64], level: float, units: int) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval lies between 0 and 1; found {level}")
    defined = values[~np.isnan(values)]
    undefined = 1.0 - defined.size / values.size
    if units < 2 or defined.size == 0:
        return Interval(float("nan"), float("nan"), undefined, values.size)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), undefined, values.size)


def bootstrap(
    units: ArrayLike,
    statistic: Statistic,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """Percentile interval of a statistic under resampling of whole patients.

    units (N,) patient ids. Resamples where the statistic is NaN are left out and their share told.
    Source: Efron & Tibshirani 1993, chapter 13; Field & Welsh 2007 for clusters.
    """
    chunks = multiplicities(units, resamples=resamples, seed=seed)
    values = np.concatenate([_values(statistic, weights) for weights in chunks])
    return _percentiles(values, level, _unit_codes(units)[1])


def weighted_mean(values: ArrayLike, weights: NDArray[np.integer]) -> NDArray[np.float64]:
    """Mean of per-row values in each resample, (B,); NaN rows are left out, NaN if none is left."""
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or weights.ndim != 2 or weights.shape[1] != numbers.size:
        raise ValueError(f"values {numbers.shape} and weights {weights.shape} do not fit")
    defined = ~np.isnan(numbers)
    drawn = weights[:, defined]
    total = drawn.sum(axis=1)
    return ratio(drawn @ numbers[defined], total)


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
    level: float = LEVEL,
) -> Difference:
    """Difference of two statistics of the same rows, drawn together: value, interval, p.

    p is two-sided by inverting the percentile interval: twice the smaller share of resamples on
    one side of 0, one added to count and total (Davison & Hinkley 1997, 4.2), so at least
    2 / (resamples + 1). NaN with fewer than two units.
    """

    def difference(weights: NDArray[np.int64]) -> NDArray[np.float64]:
        return _values(first, weights) - _values(second, weights)

    chunks = multiplicities(units, resamples=resamples, seed=seed)
    values = np.concatenate([_values(difference, weights) for weights in chunks])
    codes, count = _unit_codes(units)
    interval = _percentiles(values, level, count)
    whole = float(difference(np.ones((1, codes.size), dtype=np.int64))[0])
    p_value = _sign_p(values[~np.isnan(values)]) if count > 1 else float("nan")
    return Difference(whole, interval.low, interval.high, p_value, interval.undefined)


def _sign_p(values: NDArray[np.float64]) -> float:
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
    """Two-sided p of "the two models are exchangeable within each patient", by swapping them.

    first, second, units (N,): per-row values; the test statistic is the mean difference. Rows NaN
    in both are left out. All 2**P swaps if no more than `resamples`, else a random sample, one
    added to count and total. NaN without rows. For a metric that is no mean of per-row values
    (AUC, mAP) swapping scores of two models mixes their scales: use `paired_bootstrap`.
    """
    _check(resamples, seed)
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    owners = np.asarray(units, dtype=object)
    if not a.shape == b.shape == owners.shape or a.ndim != 1:
        raise ValueError(f"paired rows must fit: {a.shape}, {b.shape}, units {owners.shape}")
    if (np.isnan(a) != np.isnan(b)).any():
        row = int(np.flatnonzero(np.isnan(a) != np.isnan(b))[0])
        raise ValueError(f"row {row} has a value in one model only; the test needs pairs")
    kept = ~np.isnan(a)
    codes, count = _unit_codes(owners[kept])
    if count == 0:
        return float("nan")
    per_unit = np.bincount(codes, weights=(a - b)[kept], minlength=count)
    exact = count < 63 and 2**count <= resamples
    swapped = _all_swaps(count) if exact else _some_swaps(count, resamples, seed)
    # Equal sums may differ in the last bits; they count as equally extreme.
    limit = abs(per_unit.sum()) - 1e-12 * np.abs(per_unit).sum()
    extreme = int(sum((np.abs(signs @ per_unit) >= limit).sum() for signs in swapped))
    return extreme / 2**count if exact else (extreme + 1) / (resamples + 1)


def _all_swaps(count: int) -> Iterator[NDArray[np.float64]]:
    patterns = np.arange(2**count)
    yield np.where((patterns[:, None] >> np.arange(count)) & 1, -1.0, 1.0)


def _some_swaps(count: int, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    for generator in _generators(seed, resamples):
        yield np.where(generator.integers(2, size=(1, count)), -1.0, 1.0)


def holm(p_values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm's step-down correction: p-values adjusted for their number, in the given order.

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
