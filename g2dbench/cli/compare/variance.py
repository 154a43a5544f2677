"""`g2dbench variance`: where the spread of a score comes from."""

from pathlib import Path
from typing import Annotated

import typer

from g2dbench.cli.compare.compare import Format
from g2dbench.cli.console import console
from g2dbench.cli.open_results import open_results
from g2dbench.cli.options import Metric, Results
from g2dbench.cli.panels import COMPARE

EPILOG = """Example: g2dbench variance results --metric auc

Seeds are told apart if they are crossed: for each of several pre-training runs,
`g2dbench eval --model RUN --seed 0 --seed 1 --subset-seed 0 --subset-seed 1`. What the runs do not
determine is said below each table.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, rich_help_panel=COMPARE)(variance)


def variance(
    results: Results = Path("results"),
    metric: Metric = None,
    format_: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.rich,
) -> None:
    """Shares of subset draw, initialization, pre-training and test sampling in a score's spread."""
    from g2dbench.cli.compare.results import report_problems
    from g2dbench.errors import BadResult
    from g2dbench.registry import Registry
    from g2dbench.reporting.leaderboard.leaderboard import without_limited
    from g2dbench.reporting.stored_results import read_results
    from g2dbench.reporting.variance import formats
    from g2dbench.reporting.variance.sources import score_variances

    folder, unread = open_results(results)
    stored, problems = read_results(folder)
    every, limited = without_limited(each.result for each in stored)
    found = score_variances(every, Registry().task_order(), metric)
    if not found:
        raise BadResult(f"no finished result of {results} has a score {metric or ''}".rstrip())
    if format_ is Format.rich:
        formats.show(found, console)
    else:
        typer.echo(formats.TEXT_FORMATS[format_.value](found))
    if limited:
        typer.echo(f"{limited} results run with --limit left out", err=True)
    report_problems([*unread, *problems])
