"""`g2dbench compare`: is one model better than another?"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from g2dbench.cli.console import console
from g2dbench.cli.open_results import open_results
from g2dbench.cli.options import Metric, Plugins, Results
from g2dbench.cli.panels import COMPARE

EPILOG = """Examples:

g2dbench compare g2d-small convirt-small results

g2dbench compare g2d-small convirt-small results --equivalence 0.02 --format md

Exit code: 0 if cells were compared, whatever they show; 1 if none can be compared, or a result
cannot be read; 2 if the request is wrong.
"""


class Format(StrEnum):
    """The output format of a comparison."""

    rich = "rich"
    md = "md"
    csv = "csv"
    json = "json"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, rich_help_panel=COMPARE)(compare)


def compare(
    first: Annotated[str, typer.Argument(help="Model A, as the leaderboard names it.")],
    second: Annotated[str, typer.Argument(help="Model B.")],
    results: Results = Path("results"),
    metric: Metric = None,
    equivalence: Annotated[
        float | None,
        typer.Option(
            min=0, help="Also test whether A and B differ by less than this, such as 0.02."
        ),
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.rich,
    plugin: Plugins = None,
) -> None:
    """Compare two models over their common cells: paired tests, effect sizes, equivalence."""
    from g2dbench.cli.compare.results import report_problems
    from g2dbench.registry import Registry
    from g2dbench.reporting import comparison_formats
    from g2dbench.reporting.model_comparison import compare_models
    from g2dbench.reporting.stored_results import read_results

    folder, unread = open_results(results)
    stored, problems = read_results(folder)
    found = compare_models(first, second, stored, Registry(plugin or ()), metric, equivalence)
    if format_ is Format.rich:
        comparison_formats.show(found, console)
    else:
        typer.echo(comparison_formats.TEXT_FORMATS[format_.value](found))
    report_problems([*unread, *problems])
