"""`g2dbench data prepare|verify|show|list|overlap`."""

from typing import Annotated

import typer

from g2dbench.cli import listing
from g2dbench.cli.application import Group
from g2dbench.cli.console import console, track
from g2dbench.cli.options import DEFAULT_STORE, Plugins, Root, Size, Split, Store

app = typer.Typer(
    cls=Group,
    help="Prepare data sets in their official layouts, check them, show what is in them.",
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(help="Data set; `g2dbench list data`.", show_default=False)]
Workers = Annotated[
    int | None,
    typer.Option(min=0, help="Processes; 0 reads in this one.", show_default="one per core"),
]


Lists = Annotated[
    list[str] | None,
    typer.Option(
        "--split-file", help="The authors' list of a published split: SPLIT=FILE, or a table."
    ),
]


@app.command(epilog="Example: g2dbench data prepare rsna --root ~/rsna --split mgca-det")
def prepare(
    name: Name,
    root: Root = None,
    size: Size = None,
    store: Store = DEFAULT_STORE,
    split: Split = None,
    split_file: Lists = None,
    workers: Workers = None,
    plugin: Plugins = None,
) -> None:
    """Read an official folder, check it, and pack it once; everything after reads the pack."""
    from g2dbench.data import prepare as preparing
    from g2dbench.registry import Registry

    data = preparing.prepare(
        name,
        root,
        store,
        size=size,
        workers=workers,
        split=preparing.Split.parse(split, split_file or ()),
        progress=track,
        registry=Registry(plugin or ()),
    )
    console.print(preparing.describe(data))
    console.print(f"prepared {data.card.name}: wrote {data.folder}")


@app.command("list", epilog="Example: g2dbench data list")
def list_(plugin: Plugins = None) -> None:
    """List the data sets: what they offer, where to get them, their licence."""
    listing.list_(listing.Kind.data, plugin)


@app.command(epilog="Example: g2dbench data verify rsna")
def verify(
    name: Name, root: Root = None, size: Size = None, store: Store = DEFAULT_STORE,
    split: Split = None, plugin: Plugins = None,
) -> None:  # fmt: skip
    """Re-read a prepared data set: fingerprint, splits that share patients, duplicates."""
    from g2dbench.data import prepare as preparing
    from g2dbench.registry import Registry

    registry = Registry(plugin or ())
    data = preparing.prepared(name, root, store, size=size, registry=registry, split=split)
    console.print(str(preparing.verify(data, progress=track)))


@app.command(epilog="Example: g2dbench data show synthetic")
def show(
    name: Name, root: Root = None, size: Size = None, store: Store = DEFAULT_STORE,
    split: Split = None, plugin: Plugins = None,
) -> None:  # fmt: skip
    """Show a prepared data set: images per split, labels, and which pairs its reports give."""
    from g2dbench.data import prepare as preparing
    from g2dbench.registry import Registry

    registry = Registry(plugin or ())
    data = preparing.prepared(name, root, store, size=size, registry=registry, split=split)
    console.print(preparing.describe(data))


@app.command(epilog="Example: g2dbench data overlap open_i rsna@mgca-det")
def overlap(
    one: Name,
    other: Annotated[str, typer.Argument(help="The other one, likewise.", show_default=False)],
    size: Size = None,
    store: Store = DEFAULT_STORE,
    plugin: Plugins = None,
) -> None:
    """Count what two prepared data sets share: patients, studies, the same or similar images."""
    from g2dbench.cli.source import open_data
    from g2dbench.data import overlap as overlaps
    from g2dbench.registry import Registry

    registry = Registry(plugin or ())
    first, second = (open_data(name, None, store, size, registry) for name in (one, other))
    console.print(str(overlaps.overlap(first, second, track)))
