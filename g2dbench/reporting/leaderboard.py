"""The leaderboard: a pure function of results.

Rows are models, two of one label told apart by their weights; columns are (task, data, protocol,
fraction, limit, precision). A cell is the mean over its seeds with their standard deviation. What
is missing stays missing: a dash with its reason, never an average over other columns.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean, stdev

from g2dbench.reporting import model_names
from g2dbench.result import Result, Score


@dataclass(frozen=True)
class Column:
    """What is compared: models are ranked within one column only."""

    task: str
    data: str
    protocol: str
    fraction: float
    limit: int | None
    precision: str
    metric: str

    @property
    def share(self) -> str:
        """The training share in words: "1%", or "zero" for a zero-shot task."""
        return "zero" if self.fraction == 0 else f"{self.fraction * 100:g}%"


@dataclass(frozen=True)
class Entry:
    """One model in one column.

    mean, spread: over seeds (spread NaN for a single one). low, high: the mean of the seeds' 95 %
    patient-bootstrap bounds, never narrower than the interval of the mean itself.
    """

    mean: float
    spread: float
    low: float
    high: float
    seeds: int
    n: int
    best: bool = False


@dataclass(frozen=True)
class Board:
    """The whole table. `reasons` says why a cell is missing; `notes` what a reader must know."""

    models: tuple[str, ...]
    columns: tuple[Column, ...]
    entries: dict[tuple[str, Column], Entry]
    reasons: dict[tuple[str, Column], str]
    notes: tuple[str, ...] = field(default=())


def build(results: Iterable[Result], task_order: Sequence[str] = ()) -> Board:
    """The board of these results. Of several results of one cell and model the newest counts.

    task_order: tasks in the order of their columns; others follow by name.
    """
    newest, superseded = _newest(results)
    named = model_names.names(newest)
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
    return Board(ranked, tuple(columns), entries, reasons, notes)


def _newest(results: Iterable[Result]) -> tuple[list[Result], int]:
    kept: dict[tuple[str, str], Result] = {}
    count = 0
    for result in sorted(results, key=lambda result: result.provenance.created):
        key = result.cell.model_dump_json(), result.provenance.weights
        count += key in kept
        kept[key] = result
    return list(kept.values()), count


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
    place = order.index(column.task) if column.task in order else len(order)
    named = (column.task, column.data, column.protocol)
    return (place, *named, column.fraction, column.limit or 0, column.precision)


def _entry(group: Sequence[Result]) -> Entry | None:
    found: list[Score] = [
        result.main
        for result in group
        if result.status == "done" and result.main is not None and not math.isnan(result.main.value)
    ]
    if not found:
        return None
    values = [score.value for score in found]
    return Entry(
        mean=fmean(values),
        spread=stdev(values) if len(values) > 1 else math.nan,
        low=fmean(score.low for score in found),
        high=fmean(score.high for score in found),
        seeds=len(found),
        n=min(score.n for score in found),
    )


def _reason(group: Sequence[Result]) -> str:
    for result in group:
        if result.reason:
            return f"{result.status}: {result.reason}"
    return "undefined: the test part gives the metric no value"


def _mark_best(
    entries: dict[tuple[str, Column], Entry], columns: Sequence[Column]
) -> dict[tuple[str, Column], Entry]:
    top = {
        column: max((e.mean for (_, at), e in entries.items() if at == column), default=math.nan)
        for column in columns
    }
    return {
        key: Entry(**{**entry.__dict__, "best": entry.mean == top[key[1]]})
        for key, entry in entries.items()
    }


def _rank(
    model: str, entries: dict[tuple[str, Column], Entry], columns: Sequence[Column]
) -> tuple[float, str]:
    """Mean rank over the columns that the model has; models with none come last."""
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
        older = "1 older result is" if superseded == 1 else f"{superseded} older results are"
        notes.append(f"{older} not shown: of one cell and the same weights, the newest counts.")
    if any(column.limit is not None for column in columns):
        notes.append("Columns with n<= were run with --limit: smoke tests, not scores.")
    for column in columns:
        prints = {r.provenance.data for r in results if _column(r) == column}
        if len(prints) > 1:
            notes.append(
                f"{column.task} on {column.data} mixes {len(prints)} versions of the data: "
                "its rows are not comparable."
            )
    return tuple(notes)
