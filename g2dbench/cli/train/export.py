"""`g2dbench export`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from g2dbench.cli.console import console
from g2dbench.cli.options import Out, Plugins
from g2dbench.cli.panels import TRAIN
from g2dbench.errors import Misuse

if TYPE_CHECKING:
    from g2dbench.registry import Registry

EPILOG = """Examples:

g2dbench export runs/g2d-small-s0 --out released

g2dbench eval --model g2d:released/g2d-small_encoder_decoder.pth --task seg

g2dbench export runs/g2d-s0 --to timm --out encoder
"""


class Format(StrEnum):
    """The layouts that other code reads."""

    g2d = "g2d"
    hf = "hf"
    torchvision = "torchvision"
    smp = "smp"
    timm = "timm"
    open_clip = "open_clip"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, rich_help_panel=TRAIN)(export)


def export(
    run: Annotated[
        Path, typer.Argument(help="A finished run of `g2dbench pretrain`.", show_default=False)
    ],
    out: Out,
    to: Annotated[
        Format, typer.Option(help="g2d: the authors' layouts; others: for that library.")
    ] = Format.g2d,
    name: Annotated[
        str | None,
        typer.Option(
            help="First part of the file names, with --to g2d.", show_default="the run's label"
        ),
    ] = None,
    plugin: Plugins = None,
) -> None:
    """Write a run for other code: a G2D in its authors' layouts, or the formats of libraries.

    --out is an empty or new folder.
    """
    from g2dbench.registry import Registry
    from g2dbench.runs import folder as runs

    registry = Registry(plugin or ())
    if to is not Format.g2d:
        if name is not None:
            raise Misuse("--name belongs to --to g2d: the other formats fix their file names")
        _export_for_library(run, out, to.value, registry)
        return
    from g2dbench.methods.g2d.export import export as write

    info = runs.read_info(run)
    exported = write(runs.load_run(run, registry), out, name or info.label, info.recipe.optim)
    for file in exported.files:
        console.print(f"wrote {file}")
    for file_name, reason in exported.left_out.items():
        console.print(f"did not write {file_name}: {reason}")


def _export_for_library(run: Path, out: Path, target: str, registry: "Registry") -> None:
    from g2dbench.runs.exports.formats import export as write
    from g2dbench.runs.folder import load_run

    for file in write(load_run(run, registry), run, out, target):
        console.print(f"wrote {file}", soft_wrap=True)
    console.print(f"{out / 'README.md'} says how to load it", soft_wrap=True)
