"""`g2dbench suite`: what a suite evaluates, and what that will cost here."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from g2dbench.cli.blocks import Block, show
from g2dbench.cli.console import console
from g2dbench.cli.evaluate.plan_report import print_cells, print_total
from g2dbench.cli.options import (
    DEFAULT_SEEDS,
    DEFAULT_STORE,
    Limit,
    Models,
    OptionalDataList,
    PlanOnly,
    Plugins,
    Seeds,
    Store,
)
from g2dbench.cli.panels import EVALUATE
from g2dbench.errors import Misuse

if TYPE_CHECKING:
    from g2dbench.evaluation.planning.suite import Skipped

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
    plan: PlanOnly = False,
    model: Models = None,
    data: OptionalDataList = None,
    seed: Seeds = DEFAULT_SEEDS,
    limit: Limit = None,
    results: Annotated[Path, typer.Option(help="Folder with earlier results.")] = Path("results"),
    store: Store = DEFAULT_STORE,
    plugin: Plugins = None,
) -> None:
    """List the suites, show the rows of one, or plan its evaluation without running anything."""
    from g2dbench.evaluation.planning import estimate
    from g2dbench.evaluation.planning import suite as suites
    from g2dbench.evaluation.planning.timings import Timings, earlier_results
    from g2dbench.evaluation.sweep.grid import Grid
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
    specs = [cell.spec for cell in cells]
    estimates = estimate.estimate(specs, bench, Timings(earlier_results(results)))
    print_cells(estimates)
    print_skipped(skipped)
    print_total(estimate.total(estimates, slots=1))


def print_skipped(skipped: "list[Skipped]") -> None:
    """Print each row that is skipped, with the reason."""
    for row in skipped:
        line = f"skipped: {row.title}, {row.data}: {row.reason}"
        console.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)


def _shares(fractions: tuple[float, ...]) -> str:
    return ", ".join(f"{fraction * 100:g} %" for fraction in fractions)
