"""Results as plain values for the page: short rows to list, and details to open one by one.

Both are lists with one entry per result, in the same order. Rows are small, because the page reads
them all when it opens; details are stored in blocks of `BLOCK` results that it reads on demand.
"""

import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from g2dbench.errors import BadResult
from g2dbench.reporting import reproduction
from g2dbench.reporting.leaderboard.leaderboard import Column, Leaderboard
from g2dbench.reporting.model_names import ModelNames, describe_seeds
from g2dbench.result import Cell, Result, Score

BLOCK = 250
"""Results per block of details."""

MAX_CURVE = 400
"""Longest validation curve that is shown."""

MAX_SETTINGS = 20_000
"""Most characters of the settings that are shown."""

ROW = (
    "model", "column", "seeds", "status", "value", "low", "high", "n", "seconds", "created",
    "reason",
)  # fmt: skip
"""The names of the values of a row."""


def number(value: float | None) -> float | None:
    """A number with six significant digits for JSON; None for NaN and infinite ones."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.6g}")


def column_of(result: Result) -> Column:
    """The leaderboard column of a result: the fields of its cell by name, and its metric."""
    values = {
        each.name: getattr(result.cell, each.name)
        for each in fields(Column)
        if each.name in Cell.model_fields
    }
    return Column(**values, metric=result.metric)


def column_records(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """One mapping per column: its fields and the share of the training patients as text."""
    return [{**column.__dict__, "share": column.share} for column in columns]


def row_records(
    results: Sequence[Result], names: ModelNames, models: Sequence[str], columns: Sequence[Column]
) -> list[list[Any]]:
    """The rows, with models and columns as positions in these lists."""
    model_at = {model: at for at, model in enumerate(models)}
    column_at = {column: at for at, column in enumerate(columns)}
    return [
        _row(result, model_at[names.of(result)], column_at[column_of(result)]) for result in results
    ]


def _row(result: Result, model: int, column: int) -> list[Any]:
    score = result.main if result.status == "done" else None
    numbers = [None, None, None, 0] if score is None else _score(score)[:4]
    origin = result.provenance
    return [
        model,
        column,
        describe_seeds(result.cell),
        result.status,
        *numbers,
        number(origin.seconds),
        origin.created[:19],
        result.reason or "",
    ]


def _score(score: Score) -> list[Any]:
    return [number(score.value), number(score.low), number(score.high), score.n, score.bearers]


def detail_blocks(results: Sequence[Result]) -> list[list[dict[str, Any]]]:
    """The details of all results, in blocks."""
    return [
        [_detail(result) for result in results[at : at + BLOCK]]
        for at in range(0, len(results), BLOCK)
    ]


def _detail(result: Result) -> dict[str, Any]:
    origin = result.provenance.model_dump(exclude={"config", "packages"})
    return {
        "command": command_of(result),
        "cell": result.cell.model_dump(),
        "scores": {name: _score(score) for name, score in result.scores.items()},
        "counts": result.counts,
        "provenance": {
            name: number(value) if isinstance(value, float) else value
            for name, value in origin.items()
            if value not in (None, "")
        },
        "packages": result.provenance.packages,
        "config": _settings_text(result.provenance.config),
        "curve": _validation_curve(result),
    }


def _settings_text(config: dict[str, Any]) -> str:
    """The settings as indented JSON, shortened if they are very long."""
    try:
        text = json.dumps(config, indent=1, ensure_ascii=False)
    except RecursionError:
        return "nested too deeply to be shown"
    return text if len(text) <= MAX_SETTINGS else f"{text[:MAX_SETTINGS]} ... (shortened)"


def _validation_curve(result: Result) -> dict[str, Any] | None:
    """The loss or score of each epoch and the chosen epoch, if the task recorded them."""
    fit = result.details.get("fit")
    curve = fit.get("curve") if isinstance(fit, dict) else None
    if not isinstance(curve, list) or not 2 <= len(curve) <= MAX_CURVE:
        return None
    values = [number(each) if isinstance(each, int | float) else None for each in curve]
    assert isinstance(fit, dict)
    best = fit.get("best_epoch")
    return {"values": values, "best": best if isinstance(best, int) else None}


def command_of(result: Result) -> str:
    """The command that evaluates the cell again; the reason if no command can."""
    try:
        return shlex.join(["g2dbench", *reproduction.command_of(result)])
    except BadResult as error:
        return str(error)


def board_records(board: Leaderboard) -> list[list[Any]]:
    """One list per entry of the leaderboard: positions, then its numbers, or why it is missing."""
    model_at = {model: at for at, model in enumerate(board.models)}
    column_at = {column: at for at, column in enumerate(board.columns)}
    found: list[list[Any]] = []
    for (model, column), entry in board.entries.items():
        values = [number(each) for each in (entry.mean, entry.spread, entry.low, entry.high)]
        counts = [entry.seeds, entry.n, entry.best]
        found.append([model_at[model], column_at[column], *values, *counts, ""])
    for (model, column), reason in board.reasons.items():
        missing = [None, None, None, None, 0, 0, False]
        found.append([model_at[model], column_at[column], *missing, reason])
    return found
