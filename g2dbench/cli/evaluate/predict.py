"""`g2dbench predict`."""

from pathlib import Path
from typing import Annotated

import typer

from g2dbench.cli.console import console, track
from g2dbench.cli.options import Device, EvaluationBatch, Plugins, Size
from g2dbench.cli.panels import EVALUATE

EPILOG = """Examples:

g2dbench eval --task cls --protocol sweep --model runs/g2d-small-s0 --save-heads

g2dbench predict --head results/cls/synthetic/g2d-small/sweep-f1-m0-s0-1a2b3c4d --images ~/xrays

The images are read as `g2dbench data prepare` reads them, with the short side of the cell's data.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, rich_help_panel=EVALUATE)(predict)


def predict(
    head: Annotated[
        Path,
        typer.Option(help="Folder of a cell that --save-heads wrote.", show_default=False),
    ],
    images: Annotated[Path, typer.Option(help="Folder of images.", show_default=False)],
    out: Annotated[Path, typer.Option(help="CSV file.")] = Path("predictions.csv"),
    model: Annotated[
        str | None,
        typer.Option(help="Where the model is now.", show_default="as when the head was fitted"),
    ] = None,
    size: Size = None,
    device: Device = "auto",
    batch_size: EvaluationBatch = 32,
    plugin: Plugins = None,
) -> None:
    """Apply the fitted head of an evaluated cell to a folder of images."""
    import pandas as pd

    from g2dbench.evaluation.heads.apply import FittedCell, image_files, predict_files
    from g2dbench.evaluation.sweep.grid import check_writable
    from g2dbench.registry import Registry
    from g2dbench.system.files import replace_file
    from g2dbench.system.machine import Machine

    registry = Registry(plugin or ())
    cell = FittedCell.open(head.expanduser(), registry)
    root = images.expanduser()
    files, side = image_files(root), cell.size(size)
    check_writable(out.parent)
    machine = Machine.choose(device, cell.result.cell.precision, batch_size=batch_size)
    parts = predict_files(cell, cell.model(model, registry), files, root, side, machine)
    table = pd.concat(track(parts, "predicting"), ignore_index=True)
    replace_file(out, lambda temporary: table.to_csv(temporary, index=False))
    task = cell.result.cell
    console.print(
        f"{len(files)} images, {task.task}:{task.protocol} of {task.model} fitted on {task.data}: "
        f"wrote {out} ({len(table)} rows)",
        soft_wrap=True,
        markup=False,
    )
