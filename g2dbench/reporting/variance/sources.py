"""Shares of seeds and of test sampling in the variance of a score, for each model and column.

The variance of one run's score is the sum of what the sampled training patients, the head's
initialization, the pre-training and the sampled test patients each contribute, and of the rest. The
first three are estimated from runs that differ in these seeds. The last is in each run's interval:
all runs use the same test patients, so their spread does not show it.
"""

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

import numpy as np
from scipy.special import logit

from g2dbench.metrics.aggregate import scale_of
from g2dbench.metrics.bootstrap import CONFIDENCE_LEVEL
from g2dbench.metrics.intervals.variance_components import variance_components
from g2dbench.reporting.leaderboard.leaderboard import Column, build_leaderboard
from g2dbench.result import Cell, Result, Score

SUBSET, HEAD, PRETRAINING, REST, TEST = (
    "subset draw", "initialization", "pre-training", "rest", "test sampling",
)  # fmt: skip

FEW_LEVELS = 5
"""With fewer seeds, a variance is very uncertain, and the table says so."""


@dataclass(frozen=True)
class Source:
    """One source: its variance and its number of seeds, 0 for the rest and test sampling."""

    name: str
    variance: float
    levels: int

    @property
    def deviation(self) -> float:
        """The standard deviation that the source alone gives to a score."""
        return math.sqrt(self.variance)


@dataclass(frozen=True)
class ScoreVariance:
    """One model in one column. runs: with a score; mean: of their scores.

    notes: what the runs do not allow to estimate, and what was set to 0.
    """

    model: str
    column: Column
    metric: str
    runs: int
    mean: float
    sources: tuple[Source, ...]
    notes: tuple[str, ...]

    @property
    def total(self) -> float:
        """The variance of the score of a single run on newly sampled test patients."""
        return math.fsum(each.variance for each in self.sources)

    def share(self, source: Source) -> float:
        """The source's share of the total, NaN if nothing varies."""
        return source.variance / self.total if self.total > 0 else math.nan


def score_variances(
    results: Iterable[Result], task_order: Sequence[str] = (), metric: str | None = None
) -> list[ScoreVariance]:
    """The sources of each model and column, in the leaderboard's order.

    metric: None for the task's main score. Models and columns without a score are left out.
    """
    board = build_leaderboard(results, task_order)
    found = []
    for column in board.columns:
        for model in board.models:
            scored = [
                (run.cell, score)
                for run in board.runs.get((model, column), ())
                if (score := _score(run, metric)) is not None
            ]
            if scored:
                found.append(_variance(model, column, metric or column.metric, scored))
    return found


def _score(run: Result, metric: str | None) -> Score | None:
    if run.status != "done":
        return None
    score = run.scores.get(metric or run.metric)
    return None if score is None or not math.isfinite(score.value) else score


def _variance(
    model: str, column: Column, metric: str, scored: Sequence[tuple[Cell, Score]]
) -> ScoreVariance:
    values = [score.value for _, score in scored]
    cells = [cell for cell, _ in scored]
    factors: dict[str, Sequence[Hashable]] = {
        SUBSET: [cell.subset_seed for cell in cells],
        HEAD: [cell.seed for cell in cells],
        PRETRAINING: [cell.model_seed for cell in cells],
    }
    found = variance_components(values, factors)
    sources = [Source(n, v, found.levels[n]) for n, v in found.variances.items()]
    notes = [f"only one seed, so nothing is known of: {', '.join(found.fixed)}"] * bool(found.fixed)
    if found.residual_degrees:
        sources.append(Source(REST, found.residual, 0))
    elif sources:
        notes.append("no seeds were crossed or repeated: the seeds' shares contain the rest")
    notes += [
        f"{name}: the seeds change together, so their shares cannot be told apart"
        for name in found.variances
        if " + " in name
    ]
    if found.inseparable:
        notes.append(f"not determined by these runs: {', '.join(found.inseparable)}")
    if found.negative:
        notes.append(f"estimated below 0 and shown as 0: {', '.join(found.negative)}")
    if few := [name for name, levels in found.levels.items() if levels < FEW_LEVELS]:
        notes.append(f"fewer than {FEW_LEVELS} seeds, a rough estimate: {', '.join(few)}")
    errors = [e for _, score in scored if not math.isnan(e := standard_error(metric, score))]
    if errors:
        sources.append(Source(TEST, fmean(error**2 for error in errors), 0))
    else:
        notes.append("no run has an interval: test sampling is not known")
    return ScoreVariance(
        model, column, metric, len(scored), fmean(values), tuple(sources), tuple(notes)
    )


def standard_error(metric: str, score: Score) -> float:
    """The standard error over patients that a score's 95 % interval states.

    The interval is symmetric on the metric's own scale (see metrics/intervals/jackknife.py); NaN
    without an interval, and at the end of a scale.
    """
    reach = 2 * NormalDist().inv_cdf((1 + CONFIDENCE_LEVEL) / 2)
    value, low, high = score.value, score.low, score.high
    if not (math.isfinite(low) and math.isfinite(high)):
        return math.nan
    scale = scale_of(metric, value)
    if scale == "unit":
        if not (0 < value < 1 and low > 0 and high < 1):
            return math.nan
        return float(logit(high) - logit(low)) / reach * value * (1 - value)
    if scale == "correlation" and abs(value) < 1:
        return float(np.arctanh(high) - np.arctanh(low)) / reach * (1 - value**2)
    return (high - low) / reach
