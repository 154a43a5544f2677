"""Columns and entries of the leaderboard: what is one setting, and how its runs are summarized."""

import json
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from g2dbench.result import Result, Score

FEW_BEARERS = 10
"""With fewer patients that bear a score, its interval hangs on single patients."""


@dataclass(frozen=True)
class Column:
    """One setting of an evaluation; models are ranked within one column only.

    settings: a number if results under one protocol name have different settings, else 0.
    """

    task: str
    data: str
    protocol: str
    fraction: float
    limit: int | None
    precision: str
    metric: str
    draw: str = "covering"
    shots: int | None = None
    validation: str = "full"
    settings: int = 0

    @property
    def share(self) -> str:
        """The training patients as text: "1%", "4-shot", or "zero" for a zero-shot task."""
        if self.shots is not None:
            return f"{self.shots}-shot"
        return "zero" if self.fraction == 0 else f"{self.fraction * 100:g}%"


@dataclass(frozen=True)
class Entry:
    """One model in one column.

    mean: over the runs with a score. spread: standard deviation over training seeds (of the mean
    over subsets); subset_spread: over subset seeds (of the mean over training seeds). NaN for a
    single seed of the kind. low, high: mean over runs of the bounds of the 95 % interval over
    patients, which is never narrower than the interval of the mean itself. seeds: number of runs
    with a score; runs: number of all. n: the smallest number of test images. bearers: the smallest
    number of patients that bear the score, None if not counted.
    """

    mean: float
    spread: float
    low: float
    high: float
    seeds: int
    n: int
    best: bool = False
    subset_spread: float = math.nan
    runs: int = 0
    bearers: int | None = None

    @property
    def is_fragile(self) -> bool:
        """Whether fewer than ten patients bear the score."""
        return self.bearers is not None and self.bearers < FEW_BEARERS


FactTable = Mapping[tuple[str, Column], Mapping[str, str]]
"""Model and column -> name of a fact -> its text, see `facts.py`."""


def entry_of(group: Sequence[Result]) -> Entry | None:
    """The summary of the runs of one model in one column; None if none has a score."""
    scored = [(result, score) for result in group if (score := _score(result)) is not None]
    if not scored:
        return None
    values = [score.value for _, score in scored]
    cells = [result.cell for result, _ in scored]
    training = [(cell.model_seed, cell.seed) for cell in cells]
    subsets = [cell.subset_seed for cell in cells]
    bearers = [score.bearers for _, score in scored if score.bearers is not None]
    together = len(set(zip(training, subsets, strict=True))) == len(set(training))
    return Entry(
        mean=fmean(values),
        spread=_spread(values, training),
        low=fmean(score.low for _, score in scored),
        high=fmean(score.high for _, score in scored),
        seeds=len(scored),
        n=min(score.n for _, score in scored),
        # One subset for each training seed: the two sources cannot be told apart.
        subset_spread=math.nan if together and len(set(training)) > 1 else _spread(values, subsets),
        runs=len(group),
        bearers=min(bearers) if bearers else None,
    )


def _score(result: Result) -> Score | None:
    """The main score of a finished run; None if it has none, or an undefined one."""
    main = result.main if result.status == "done" else None
    return None if main is None or math.isnan(main.value) else main


def _spread(values: Sequence[float], seeds: Iterable[Hashable]) -> float:
    """Standard deviation of the means of each seed; NaN for fewer than two seeds."""
    if len(values) < 2:
        return math.nan
    by_seed: dict[Hashable, list[float]] = defaultdict(list)
    for value, seed in zip(values, seeds, strict=True):
        by_seed[seed].append(value)
    means = [fmean(each) for each in by_seed.values()]
    return stdev(means) if len(means) > 1 else math.nan


def reason_of(group: Sequence[Result]) -> str:
    """Why runs have no score."""
    for result in group:
        if result.reason:
            return f"{result.status}: {result.reason}"
    return "undefined: the metric has no value on the test split"


def columns_of(results: Sequence[Result]) -> list[Column]:
    """The column of each result."""
    seen: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    texts: dict[int, str] = {}  # many results of an index share their settings
    numbers = []
    for result in results:
        settings = result.provenance.config.get("protocol")
        if settings is None:
            numbers.append(0)
            continue
        if (text := texts.get(id(settings))) is None:
            text = texts[id(settings)] = json.dumps(settings, sort_keys=True)
        known = seen[result.cell.task, result.cell.protocol]
        numbers.append(known.setdefault(text, len(known) + 1))
    columns: dict[Column, Column] = {}
    found = (
        _column(result, number if len(seen[result.cell.task, result.cell.protocol]) > 1 else 0)
        for result, number in zip(results, numbers, strict=True)
    )
    return [columns.setdefault(column, column) for column in found]


def _column(result: Result, settings: int) -> Column:
    cell = result.cell
    return Column(
        task=cell.task,
        data=cell.data,
        protocol=cell.protocol,
        fraction=cell.fraction,
        limit=cell.limit,
        precision=cell.precision,
        metric=result.metric,
        draw=cell.draw,
        shots=cell.shots,
        validation=cell.validation,
        settings=settings,
    )
