"""Differences between the models of a column and its best one, with intervals and p-values."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from g2dbench.metrics.bootstrap import holm
from g2dbench.progress import Progress
from g2dbench.registry import Registry
from g2dbench.reporting.direction import lower_is_better
from g2dbench.reporting.html.records import number
from g2dbench.reporting.leaderboard.leaderboard import Column, Leaderboard
from g2dbench.reporting.paired_comparison import compare
from g2dbench.result import Cell
from g2dbench.system.counts import counted

MAX_COMPARISONS = 200
"""Most paired tests of a report; each takes up to a second."""

Pairing = tuple[int, int, int]
"""Seeds by which the cells of two models are paired, see `pairing`."""

Folders = Mapping[tuple[str, Column], Mapping[Pairing, Path]]
"""Model and column -> its finished cells with predictions."""


def pairing(cell: Cell) -> Pairing:
    """Seed of the head, of the subset, and of the pre-training.

    -1 stands for published weights, and for pre-training with the head's seed: so a model with
    three pre-training seeds is paired with published weights, whose heads alone have seeds.
    """
    own = cell.model_seed is not None and cell.model_seed != cell.seed
    return cell.seed, cell.subset_seed, cell.model_seed if own and cell.model_seed else -1


def difference_records(
    board: Leaderboard, folders: Folders, registry: Registry, progress: Progress
) -> tuple[list[dict[str, Any]], list[str]]:
    """One record per column with two models or more, and notes for the reader.

    A record has the best model as `reference` and in `rows`, for each other model, either its
    value, interval, p (paired bootstrap over patients), p_holm (Holm over the whole report) and the
    number of seeds, or the reason why it cannot be compared.
    """
    pairs = _pairs(board)
    made: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for best, model, at in progress(pairs[:MAX_COMPARISONS], "comparing"):
        column = board.columns[at]
        sides = folders.get((best, column), {}), folders.get((model, column), {})
        made[at].append({"model": model, **_compared(*sides, registry)})
    _adjust([row for rows in made.values() for row in rows])
    references = {at: best for best, _, at in pairs}
    records = [
        {"column": at, "reference": references[at], "rows": rows} for at, rows in made.items()
    ]
    left = len(pairs) - MAX_COMPARISONS
    notes = [] if left <= 0 else [
        f"Differences: the first {MAX_COMPARISONS} pairs of models are tested; "
        f"{counted(left, 'more pair')} left out. Make a report of fewer results to see them."
    ]  # fmt: skip
    return records, notes


def _pairs(board: Leaderboard) -> list[tuple[str, str, int]]:
    """(best model, other model, position of the column), in the order of the leaderboard."""
    by_column: dict[Column, dict[str, float]] = defaultdict(dict)
    for (model, column), entry in board.entries.items():
        by_column[column][model] = entry.mean
    found = []
    for at, column in enumerate(board.columns):
        means = by_column[column]
        sign = 1 if lower_is_better(column.metric) else -1
        ranked = [model for _, model in sorted((sign * mean, name) for name, mean in means.items())]
        found += [(ranked[0], model, at) for model in ranked[1:]]
    return found


def _compared(
    best: Mapping[Pairing, Path], other: Mapping[Pairing, Path], registry: Registry
) -> dict[str, Any]:
    shared = sorted(best.keys() & other.keys())
    if not shared:
        return {"reason": "no seed of which both models have stored predictions"}
    try:
        test = compare([other[seed] for seed in shared], [best[seed] for seed in shared], registry)
    except (ValueError, TypeError, KeyError) as error:  # strangers' tables
        return {"reason": str(error)}
    return {
        "value": number(test.value),
        "low": number(test.low),
        "high": number(test.high),
        "p": number(test.p_patients),
        "seeds": len(shared),
    }


def _adjust(rows: Sequence[dict[str, Any]]) -> None:
    tested = [row for row in rows if row.get("p") is not None]
    if tested:
        adjusted = holm([row["p"] for row in tested])
        for row, p in zip(tested, adjusted, strict=True):
            row["p_holm"] = number(float(p))
