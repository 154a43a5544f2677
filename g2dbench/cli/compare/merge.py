"""`g2dbench merge` and `schema`: results of several machines, and the format of a result."""

import json
from pathlib import Path
from typing import Annotated

import typer

from g2dbench.cli.console import console
from g2dbench.cli.open_results import open_results
from g2dbench.cli.panels import COMPARE
from g2dbench.system.counts import counted


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command, example in (
        (merge, "g2dbench merge all machine1/results machine2/results"),
        (schema, "g2dbench schema > result.schema.json"),
    ):
        app.command(epilog=f"Example: {example}", rich_help_panel=COMPARE)(command)


def merge(
    out: Annotated[Path, typer.Argument(help="Folder to copy to.", show_default=False)],
    folders: Annotated[
        list[Path], typer.Argument(help="Results folders or addresses.", show_default=False)
    ],
) -> None:
    """Join results folders; exit 1 if a result is broken, or two contradict each other."""
    from g2dbench.cli.compare.results import report_problems
    from g2dbench.reporting.merging import merge as merge_folders

    opened = [open_results(folder) for folder in folders]
    found = merge_folders([folder for folder, _ in opened], out)
    console.print(
        f"{counted(found.copied, 'cell')} copied to {out}, {found.present} there already",
        soft_wrap=True,
        markup=False,
    )
    report_problems([*(line for _, unread in opened for line in unread), *found.problems])


def schema() -> None:
    """Print the JSON Schema of a result file."""
    from g2dbench.result import SCHEMA, Result

    found = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Result of an evaluation, schema version {SCHEMA}",
        **{k: v for k, v in Result.model_json_schema().items() if k != "title"},
    }
    typer.echo(json.dumps(found, indent=1))
