"""`g2dbench leaderboard` and `score`: rank results, and recompute their scores."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from g2dbench.cli.console import console, track
from g2dbench.cli.options import Plugins, Results
from g2dbench.cli.panels import COMPARE
from g2dbench.system.counts import counted


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
    from g2dbench.reporting.stored_results import read_results

    stored, problems = read_results(results)
    board = build_leaderboard([each.result for each in stored], Registry().task_order())
    if format_ is not Format.rich:
        typer.echo(leaderboard_formats.TEXT_FORMATS[format_.value](board))
    else:
        leaderboard_formats.show(board, console, reasons=reasons)
    report_problems(problems)


def report_problems(problems: list[str]) -> None:
    """Print each broken file on stderr; exit 1 if there is one."""
    for problem in problems:
        typer.echo(f"left out: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


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
