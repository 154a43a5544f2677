"""`g2dbench leaderboard`, `score` and `regress`: the commands that read results."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from g2dbench.cli.console import console, track
from g2dbench.cli.options import Plugins, Results
from g2dbench.cli.panels import COMPARE
from g2dbench.system.counts import counted

if TYPE_CHECKING:
    from g2dbench.reporting.regression_gate import Change


class Format(StrEnum):
    """The output format of a leaderboard."""

    rich = "rich"
    md = "md"
    csv = "csv"
    latex = "latex"
    json = "json"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command, example in (
        (leaderboard, "g2dbench leaderboard results --format md > table.md"),
        (score, "g2dbench score results --check"),
        (regress, "g2dbench regress --baseline baseline results --tolerance dice=0.02"),
    ):
        app.command(epilog=f"Example: {example}", rich_help_panel=COMPARE)(command)


def leaderboard(
    results: Results = Path("results"),
    format_: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.rich,
    reasons: Annotated[
        bool, typer.Option("--reasons", help="Print the reasons for missing cells.")
    ] = False,
) -> None:
    """Print models by (task, data, fraction): mean and standard deviation over seeds."""
    from g2dbench.registry import Registry
    from g2dbench.reporting import leaderboard_formats
    from g2dbench.reporting.leaderboard import build_leaderboard
    from g2dbench.result import load_all

    board = build_leaderboard(load_all(results), Registry().task_order())
    if format_ is not Format.rich:
        typer.echo(leaderboard_formats.TEXT_FORMATS[format_.value](board))
        return
    leaderboard_formats.show(board, console, reasons=reasons)


def score(
    results: Results = Path("results"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if a score differs.")
    ] = False,
    plugin: Plugins = None,
) -> None:
    """Recompute every score from the stored predictions and report differences."""
    from g2dbench.errors import BadResult
    from g2dbench.evaluation.grid import load_tasks
    from g2dbench.evaluation.rescore import differences, rescore
    from g2dbench.registry import Registry
    from g2dbench.result import load, result_files, save

    registry = Registry(plugin or ())
    if not results.is_dir():
        raise BadResult(f"there is no results folder {results}: run `g2dbench eval` first")
    paths = [p for p in result_files(results) if load(p).status == "done"]
    changed = 0
    for path in track(paths, "scoring"):
        (task,) = load_tasks([load(path).cell.task], registry)
        before, after = rescore(path.parent, task)
        found = differences(before.scores, after.scores)
        changed += bool(found)
        for line in found:
            console.print(escape(f"{path.parent}: {line}"))
        if found and not check:
            save(after, path.parent)
    verb = "with other scores" if check else "rewritten"
    console.print(f"scored {counted(len(paths), 'cell')} from the predictions: {changed} {verb}")
    if check and changed:
        raise typer.Exit(1)


def regress(
    baseline: Annotated[
        Path, typer.Option("--baseline", help="Folder of results to compare with.")
    ],
    results: Results = Path("results"),
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            help="NUMBER for all metrics, METRIC=NUMBER for one. Repeats.", show_default="0.01"
        ),
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit XML to this file.")] = None,
) -> None:
    """Compare scores with a baseline; exit 1 if one fell beyond its tolerance or is missing."""
    from g2dbench.reporting import regression_gate
    from g2dbench.result import load_all
    from g2dbench.system.files import replace_file

    tolerances = regression_gate.parse_tolerances(tolerance or [])
    changes = regression_gate.compare(load_all(baseline), load_all(results), tolerances)
    console.print(_table(changes))
    if junit is not None:
        text = regression_gate.junit(changes)
        replace_file(junit, lambda path: path.write_text(text, encoding="utf-8"))
    failing = regression_gate.failed(changes)
    count = dict.fromkeys(("same", "rose", "fell", "new", "missing"), 0)
    for change in changes:
        count[change.verdict] += 1
    console.print(", ".join(f"{number} {verdict}" for verdict, number in count.items()))
    if failing:
        raise typer.Exit(1)


_STYLE = {"fell": "bold red", "missing": "bold red", "rose": "green", "new": "cyan", "same": "dim"}


def _table(changes: "list[Change]") -> Table:
    table = Table(padding=(0, 1, 0, 0))
    for heading in ("cell", "metric"):
        table.add_column(heading, overflow="fold")
    for heading in ("before", "now", "change", "within"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for change in changes:
        table.add_row(
            escape(change.name),
            change.metric,
            f"{change.before:.4f}",
            f"{change.now:.4f}",
            f"{change.now - change.before:+.4f}",
            f"{change.tolerance:g}",
            change.verdict,
            style=_STYLE[change.verdict],
        )
    return table
