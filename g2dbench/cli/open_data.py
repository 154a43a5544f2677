"""From `--data`, `--root` and `--size` to a prepared data set."""

from pathlib import Path
from typing import TYPE_CHECKING

from g2dbench.cards import DatasetCard
from g2dbench.cli.console import console, track
from g2dbench.errors import Misuse
from g2dbench.registry import Registry

if TYPE_CHECKING:
    from g2dbench.data.shards.stream import Stream
    from g2dbench.data.store.store import Store


def check_name(name: str, store: Path, registry: Registry) -> None:
    """Misuse unless `--data` names a data set, or own data that was prepared under that name."""
    from g2dbench.data import prepare

    bare = name.partition("@")[0].partition(":")[0]
    if bare not in prepare.names_in(store):
        registry.find(DatasetCard, bare)


def open_data(
    name: str, root: Path | None, store: Path, size: int | None, registry: Registry
) -> "Store":
    """The prepared data set; prepared now from --root, or found without it if it was before."""
    from g2dbench.data import prepare

    name, _, chosen = name.partition("@")
    if chosen:
        return _published(name, chosen, root, store, size, registry)
    name, colon, count = name.partition(":")
    if name not in {card.name for card in registry.cards(DatasetCard)}:
        # A name that `data prepare --name` gave.
        return prepare.prepared(name, root, store, size=size, registry=registry)
    card = registry.find(DatasetCard, name).card
    if colon:
        return _drawn(card, count, store, size, registry)
    if root is None and not card.embedded:
        return prepare.prepared(name, None, store, size=size, registry=registry)
    return prepare.open_or_prepare(
        name, root, store, size=size, workers=None, progress=track, registry=registry
    )


def open_shards(
    name: str, store: Path, size: int, options: dict[str, str], buffer: int | None
) -> "Stream":
    """`stream:ADDRESS`, shards that are read where they lie."""
    from g2dbench.data.shards import stream
    from g2dbench.training.distributed import is_main_process

    return stream.open_stream(
        name.removeprefix(stream.PREFIX),
        size,
        store,
        progress=track,
        echo=console.print if is_main_process() else lambda _: None,
        warn=console.print,
        options=options,
        buffer=buffer or stream.BUFFER,
    )


def _published(
    name: str, split: str, root: Path | None, store: Path, size: int | None, registry: Registry
) -> "Store":
    """`rsna@mgca-det`, a data set under a published split, and under that name."""
    from g2dbench.data import prepare

    if root is None:
        data = prepare.prepared(name, None, store, size=size, split=split, registry=registry)
    else:
        data = prepare.open_or_prepare(
            name,
            root,
            store,
            size=size,
            workers=None,
            progress=track,
            registry=registry,
            split=prepare.Split.parse(split, ()),
        )
    return data.named(f"{name}@{split}")


def _drawn(
    card: DatasetCard, count: str, store: Path, size: int | None, registry: Registry
) -> "Store":
    """`synthetic:300`, so many images of an embedded set, under that name."""
    from g2dbench.data import prepare

    if not card.embedded or not count.isdecimal():
        raise Misuse(f"--data {card.name}:{count}: only an embedded set takes a number of images")
    data = prepare.open_or_prepare(
        card.name,
        None,
        store,
        size=size,
        workers=None,
        progress=track,
        registry=registry,
        drawing=prepare.Drawing(count=int(count)),
    )
    return data.named(f"{card.name}:{count}")
