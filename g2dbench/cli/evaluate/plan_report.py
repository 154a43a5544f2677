"""Prints what cells are expected to cost, before they run."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.markup import escape

from g2dbench.cli.console import console
from g2dbench.system.counts import counted

if TYPE_CHECKING:
    from g2dbench.evaluation.cell_spec import CellSpec
    from g2dbench.evaluation.planning.estimate import Estimate, Total

MAX_CELLS = 60
"""Longer plans are printed with one line for each model, data set, task and protocol."""


def print_cells(estimates: "Sequence[Estimate]") -> None:
    """Print a line for each cell, or for each group of cells of a long plan."""
    if len(estimates) <= MAX_CELLS:
        for each in estimates:
            state = "on disk" if each.done else duration(each.seconds)
            _line(each.spec.title, state)
        return
    for name, group in groupby(estimates, lambda each: _group(each.spec)):
        members = list(group)
        to_run = [each for each in members if not each.done]
        known = [each.seconds for each in to_run if each.seconds is not None]
        state = f"{counted(len(members), 'cell')}, {len(members) - len(to_run)} on disk, "
        _line(name, state + duration(sum(known) if len(known) == len(to_run) else None))


def print_total(total: "Total", workers: int = 1) -> None:
    """Print the sums of a plan."""
    to_run = total.cells - total.done
    text = f"{counted(total.cells, 'cell')}: {total.done} on disk, {to_run} to run"
    if to_run > total.unknown:
        text += (
            f"; {to_run - total.unknown} of these take about {duration(total.seconds)} on "
            f"{counted(workers, 'worker')}, {total.disk / 1e6:.1f} MB of disk and "
            f"{total.memory / 1024:.1f} GiB of memory"
        )
    if total.unknown:
        text += f"; {total.unknown} have no earlier result to estimate from"
    console.print(text, soft_wrap=True)


def duration(seconds: float | None) -> str:
    """Seconds in words."""
    if seconds is None:
        return "time unknown"
    if seconds < 90:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.2g} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _group(spec: "CellSpec") -> str:
    return f"{spec.label or spec.model} {spec.task}:{spec.protocol} {spec.data}"


def _line(name: str, state: str) -> None:
    console.print(escape(f"{name}  {state}"), soft_wrap=True)
