"""The leaderboard: a pure function of results.

Rows are models; two models with the same label are distinguished by their weights. Columns are
(task, data, protocol, fraction, ...). An entry is the mean over seeds with their
standard deviation. A missing entry is printed as a dash with its reason; no average over columns is
computed. What is bold needs the predictions: see `significance.py`.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from g2dbench.reporting import model_names
from g2dbench.reporting.leaderboard.entries import Column as Column
from g2dbench.reporting.leaderboard.entries import Entry as Entry
from g2dbench.reporting.leaderboard.entries import columns_of, entry_of, reason_of
from g2dbench.reporting.leaderboard.ranks import Rank, RankKind, rank_models
from g2dbench.result import Result
from g2dbench.system.counts import counted

Entries = dict[tuple[str, Column], Entry]
Runs = Mapping[tuple[str, Column], Sequence[Result]]


@dataclass(frozen=True)
class Leaderboard:
    """The table. `reasons`: why entries are missing. `notes`: what readers need to know.

    runs: the results behind each entry. ranks: over the columns, of models with a score. bold: what
    bold means in this table, "" if nothing is bold.
    """

    models: tuple[str, ...]
    columns: tuple[Column, ...]
    entries: Entries
    reasons: dict[tuple[str, Column], str]
    notes: tuple[str, ...] = field(default=())
    runs: Runs = field(default_factory=dict)
    ranks: Mapping[str, Rank] = field(default_factory=dict)
    bold: str = ""


def without_limited(results: Iterable[Result]) -> tuple[list[Result], int]:
    """The results on all test images, and the number of those that were run with --limit."""
    every = list(results)
    kept = [result for result in every if result.cell.limit is None]
    return kept, len(every) - len(kept)


def build_leaderboard(
    results: Iterable[Result], task_order: Sequence[str] = (), rank: RankKind = "mean"
) -> Leaderboard:
    """The leaderboard of these results; of several results of one cell and model, the newest.

    task_order: tasks in the order of their columns; other tasks follow, sorted by name. rank: the
    order of the models.
    """
    newest, superseded = _newest(results)
    named = model_names.name_models(result for result, _ in newest)
    groups: dict[tuple[str, Column], list[Result]] = defaultdict(list)
    for result, column in newest:
        groups[named.of(result), column].append(result)
    scored = {key: entry_of(group) for key, group in groups.items()}
    entries = {key: entry for key, entry in scored.items() if entry is not None}
    reasons = {
        key: reason_of(group)
        for key, group in groups.items()
        if key not in entries or entries[key].seeds < entries[key].runs
    }
    columns = sorted({c for _, c in groups}, key=partial(_column_order, order=task_order))
    ranks = rank_models(entries)
    keys = {model: each.key(rank) for model, each in ranks.items()}
    models = sorted({model for model, _ in groups}, key=lambda m: (keys.get(m, math.inf), m))
    notes = (*named.notes(), *_notes(groups, entries, superseded, columns))
    return Leaderboard(tuple(models), tuple(columns), entries, reasons, notes, dict(groups), ranks)


def _newest(results: Iterable[Result]) -> tuple[list[tuple[Result, Column]], int]:
    """The newest result of each cell, weights and protocol settings; the number of the others."""
    every = sorted(results, key=lambda result: result.provenance.created)
    newest = {
        (result.cell, result.provenance.weights, column.settings): (result, column)
        for result, column in zip(every, columns_of(every), strict=True)
    }
    return list(newest.values()), len(every) - len(newest)


def _column_order(column: Column, order: Sequence[str]) -> tuple[object, ...]:
    position = order.index(column.task) if column.task in order else len(order)
    share = (column.shots or 0, column.fraction, column.limit or 0, column.precision)
    rest = (column.draw, column.validation, column.settings, column.metric)
    return (position, column.task, column.data, column.protocol, *share, *rest)


def _notes(
    groups: dict[tuple[str, Column], list[Result]],
    entries: Entries,
    superseded: int,
    columns: Sequence[Column],
) -> list[str]:
    notes = []
    if superseded:
        notes.append(
            f"{counted(superseded, 'older result')} not shown: of several results of one cell and "
            "the same weights, only the newest is used."
        )
    if any(column.limit is not None for column in columns):
        notes.append("Columns with n<= were run with --limit: they are smoke tests, not scores.")
    if any(column.settings for column in columns):
        notes.append("Columns with a number after # differ in the settings of one protocol name.")
    versions: dict[Column, set[str]] = defaultdict(set)
    imported: dict[str, None] = {}
    for (model, column), group in groups.items():
        versions[column] |= {result.provenance.data for result in group}
        if any(result.details.get("imported") is True for result in group):
            imported[model] = None
    notes += [
        f"{column.task} on {column.data} mixes {len(versions[column])} versions of the data: its "
        "rows are not comparable."
        for column in columns
        if len(versions[column]) > 1
    ]
    if imported:
        notes.append(f"Imported, predictions made elsewhere: {', '.join(imported)}.")
    return [*notes, *_fragile(entries, columns)]


def _fragile(entries: Entries, columns: Sequence[Column]) -> list[str]:
    """One sentence for each column with entries that few patients bear."""
    models: dict[Column, list[str]] = defaultdict(list)
    for (model, column), entry in entries.items():
        if entry.is_fragile:
            models[column].append(model)
    return [
        f"{column.task} on {column.data}, {column.share}: fewer than 10 patients bear the score of "
        f"{counted(len(models[column]), 'model')}, so its interval hangs on single patients, and "
        "it is never bold."
        for column in columns
        if column in models
    ]
