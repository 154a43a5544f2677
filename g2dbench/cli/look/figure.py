"""`g2dbench figure maps`, short `figure`: maps of a model on images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from g2dbench.cli.console import console
from g2dbench.cli.open_data import open_data
from g2dbench.cli.options import DEFAULT_STORE, Device, OptionalData, Plugins, Root, Size, Store
from g2dbench.errors import Misuse
from g2dbench.system.counts import counted

if TYPE_CHECKING:
    from g2dbench.figures.contact_sheet import CaptionedImage
    from g2dbench.registry import Registry

EPILOG = """Examples:

g2dbench figure maps runs/g2d-tiny-s0 --data synthetic --id s0-i000011 --id s0-i000046

g2dbench figure maps runs/g2d-tiny-s0 --images film.dcm --text "pleural effusion" --out film.png
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("maps", epilog=EPILOG)(figure)


def figure(
    run: Annotated[str, typer.Argument(help="A run folder, or what `eval --model` takes.")],
    data: OptionalData = None,
    id_: Annotated[
        list[str] | None,
        typer.Option("--id", help="Image ID in --data. Repeats.", show_default="the first six"),
    ] = None,
    images: Annotated[
        list[Path] | None, typer.Option(help="Image file: DICOM, PNG, JPEG. Repeats.")
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="Also show where the model locates this text. Repeats.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Image file to write, .png or .jpg.")] = Path(
        "figure.png"
    ),
    root: Root = None,
    size: Size = None,
    device: Device = "auto",
    store: Store = DEFAULT_STORE,
    plugin: Plugins = None,
) -> None:
    """Draw attention, body mask, pseudo mask and the decoder's output on the given images."""
    from g2dbench.evaluation import model_reference
    from g2dbench.figures import contact_sheet
    from g2dbench.figures import figure as figures
    from g2dbench.registry import Registry
    from g2dbench.system.device import choose_device

    figures.check_format(out)
    registry = Registry(plugin or ())
    reference = model_reference.resolve(run, registry)
    chosen = figures.read_images(images or [])
    if data is not None:
        chosen = [*_select(data, id_ or [], root, size, store, registry), *chosen]
    if id_ and data is None:
        raise Misuse("--id is the ID of an image in a data set: give the data set too, --data NAME")
    if not chosen:
        raise Misuse("no images are given: give --data NAME [--id ID], or --images FILE")
    model = reference.load(registry, 0).to(choose_device(device))
    rows = figures.make_rows(model, chosen, text or [])
    picture = contact_sheet.draw_sheet(model.identity.label, rows, model.preprocess)
    figures.save(picture, out)
    console.print(
        f"drew the maps of {model.identity.label} for {counted(len(rows), 'image')}: wrote {out}"
    )


def _select(
    data: str,
    ids: list[str],
    root: Path | None,
    size: int | None,
    store: Path,
    registry: "Registry",
) -> "list[CaptionedImage]":
    from g2dbench.figures import figure as figures

    return figures.select_images(open_data(data, root, store, size, registry), ids)
