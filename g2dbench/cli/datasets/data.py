"""`g2dbench data prepare|list|verify|show|overlap|export|rm`."""

from typing import Annotated

import typer

from g2dbench.cli.app import Group
from g2dbench.cli.blocks import show as show_blocks
from g2dbench.cli.console import console, track
from g2dbench.cli.options import (
    DEFAULT_STORE,
    Plugins,
    ReaderOptions,
    Root,
    Size,
    Split,
    Store,
    Workers,
    parse_options,
)
from g2dbench.data.images.border import KEEP, Border
from g2dbench.data.reports.cleaning import DEFAULT, CleaningName
from g2dbench.errors import Misuse

app = typer.Typer(
    cls=Group,
    help="Prepare data sets from their official layouts, verify and inspect them.",
    no_args_is_help=True,
)
Name = Annotated[
    str,
    typer.Argument(help="Data set, as for --data; `g2dbench data list`.", show_default=False),
]
OwnName = Annotated[
    str | None,
    typer.Option("--name", help="Name for your own data, with pairs, images and hf."),
]


Lists = Annotated[
    list[str] | None,
    typer.Option(
        "--split-file",
        help="The authors' list of a published split: SPLIT=FILE, or a table. Repeats.",
    ),
]


@app.command(epilog="Example: g2dbench data prepare rsna --root ~/rsna --split mgca-det")
def prepare(
    name: Name,
    root: Root = None,
    own_name: OwnName = None,
    option: ReaderOptions = None,
    size: Size = None,
    store: Store = DEFAULT_STORE,
    split: Split = None,
    split_file: Lists = None,
    border: Annotated[
        Border, typer.Option(help="crop removes the black and white borders of films.")
    ] = KEEP,
    workers: Workers = None,
    plugin: Plugins = None,
) -> None:
    """Read and check an official folder and store it once; all commands then read the store."""
    from g2dbench.data import prepare as preparing
    from g2dbench.data import reference
    from g2dbench.data.opening import generation_of
    from g2dbench.registry import Registry

    registry, asked = Registry(plugin or ()), reference.parse(name)
    if split and asked.split:
        raise Misuse(f"{name!r} and --split {split} both name a split: say one")
    data = preparing.prepare(
        asked.name,
        root,
        store,
        size=size,
        workers=workers,
        generation=generation_of(asked, registry),
        split=preparing.Split.parse(split or asked.split, split_file or ()),
        progress=track,
        registry=registry,
        options=parse_options(option),
        own_name=own_name,
        border=border,
        echo=lambda sentence: console.print(sentence, soft_wrap=True, markup=False),
    )
    if own_name is not None:
        console.print(data.card.summary, markup=False)
    console.print(preparing.describe(data), markup=False)
    console.print(f"prepared {data.card.name}: wrote {data.folder}")


@app.command("list", epilog="Example: g2dbench data list --json")
def list_(
    store: Store = DEFAULT_STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plugin: Plugins = None,
) -> None:
    """List data sets: annotations, where to get them, license, and what is prepared."""
    from g2dbench.cli.datasets import data_table
    from g2dbench.data.inventory import list_datasets
    from g2dbench.registry import Registry

    found = list_datasets(Registry(plugin or ()), store)
    if as_json:
        typer.echo(data_table.as_json(found))
    else:
        show_blocks(data_table.as_blocks(found), console)


@app.command(epilog="Example: g2dbench data verify rsna")
def verify(
    name: Name, root: Root = None, size: Size = None, store: Store = DEFAULT_STORE,
    split: Split = None, workers: Workers = None, plugin: Plugins = None,
    rows: Annotated[
        bool, typer.Option("--source", help="Also read the source again and compare every row.")
    ] = False,
) -> None:  # fmt: skip
    """Check a prepared data set: fingerprint, shared patients, duplicates, changes of its source.

    The names, sizes and times of the source's files are compared, if the source is there.
    """
    from g2dbench.cli.open_data import open_prepared
    from g2dbench.data import prepare as preparing
    from g2dbench.data import source_check
    from g2dbench.registry import Registry

    registry = Registry(plugin or ())
    data = open_prepared(name, root, store, size, registry, split)
    console.print(str(preparing.verify(data, progress=track)), markup=False)
    console.print(source_check.check_files(data, registry), soft_wrap=True, markup=False)
    if rows:
        told = source_check.check_rows(data, registry, track, workers)
        console.print(told, soft_wrap=True, markup=False)


