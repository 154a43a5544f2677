"""Prints cells as they end, and their counts by status, for every command that evaluates."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from g2dbench.cli.console import console
from g2dbench.system.counts import counted

if TYPE_CHECKING:
    from g2dbench.evaluation.outcome import Outcome
    from g2dbench.result import Result


def report(outcomes: Iterable["Outcome"], out: Path | str, shared: Sequence[str] = ()) -> None:
    """Print a line per finished cell, then the counts by status.

    Exits with 1 if a cell failed or none is done. out: a folder or an address. shared: labels that
    several models have.
    """
    from g2dbench.reporting import model_names

    start, reused = time.perf_counter(), 0
    count = dict.fromkeys(("done", "unsupported", "failed"), 0)
    models: dict[object, Result] = {}  # the first result of each, as there may be many cells
    names = model_names.name_models((), shared)
    for outcome in outcomes:
        result = outcome.result
        key = (model_names.label_of(result), result.provenance.weights, result.provenance.source)
        if models.setdefault(key, result) is result:
            names = model_names.name_models(models.values(), shared)
        console.print(_line(outcome, names.of(result)), soft_wrap=True)
        count[result.status] += 1
        reused += outcome.reused
    for note in model_names.name_models(models.values()).notes():
        console.print(escape(note), soft_wrap=True)
    seconds = time.perf_counter() - start
    done, unsupported, failed = count.values()
    console.print(
        f"{counted(done, 'cell')} done ({reused} already on disk), {unsupported} unsupported, "
        f"{failed} failed, {seconds:.0f} s: wrote {out}",
        soft_wrap=True,
    )
    if failed or not done:
        raise typer.Exit(1)


def _line(outcome: "Outcome", model: str) -> str:
    from g2dbench.reporting.model_names import describe_seeds
    from g2dbench.result import training_share

    cell, result = outcome.result.cell, outcome.result
    share = training_share(cell.fraction, cell.shots)
    name = f"{model} {cell.task}:{cell.protocol} {cell.data} {share} {describe_seeds(cell)}"
    if result.status != "done" or result.main is None:
        return f"{escape(name)}  [yellow]{result.status}[/]: {escape(result.reason or '')}"
    score = result.main
    mark = "  [dim](on disk)[/]" if outcome.reused else f"  {result.provenance.seconds:.1f} s"
    limits = escape(f"[{score.low:.3f}, {score.high:.3f}]")
    return f"{escape(name)}  {result.metric} [bold]{score.value:.3f}[/] {limits}{mark}"
