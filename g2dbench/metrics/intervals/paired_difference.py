"""The difference between two models on the same patients, with its error, tests and power.

Legend: N images, P patients, S pairs of runs (seeds), B resamples.

One pair of runs: the interval is the percentile interval of the paired bootstrap by patient, and p
is that of a permutation test within patients for metrics that are means over images, else of the
bootstrap. It is about these two trained models. If no resample is as extreme, p is that of a t-test
with the same standard error where it is smaller: a correction for many comparisons would otherwise
make every p significant or none, as the number of resamples decides.

Several pairs: it is about the two methods. The variance over patients and the variance of each kind
of seed are added, and t has Satterthwaite's degrees of freedom. Both variances contain the
interaction of patients and seeds, so the test is slightly conservative.

Sources: Davison & Hinkley 1997, 4.2 (bootstrap); Phipson & Smyth 2010 (permutation); Satterthwaite
1946; Schuirmann 1987 (two one-sided tests); Cohen 1988 (d of paired values).
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from g2dbench.metrics.bootstrap import (
    CONFIDENCE_LEVEL,
    RESAMPLES,
    expanded_p,
    paired_bootstrap,
    paired_permutation,
)
from g2dbench.metrics.intervals.image_means import image_means
from g2dbench.metrics.labels import ones_weights
from g2dbench.metrics.statistic import Statistic, mean_over

POWER = 0.8


@dataclass(frozen=True)
class PairedDifference:
    """First minus second, in the unit of the metric; the mean over the pairs of runs.

    error, degrees: standard error and degrees of freedom, over patients and, with several pairs,
    over seeds. p_value: two-sided. test: its name. patients: those that bear the metric.
    undefined: share of resamples without a value. by_pair: the difference of each pair of runs.
    """

    value: float
    low: float
    high: float
    error: float
    degrees: float
    p_value: float
    test: str
    patients: int
    undefined: float
    by_pair: tuple[float, ...]
    patient_error: float

    @property
    def effect_size(self) -> float:
        """Cohen's d of paired values: the difference in standard deviations between patients."""
        return _divide(self.value, self.patient_error * math.sqrt(self.patients))

    @property
    def detectable(self) -> float:
        """The smallest true difference that a test at 5 % finds with a power of 80 %."""
        alpha = 1 - CONFIDENCE_LEVEL
        quantiles = stats.t.isf(alpha / 2, self.degrees) + stats.t.ppf(POWER, self.degrees)
        return float(quantiles * self.error)

    def equivalence_p(self, margin: float) -> float:
        """p of two one-sided t-tests: small if the true difference is within +-margin."""
        if math.isnan(self.error):
            return math.nan
        if self.error == 0:
            return float(abs(self.value) >= margin)
        below = stats.t.sf((self.value + margin) / self.error, self.degrees)
        above = stats.t.cdf((self.value - margin) / self.error, self.degrees)
        return float(max(below, above))


def paired_difference(
    pairs: Sequence[tuple[Statistic, Statistic]],
    patients: NDArray[np.object_],
    seeds: Mapping[str, Sequence[Hashable]] | None = None,
    resamples: int = RESAMPLES,
) -> PairedDifference:
    """Compare the first statistics of the pairs with the second ones.

    patients (N,): ids of the images. seeds: for each kind of seed, the seed of each pair; None
    takes each pair as a run of its own.
    """
    means = [np.asarray([f(ones_weights(len(patients)))[0] for f in pair]) for pair in pairs]
    by_pair = tuple(float(one - other) for one, other in means)
    first, second = (mean_over([pair[side] for pair in pairs]) for side in (0, 1))
    test = paired_bootstrap(first, second, patients, resamples=resamples)
    rows = [image_means(statistic, len(patients)) for statistic in (first, second)]
    error, bearers = test.error, len(pd.unique(patients))
    p_value, name = test.p_value, "bootstrap"
    if rows[0] is not None and rows[1] is not None and rows[0].same_images(rows[1]):
        difference = rows[0].minus(rows[1])
        error, bearers = difference.standard_error(patients), difference.patients(patients)
        zeros = np.zeros(len(patients))
        p_value = paired_permutation(difference.parts, zeros, patients, resamples=resamples)
        name = "permutation"
    found = PairedDifference(
        value=test.value,
        low=test.low,
        high=test.high,
        error=error,
        degrees=max(bearers - 1, 1),
        p_value=p_value if bearers > 1 else math.nan,
        test=name,
        patients=bearers,
        undefined=test.undefined,
        by_pair=by_pair,
        patient_error=error,
    )
    if p_value <= _smallest_p(name, bearers, resamples):
        found = replace(found, p_value=min(p_value, _t_p(test.value, error, found.degrees)))
    return _with_seeds(found, seeds or {"seed": range(len(pairs))})


def _smallest_p(test: str, patients: int, resamples: int) -> float:
    """The p of a test in which no resample is as extreme as the data; 0 if all were tried."""
    if test == "bootstrap":
        return expanded_p(2 / (resamples + 1), patients) * (1 + 1e-9)
    all_swaps = patients < 63 and 2**patients <= resamples
    return 0.0 if all_swaps else 1 / (resamples + 1)


def _t_p(value: float, error: float, degrees: float) -> float:
    """Two-sided p of Student's t; 1 without an error."""
    if not error > 0:
        return 1.0
    return 2 * float(stats.t.sf(abs(value) / error, degrees))


def _with_seeds(
    found: PairedDifference, seeds: Mapping[str, Sequence[Hashable]]
) -> PairedDifference:
    """The same with the variance of the seeds added; unchanged for a single seed of each kind."""
    variances, degrees = [found.error**2], [found.degrees]
    values = np.asarray(found.by_pair)
    for codes in {_codes(given) for given in seeds.values()}:
        means = pd.Series(values).groupby(list(codes)).mean().to_numpy()
        if len(means) > 1:
            variances.append(float(means.var(ddof=1)) / len(means))
            degrees.append(len(means) - 1)
    if len(variances) == 1:
        return found
    total = sum(variances)
    parts = sum(v**2 / d for v, d in zip(variances, degrees, strict=True))
    freedom = total**2 / parts if parts > 0 else degrees[-1]
    error = math.sqrt(total)
    reach = float(stats.t.isf((1 - CONFIDENCE_LEVEL) / 2, freedom)) * error
    p_value = 2 * float(stats.t.sf(abs(_divide(found.value, error)), freedom))
    if error == 0:
        p_value = float(found.value == 0)
    changed = {
        "low": found.value - reach, "high": found.value + reach, "error": error,
        "degrees": freedom, "p_value": p_value, "test": "t over patients and seeds",
    }  # fmt: skip
    return PairedDifference(**{**found.__dict__, **changed})


def _codes(seeds: Sequence[Hashable]) -> tuple[int, ...]:
    """Equal seeds as equal numbers, so that two names of one grouping are recognized."""
    known: dict[Hashable, int] = {}
    return tuple(known.setdefault(seed, len(known)) for seed in seeds)


def _divide(value: float, by: float) -> float:
    """Their ratio; 0 / 0 is 0."""
    if by == 0:
        return 0.0 if value == 0 else math.copysign(math.inf, value)
    return value / by
