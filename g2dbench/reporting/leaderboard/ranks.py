"""Ranks over columns: mean rank and Borda count. Higher is better or lower, as the metric says."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from g2dbench.reporting.direction import lower_is_better
from g2dbench.reporting.leaderboard.entries import Column, Entry

Entries = Mapping[tuple[str, Column], Entry]
RankKind = Literal["mean", "borda"]


@dataclass(frozen=True)
class Rank:
    """One model over all columns.

    mean: mean rank (1 is best) over the columns in which it has a score. borda: sum over all
    columns of the models that it beats, a tie counts half; a column without a score adds 0.
    """

    mean: float
    borda: float

    def key(self, kind: RankKind) -> float:
        """Sorts the best model first."""
        return self.mean if kind == "mean" else -self.borda


def goodness(column: Column, entry: Entry) -> float:
    """The mean with the sign that makes larger values better."""
    return -entry.mean if lower_is_better(column.metric) else entry.mean


def rank_models(entries: Entries) -> dict[str, Rank]:
    """The rank of each model that has a score."""
    values: dict[Column, list[float]] = defaultdict(list)
    for (_, column), entry in entries.items():
        values[column].append(goodness(column, entry))
    ordered = {column: sorted(each) for column, each in values.items()}
    places: dict[str, list[int]] = defaultdict(list)
    points: dict[str, float] = defaultdict(float)
    for (model, column), entry in entries.items():
        own = goodness(column, entry)
        below, up_to = bisect_left(ordered[column], own), bisect_right(ordered[column], own)
        places[model].append(1 + len(ordered[column]) - up_to)
        points[model] += below + (up_to - below - 1) / 2
    return {model: Rank(fmean(each), points[model]) for model, each in places.items()}


def by_column(entries: Entries, columns: Iterable[Column]) -> dict[Column, list[str]]:
    """The models of each column, the best first; among equals by name."""
    found: dict[Column, list[tuple[float, str]]] = {column: [] for column in columns}
    for (model, column), entry in entries.items():
        found[column].append((-goodness(column, entry), model))
    return {column: [model for _, model in sorted(each)] for column, each in found.items()}
