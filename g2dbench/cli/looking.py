"""`g2dbench figure` and `g2dbench profile`: look at what a model makes, and at what it costs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from g2dbench.cli.console import console, track
from g2dbench.cli.options import DEFAULT_STORE, Device, Plugins, Precision, Root, Size, Store
from g2dbench.cli.source import open_data
from g2dbench.errors import Misuse

if TYPE_CHECKING:
    from g2dbench.costs import Cost
    from g2dbench.registry import Registry
    from g2dbench.sheet import Subject

FIGURE = """Examples:

g2dbench figure runs/g2d-tiny-s0 --data synthetic --id s0-i000011 --id s0-i000046

g2dbench figure runs/g2d-tiny-s0 --images film.dcm --text "pleural effusion" --out film.png
"""
PROFILE = """Examples:

g2dbench profile

g2dbench profile --recipe g2d-paper --random-weights --batch-size 8 --json costs.json
"""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog=FIGURE)(figure)
    app.command(epilog=PROFILE)(profile)


def figure(
    run: Annotated[str, typer.Argument(help="A run folder, or what `eval --model` takes.")],
    data: Annotated[str | None, typer.Option(help="Prepared data set to draw from.")] = None,
    id_: Annotated[
        list[str] | None,
        typer.Option("--id", help="Sample of --data. Repeats.", show_default="the first six"),
    ] = None,
    images: Annotated[
        list[Path] | None, typer.Option(help="An image file: DICOM, PNG, JPEG. Repeats.")
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="Also draw where it finds this text. Repeats.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The picture, .png or .jpg.")] = Path("figure.png"),
    root: Root = None,
    size: Size = None,
    device: Device = "auto",
    store: Store = DEFAULT_STORE,
    plugin: Plugins = None,
) -> None:
    """Draw attention, body mask, pseudo mask and the decoder's answer for given images."""
    from g2dbench import figure as figures
    from g2dbench import models, sheet
    from g2dbench.device import choose_device
    from g2dbench.registry import Registry

    figures.check_out(out)
    registry = Registry(plugin or ())
    reference = models.resolve(run, registry)
    chosen = figures.read(images or [])
    if data is not None:
        chosen = [*_named(data, id_ or [], root, size, store, registry), *chosen]
    if id_ and data is None:
        raise Misuse("--id names a sample of a data set: say which, --data NAME")
    if not chosen:
        raise Misuse("nothing to draw: say --data NAME [--id ID], or --images FILE")
    model = reference.load(registry, 0).to(choose_device(device))
    rows = figures.rows(model, chosen, text or [])
    picture = sheet.draw(model.identity.label, rows, model.preprocess)
    figures.save(picture, out)
    console.print(f"drew {len(rows)} images of {model.identity.label}: wrote {out}")


def _named(
    data: str,
    ids: list[str],
    root: Path | None,
    size: int | None,
    store: Path,
    registry: "Registry",
) -> "list[Subject]":
    from g2dbench import figure as figures

    return figures.named(open_data(data, root, store, size, registry), ids)


def profile(
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            help="Recipe name or TOML file. Repeats.", show_default="g2d-tiny, convirt-tiny"
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=2, help="Pairs of a step.", show_default="the recipe's")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=32, help="Side in pixels.", show_default="the recipe's")
    ] = None,
    report_length: Annotated[
        int | None, typer.Option(min=3, help="Tokens.", show_default="the recipe's longest")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Timed steps, after one of warm-up.")] = 5,
    random_weights: Annotated[
        bool,
        typer.Option(
            "--random-weights",
            help="Build published encoders from their sizes: nothing is downloaded.",
        ),
    ] = False,
    json: Annotated[Path | None, typer.Option(help="Write the figures here too.")] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    plugin: Plugins = None,
) -> None:
    """What training costs: weights, FLOPs, images/s and memory, with and without the decoder."""
    from g2dbench import costs
    from g2dbench.device import choose_device, choose_precision

    where = choose_device(device)
    load = costs.Load(
        batch_size=batch_size,
        image_size=image_size,
        report_length=report_length,
        steps=steps,
        random_weights=random_weights,
        device=str(where),
        precision=choose_precision(precision, where),
        plugins=tuple(plugin or ()),
    )
    jobs = costs.jobs(recipe or ["g2d-tiny", "convirt-tiny"], load)
    found = [costs.measure(job) for job in track(jobs, "measuring")]
    console.print(_table(found))
    for sentence in costs.answers(found):
        console.print(sentence)
    if json is not None:
        costs.save(found, json)


def _table(found: "list[Cost]") -> Table:
    first = found[0]
    table = Table(
        padding=(0, 1, 0, 0),
        caption=f"{first.hardware}, {first.precision}",
        caption_justify="left",
    )
    table.add_column("recipe", overflow="fold", style="bold")
    table.add_column("trains", overflow="fold")
    for heading in ("batch", "weights", "learn", "GFLOP", "images/s", "MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for cost in found:
        table.add_row(
            cost.recipe,
            cost.trains,
            f"{cost.batch_size}x{cost.image_size}",
            f"{cost.weights / 1e6:.1f}M",
            f"{cost.learning / 1e6:.1f}M",
            f"{cost.gflop_per_image:.3g}",
            f"{cost.images_per_s:.3g}",
            f"{cost.peak_mib:.0f}",
        )
    return table
