"""`g2dbench suite`: what a suite evaluates, and what that will cost here."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from g2dbench.cli.blocks import Block, show
from g2dbench.cli.console import console
from g2dbench.cli.options import (
    DEFAULT_SEEDS,
    DEFAULT_STORE,
    Limit,
    Models,
    OptionalDataList,
    Plugins,
    Seeds,
    Store,
)
from g2dbench.cli.panels import EVALUATE
from g2dbench.errors import Misuse

if TYPE_CHECKING:
    from g2dbench.evaluation.planning.estimate import Estimate
    from g2dbench.evaluation.planning.suite import Skipped, SuiteCell

EPILOG = """Examples:

g2dbench suite

g2dbench suite paper

g2dbench suite paper --plan --model runs/g2d-tiny-s0

`g2dbench eval --suite paper` evaluates it.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("suite", epilog=EPILOG, rich_help_panel=EVALUATE)(suite)


def suite(
    name: Annotated[str | None, typer.Argument(help="Suite, or a TOML file of your own.")] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print cells, time and disk; needs --model.")
    ] = False,
    model: Models = None,
    data: OptionalDataList = None,
    seed: Seeds = DEFAULT_SEEDS,
    limit: Limit = None,
    results: Annotated[Path, typer.Option(help="Folder with earlier results.")] = Path("results"),
    store: Store = DEFAULT_STORE,
    plugin: Plugins = None,
) -> None:
    """List the suites, show the rows of one, or plan its evaluation without running anything."""
    from g2dbench.evaluation.grid import Grid
    from g2dbench.evaluation.planning import estimate
    from g2dbench.evaluation.planning import suite as suites
    from g2dbench.evaluation.workbench import Workbench
    from g2dbench.registry import Registry

    if name is None:
        found = [suites.read_suite(known) for known in suites.suite_names()]
        show([Block(s.name, s.summary, (("rows", str(len(s.rows))),)) for s in found], console)
        return
    chosen = suites.read_suite(name)
    if not plan:
        rows = [(row, f"{row.task}:{row.protocol}") for row in chosen.rows]
        show(
            [
                Block(
                    row.title,
                    task,
                    (("data", ", ".join(row.data)), ("fractions", _shares(row.fractions))),
                )
                for row, task in rows
            ],
            console,
        )
        return
    if not model:
        raise Misuse("--plan needs --model: say which models will be evaluated")
    template = Grid(
        models=list(dict.fromkeys(model)),
        datasets=(),
        tasks=(),
        seeds=seed,
        limit=limit,
        store=store,
        plugins=plugin or (),
    )
    bench = Workbench(Registry(plugin or ()))
    cells, skipped = suites.suite_cells(chosen, template, bench, data=data or ())
    estimates = estimate.estimate(
        [cell.spec for cell in cells], bench.datasets, estimate.earlier_results(results)
    )
    print_plan(cells, estimates, skipped)


def print_plan(
    cells: "list[SuiteCell]", estimates: "list[Estimate]", skipped: "list[Skipped]"
) -> None:
    """Print a line per cell, what is skipped and why, and the totals."""
    for cell, cost in zip(cells, estimates, strict=True):
        spec = cell.spec
        share = f"{spec.shots}-shot" if spec.shots else f"{spec.fraction:.0%}"
        state = "on disk" if cost.done else _duration(cost.seconds)
        console.print(
            escape(
                f"{spec.model} {spec.task}:{spec.protocol} {spec.data} {share} seed {spec.seed}"
                f"  {state}"
            ),
            soft_wrap=True,
        )
    print_skipped(skipped)
    todo = [cost for cost in estimates if not cost.done]
    known = [cost for cost in todo if cost.seconds is not None]
    seconds = sum(cost.seconds or 0 for cost in known)
    disk = sum(cost.predictions or 0 for cost in known)
    unknown = len(todo) - len(known)
    extra = f", and {unknown} without an earlier result to estimate from" if unknown else ""
    console.print(
        f"{len(estimates)} cells: {len(estimates) - len(todo)} on disk, {len(todo)} to run; "
        f"{len(known)} of these take about {_duration(seconds)} and {disk / 1e6:.0f} MB of "
        f"predictions{extra}",
        soft_wrap=True,
    )


def print_skipped(skipped: "list[Skipped]") -> None:
    """Print each row that is skipped, with the reason."""
    for row in skipped:
        line = f"skipped: {row.title}, {row.data}: {row.reason}"
        console.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "time unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _shares(fractions: tuple[float, ...]) -> str:
    return ", ".join(f"{fraction * 100:g} %" for fraction in fractions)
