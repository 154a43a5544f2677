"""The leaderboard: a pure function of results.

Rows are models; two models with the same label are distinguished by their weights. Columns are
(task, data, protocol, fraction, limit, precision). An entry is the mean over seeds with their
standard deviation. A missing entry is printed as a dash with its reason; no average over columns is
computed.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean, stdev

from g2dbench.reporting import model_names
from g2dbench.result import Result, Score
from g2dbench.system.counts import counted


@dataclass(frozen=True)
class Column:
    """One setting of an evaluation; models are ranked within one column only."""

    task: str
    data: str
    protocol: str
    fraction: float
    limit: int | None
    precision: str
    metric: str

    @property
    def share(self) -> str:
        """The fraction of the training patients as text: "1%", or "zero" for a zero-shot task."""
        return "zero" if self.fraction == 0 else f"{self.fraction * 100:g}%"


@dataclass(frozen=True)
class Entry:
    """One model in one column.

    mean, spread: mean and standard deviation over seeds (NaN for a single seed). low, high: mean
    over seeds of the bounds of the 95 % patient-bootstrap interval, which is never narrower than
    the interval of the mean itself. n: the smallest number of test images of the seeds.
    """

    mean: float
    spread: float
    low: float
    high: float
    seeds: int
    n: int
    best: bool = False


@dataclass(frozen=True)
class Leaderboard:
    """The table. `reasons`: why entries are missing. `notes`: what readers need to know."""

    models: tuple[str, ...]
    columns: tuple[Column, ...]
    entries: dict[tuple[str, Column], Entry]
    reasons: dict[tuple[str, Column], str]
    notes: tuple[str, ...] = field(default=())


def build_leaderboard(results: Iterable[Result], task_order: Sequence[str] = ()) -> Leaderboard:
    """The leaderboard of these results; of several results of one cell and model, the newest.

    task_order: tasks in the order of their columns; other tasks follow, sorted by name.
    """
    newest, superseded = _newest(results)
    named = model_names.name_models(newest)
    groups: dict[tuple[str, Column], list[Result]] = defaultdict(list)
    for result in newest:
        groups[named.of(result), _column(result)].append(result)
    scored = {key: _entry(group) for key, group in groups.items()}
    entries = {key: entry for key, entry in scored.items() if entry is not None}
    reasons = {key: _reason(groups[key]) for key in groups if key not in entries}
    columns = sorted({c for _, c in groups}, key=partial(_column_order, order=task_order))
    models = sorted({model for model, _ in groups})
    entries = _mark_best(entries, columns)
    ranked = tuple(sorted(models, key=lambda model: _rank(model, entries, columns)))
    notes = (*named.notes(), *_notes(newest, superseded, columns))
    return Leaderboard(ranked, tuple(columns), entries, reasons, notes)


def _newest(results: Iterable[Result]) -> tuple[list[Result], int]:
    newest: dict[tuple[str, str], Result] = {}
    superseded = 0
    for result in sorted(results, key=lambda result: result.provenance.created):
        key = result.cell.model_dump_json(), result.provenance.weights
        superseded += key in newest
        newest[key] = result
    return list(newest.values()), superseded


def _column(result: Result) -> Column:
    cell = result.cell
    return Column(
        cell.task,
        cell.data,
        cell.protocol,
        cell.fraction,
        cell.limit,
        cell.precision,
        result.metric,
    )


def _column_order(column: Column, order: Sequence[str]) -> tuple[object, ...]:
    position = order.index(column.task) if column.task in order else len(order)
    names = (column.task, column.data, column.protocol)
    return (position, *names, column.fraction, column.limit or 0, column.precision)


def _entry(group: Sequence[Result]) -> Entry | None:
    scores: list[Score] = [
        result.main
        for result in group
        if result.status == "done" and result.main is not None and not math.isnan(result.main.value)
    ]
    if not scores:
        return None
    values = [score.value for score in scores]
    return Entry(
        mean=fmean(values),
        spread=stdev(values) if len(values) > 1 else math.nan,
        low=fmean(score.low for score in scores),
        high=fmean(score.high for score in scores),
        seeds=len(scores),
        n=min(score.n for score in scores),
    )


def _reason(group: Sequence[Result]) -> str:
    for result in group:
        if result.reason:
            return f"{result.status}: {result.reason}"
    return "undefined: the metric has no value on the test split"


def _mark_best(
    entries: dict[tuple[str, Column], Entry], columns: Sequence[Column]
) -> dict[tuple[str, Column], Entry]:
    best = {
        column: max((e.mean for (_, at), e in entries.items() if at == column), default=math.nan)
        for column in columns
    }
    return {
        key: Entry(**{**entry.__dict__, "best": entry.mean == best[key[1]]})
        for key, entry in entries.items()
    }


def _rank(
    model: str, entries: dict[tuple[str, Column], Entry], columns: Sequence[Column]
) -> tuple[float, str]:
    """Mean rank over the columns in which the model has a score; models without one are last."""
    ranks = []
    for column in columns:
        if (own := entries.get((model, column))) is not None:
            others = [e.mean for (_, at), e in entries.items() if at == column]
            ranks.append(1 + sum(mean > own.mean for mean in others))
    return (fmean(ranks) if ranks else math.inf, model)


def _notes(
    results: Sequence[Result], superseded: int, columns: Sequence[Column]
) -> tuple[str, ...]:
    notes = []
    if superseded:
        notes.append(
            f"{counted(superseded, 'older result')} not shown: of several results of one cell and "
            "the same weights, only the newest is used."
        )
    if any(column.limit is not None for column in columns):
        notes.append("Columns with n<= were run with --limit: they are smoke tests, not scores.")
    for column in columns:
        fingerprints = {r.provenance.data for r in results if _column(r) == column}
        if len(fingerprints) > 1:
            notes.append(
                f"{column.task} on {column.data} mixes {len(fingerprints)} versions of the data: "
                "its rows are not comparable."
            )
    return tuple(notes)