@app.command(epilog="Example: g2dbench data show mimic_cxr --cleaning mgca")
def show(
    name: Name,
    root: Root = None,
    size: Size = None,
    cleaning: Annotated[
        CleaningName,
        typer.Option(help="Report cleaning; the image-report pairs that it leaves are counted."),
    ] = DEFAULT,
    store: Store = DEFAULT_STORE,
    split: Split = None,
    plugin: Plugins = None,
) -> None:
    """Show a prepared data set: images per split, labels, and image-report pairs."""
    from g2dbench.cli.open_data import open_prepared
    from g2dbench.data import prepare as preparing
    from g2dbench.registry import Registry

    data = open_prepared(name, root, store, size, Registry(plugin or ()), split)
    console.print(preparing.describe(data, cleaning), markup=False)


@app.command(epilog="Example: g2dbench data overlap open_i rsna@mgca-det")
def overlap(
    one: Name,
    other: Annotated[
        str, typer.Argument(help="The other data set, as for --data.", show_default=False)
    ],
    size: Size = None,
    store: Store = DEFAULT_STORE,
    plugin: Plugins = None,
) -> None:
    """Count what two prepared data sets share: patients, studies, the same or similar images."""
    from g2dbench.cli.open_data import open_data
    from g2dbench.data import overlap as overlaps
    from g2dbench.registry import Registry

    registry = Registry(plugin or ())
    first, second = (open_data(name, None, store, size, registry) for name in (one, other))
    console.print(str(overlaps.overlap(first, second, track)))


@app.command(epilog="Example: g2dbench data export open_i --format webdataset --out shards")
def export(
    name: Name,
    out: Annotated[
        str, typer.Option(help="Empty or new folder, or s3://BUCKET/PREFIX.", show_default=False)
    ],
    format_: Annotated[str, typer.Option("--format", help="parquet or webdataset.")] = "parquet",
    shard_images: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Largest number of images in a shard.")
    ] = 1000,
    root: Root = None,
    size: Size = None,
    store: Store = DEFAULT_STORE,
    plugin: Plugins = None,
) -> None:
    """Write a prepared data set as shards, for streaming from a folder, S3 or http."""
    from g2dbench.cli.open_data import open_data
    from g2dbench.data.shards import export as exporting
    from g2dbench.data.shards.index import INDEX_FILE, parse_kind
    from g2dbench.registry import Registry

    kind = parse_kind(format_)
    data = open_data(name, root, store, size, Registry(plugin or ()))
    if warning := exporting.license_warning(data.card.licence):
        console.print(warning)
    index = exporting.export(data, kind, out, shard_images=shard_images, progress=track)
    megabytes = sum(shard.bytes for shard in index.shards) / 1e6
    pairs = ", ".join(f"{count} {split}" for split, count in index.pairs.items())
    console.print(
        f"exported {index.rows} images ({pairs} pairs) as {len(index.shards)} shards, "
        f"{megabytes:,.1f} MB: wrote {out.rstrip('/')}/{INDEX_FILE}"
    )


@app.command(epilog="Examples: g2dbench data rm rsna; g2dbench data rm synthetic:240 --yes")
def rm(
    name: Name,
    size: Size = None,
    store: Store = DEFAULT_STORE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove the prepared stores of a data set; its original images are kept.

    All sizes and splits of it, unless --size, NAME@SPLIT or the name of one store says which.
    """
    from g2dbench.data import reference, removal

    found = removal.find_removable(reference.parse(name), store, size)
    total = sum(item.bytes for item in found) / 1e6
    for item in found:
        console.print(f"  {item}", soft_wrap=True, markup=False)
    if not yes and not typer.confirm(f"Remove this, {total:,.1f} MB in {store}?"):
        console.print("nothing was removed")
        raise typer.Exit(1)
    for item in found:
        removal.remove(item)
    console.print(f"freed {total:,.1f} MB in {store}", soft_wrap=True)
