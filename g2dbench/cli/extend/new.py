"""`g2dbench new model|task|data|method|suite FILE`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from g2dbench.cli.console import console
from g2dbench.cli.panels import EXTEND

EPILOG = """Examples:

g2dbench new model my_model.py

g2dbench new method my_method.py
"""


class Kind(StrEnum):
    """What a template can be of."""

    model = "model"
    task = "task"
    data = "data"
    method = "method"
    suite = "suite"


_NEXT = {
    "model": "g2dbench check-model {file}",
    "task": "g2dbench eval --task {name} --model random-init --limit 50 --plugin {file}",
    "data": "g2dbench data prepare {name} --root FOLDER --plugin {file}",
    "method": "g2dbench pretrain --recipe {recipe} --plugin {file} --out runs/{name}",
    "suite": "g2dbench suite {file}",
}
"""Kind -> the command to try next."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, rich_help_panel=EXTEND)(new)


def new(
    kind: Annotated[Kind, typer.Argument(help="What to write.", show_default=False)],
    file: Annotated[
        Path,
        typer.Argument(help="File to write; its name becomes the plug-in's.", show_default=False),
    ],
) -> None:
    """Write a commented, working template of your own model, task, data set, method or suite."""
    from g2dbench.conformance.template import write_template

    for written in write_template(kind.value, file):
        console.print(f"wrote {written}", markup=False, soft_wrap=True)
    command = _NEXT[kind.value].format(file=file, name=file.stem, recipe=file.with_suffix(".toml"))
    console.print(f"next: {command}", markup=False, soft_wrap=True)
