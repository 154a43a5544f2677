"""`g2dbench export`."""

from pathlib import Path
from typing import Annotated

import typer

from g2dbench.cli.console import console
from g2dbench.cli.options import Out
from g2dbench.cli.panels import TRAIN

EPILOG = """Examples:

g2dbench export runs/g2d-small-s0 --out released

g2dbench eval --model g2d:released/g2d-small_encoder_decoder.pth --task seg
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, rich_help_panel=TRAIN)(export)


def export(
    run: Annotated[
        Path, typer.Argument(help="A finished run of the method g2d.", show_default=False)
    ],
    out: Out,
    name: Annotated[
        str | None,
        typer.Option(help="First part of the file names.", show_default="the run's label"),
    ] = None,
) -> None:
    """Write a G2D run in the authors' layouts: NAME_encoder.pth, NAME_encoder_decoder.pth, ...

    --out is an empty or new folder.
    """
    from g2dbench.methods.g2d.export import export as write
    from g2dbench.runs import folder as runs

    info = runs.read_info(run)
    exported = write(runs.load_run(run), out, name or info.label, info.recipe.optim)
    for file in exported.files:
        console.print(f"wrote {file}")
    for file_name, reason in exported.left_out.items():
        console.print(f"did not write {file_name}: {reason}")
