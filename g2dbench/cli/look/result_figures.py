"""`g2dbench figure efficiency|forest|masks`: figures for papers from stored results."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from g2dbench.cli.app import Group
from g2dbench.cli.console import console, track
from g2dbench.cli.look import figure
from g2dbench.cli.open_results import open_results
from g2dbench.cli.options import DEFAULT_STORE, Plugins, Results, Store


class FigureGroup(Group):
    """Commands of figures; `maps` may be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert `maps` before arguments that name no command."""
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["maps", *args]
        return list(super().parse_args(ctx, args))


app = typer.Typer(
    cls=FigureGroup,
    help="Draw figures: maps of a model, and curves, differences and masks of stored results.",
    no_args_is_help=True,
)
Picture = Annotated[Path, typer.Option("--out", help="File to write: .svg, .pdf or .png.")]

figure.register(app)


@app.command(epilog="Example: g2dbench figure efficiency results/seg --out efficiency.svg")
def efficiency(
    results: Results = Path("results"),
    out: Picture = Path("efficiency.svg"),
    plugin: Plugins = None,
) -> None:
    """Score against the number of training patients, with intervals: a panel per task and data."""
    from g2dbench.registry import Registry
    from g2dbench.reporting.figures import canvas
    from g2dbench.reporting.figures import efficiency as curves

    canvas.check_format(out)
    _, board, problems = _read(results, Registry(plugin or ()))
    with canvas.style():
        canvas.save(curves.draw(board), out)
    _finish(out, problems)


@app.command(epilog="Example: g2dbench figure forest results --reference convirt --out forest.pdf")
def forest(
    results: Results = Path("results"),
    out: Picture = Path("forest.svg"),
    reference: Annotated[
        str | None,
        typer.Option(help="Model to subtract.", show_default="the best of each column"),
    ] = None,
    plugin: Plugins = None,
) -> None:
    """Differences between models on the same images, with intervals and Holm's correction."""
    from g2dbench.registry import Registry
    from g2dbench.reporting.figures import canvas
    from g2dbench.reporting.figures import forest as plot

    canvas.check_format(out)
    registry = Registry(plugin or ())
    stored, board, problems = _read(results, registry)
    found, left_out = plot.find_differences(board, stored, registry, reference, track)
    with canvas.style():
        canvas.save(plot.draw(found), out)
    _finish(out, [*problems, *left_out])


@app.command(epilog="Example: g2dbench figure masks results/seg --out masks.png")
def masks(
    results: Results = Path("results"),
    out: Picture = Path("masks.svg"),
    id_: Annotated[
        list[str] | None,
        typer.Option("--id", help="Image ID. Repeats.", show_default="the first four"),
    ] = None,
    store: Store = DEFAULT_STORE,
    plugin: Plugins = None,
) -> None:
    """Ground truth and predictions over test images, a column per model.

    The images are those of the prepared data set in --store, and so is what may be published.
    """
    from g2dbench.cli.open_data import open_evaluated
    from g2dbench.registry import Registry
    from g2dbench.reporting.figures import canvas
    from g2dbench.reporting.figures import masks as sheets

    canvas.check_format(out)
    registry = Registry(plugin or ())
    stored, board, problems = _read(results, registry)
    opener = partial(open_evaluated, store=store, registry=registry)
    sheet = sheets.find_sheet(board, stored, opener, id_ or ())
    with canvas.style():
        canvas.save(sheets.draw(sheet), out)
    _finish(out, problems)


def _read(results: Path, registry: Any) -> tuple[Any, Any, list[str]]:
    """The stored results without those of --limit, their leaderboard, and the broken files."""
    from g2dbench.reporting.leaderboard.leaderboard import build_leaderboard
    from g2dbench.reporting.stored_results import read_results

    folder, unread = open_results(results)
    stored, problems = read_results(folder)
    kept = [each for each in stored if each.result.cell.limit is None]
    board = build_leaderboard((each.result for each in kept), registry.task_order())
    return kept, board, [*unread, *problems]


def _finish(out: Path, problems: list[str]) -> None:
    from g2dbench.cli.compare.results import report_problems

    console.print(f"wrote {out}", soft_wrap=True, markup=False)
    report_problems(problems)
