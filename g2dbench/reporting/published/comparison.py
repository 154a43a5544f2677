"""Results of one's own beside the published scores: difference, interval, other settings."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from g2dbench.reporting import model_names
from g2dbench.reporting.leaderboard.entries import Column, columns_of
from g2dbench.reporting.published.scores import (
    DATASETS,
    TASKS,
    PublishedScore,
    metric_key,
    paper_settings,
    read_published,
)
from g2dbench.result import Result


@dataclass(frozen=True)
class Measured:
    """One model of ours in a published column, in per cent: mean over seeds of value and bounds.

    notes: how the settings differ from the paper's. comparable: whether there is none.
    """

    model: str
    value: float
    low: float
    high: float
    seeds: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Beside:
    """A published score, and what was measured here for it."""

    published: PublishedScore
    measured: tuple[Measured, ...]


@dataclass(frozen=True)
class _Row:
    model: str
    column: Column
    results: tuple[Result, ...]


def beside_paper(results: Iterable[Result]) -> list[Beside]:
    """Every published score with the results of the same method, data, fraction and metric.

    Results of other protocols or splits are shown with a note, because their values differ for
    that reason.
    """
    rows = _rows(results)
    return [Beside(score, tuple(_measured(score, rows))) for score in read_published()]


_Key = tuple[str, str, float]


def _rows(results: Iterable[Result]) -> dict[_Key, list[_Row]]:
    done = [result for result in results if result.status == "done"]
    every = sorted(done, key=lambda result: result.provenance.created)
    named = model_names.name_models(every)
    newest = {
        (result.cell, result.provenance.weights, column): result
        for result, column in zip(every, columns_of(every), strict=True)
    }
    groups: dict[tuple[str, Column], list[Result]] = defaultdict(list)
    for (_, _, column), result in newest.items():
        groups[named.of(result), column].append(result)
    found: dict[_Key, list[_Row]] = defaultdict(list)
    for (model, column), group in groups.items():
        if column.shots is None:
            key = (column.task, _base(column.data), column.fraction)
            found[key].append(_Row(model, column, tuple(group)))
    return found


def _base(data: str) -> str:
    """The data set of `rsna@mgca` or `synthetic:120`."""
    return data.partition("@")[0].partition(":")[0]


def _measured(score: PublishedScore, rows: dict[_Key, list[_Row]]) -> Iterable[Measured]:
    task = TASKS[score.task]
    for row in rows.get((task, DATASETS[score.dataset], score.fraction), ()):
        if not score.is_of(row.results[0].cell.model, task, row.column.protocol):
            continue
        found = [
            each
            for result in row.results
            for name, each in result.scores.items()
            if metric_key(name) == score.our_metric and not math.isnan(each.value)
        ]
        if found:
            yield Measured(
                row.model,
                100 * fmean(each.value for each in found),
                100 * fmean(each.low for each in found),
                100 * fmean(each.high for each in found),
                len(found),
                tuple(_differences(score, row.column)),
            )


def _differences(score: PublishedScore, column: Column) -> Sequence[str]:
    protocols, data = paper_settings().get((score.table, column.task), (frozenset(), frozenset()))
    notes = []
    if column.protocol not in protocols:
        wanted = " or ".join(sorted(protocols)) or "an ablation's"
        notes.append(f"protocol {column.protocol}, not {wanted}")
    if column.data not in data:
        wanted = " or ".join(sorted(d for d in data if _base(d) == _base(column.data)))
        notes.append(f"data {column.data}, not {wanted or 'of this table'}")
    if column.limit is not None:
        notes.append(f"at most {column.limit} test images")
    return notes


def is_inside(score: PublishedScore, measured: Measured) -> bool | None:
    """Whether the published value lies in our interval; None if one of the two is missing."""
    if math.isnan(score.value) or math.isnan(measured.low):
        return None
    return measured.low <= score.value <= measured.high
