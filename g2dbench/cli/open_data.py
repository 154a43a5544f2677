"""From `--data`, `--root` and `--size` to a prepared data set."""

from pathlib import Path
from typing import TYPE_CHECKING

from g2dbench.cards import DatasetCard
from g2dbench.cli.console import console, track
from g2dbench.errors import Misuse
from g2dbench.registry import Registry

if TYPE_CHECKING:
    from g2dbench.data.reference import DataReference
    from g2dbench.data.shards.stream import Stream
    from g2dbench.data.store.request import Drawing
    from g2dbench.data.store.store import Store


def check_name(text: str, store: Path, registry: Registry) -> None:
    """Misuse unless `--data` names a data set, or own data that was prepared under that name."""
    from g2dbench.data import prepared, reference

    prepared.check_known(reference.parse(text).name, store, registry)


def open_data(
    text: str, root: Path | None, store: Path, size: int | None, registry: Registry
) -> "Store":
    """The prepared data set; prepared now from --root, or found without it if it was before."""
    from g2dbench.data import prepare, reference

    asked = reference.parse(text)
    if root is None or _card(asked, registry) is None or _is_embedded(asked, registry):
        return open_prepared(text, root, store, size, registry)
    data = prepare.open_or_prepare(
        asked.name,
        root,
        store,
        size=size,
        workers=None,
        progress=track,
        registry=registry,
        split=prepare.Split.parse(asked.split, ()),
        echo=_tell,
    )
    return data.named(text) if asked.split else data


def open_prepared(
    text: str,
    root: Path | None,
    store: Path,
    size: int | None,
    registry: Registry,
    split: str | None = None,
) -> "Store":
    """The data set as it is prepared; only an embedded one is drawn now if it is not there.

    root, split: which one, of a data set that was prepared more than once.
    """
    from g2dbench.data import prepared, reference

    asked = reference.parse(text)
    if split and asked.split and split != asked.split:
        raise Misuse(f"{text!r} and --split {split} name two splits: say one")
    if _is_embedded(asked, registry):
        return _drawn(asked, store, size, registry, split)
    if asked.count is not None:
        raise Misuse(f"{text!r}: only an embedded set takes a number of images")
    data = prepared.prepared(
        asked.name, root, store,
        registry=registry, size=size, split=split or asked.split, echo=_tell,
    )  # fmt: skip
    return data.named(text) if asked.split or data.card.embedded else data


def drawing_of(asked: "DataReference", registry: Registry) -> "Drawing | None":
    """How many images NAME:COUNT asks for; None for the usual number."""
    from g2dbench.data.store.request import Drawing

    if asked.count is None:
        return None
    if not _is_embedded(asked, registry):
        raise Misuse(f"{asked.text!r}: only an embedded set takes a number of images")
    return Drawing(count=asked.count)


def _card(asked: "DataReference", registry: Registry) -> DatasetCard | None:
    """The card of the registry; None for data of one's own, and for a store's name."""
    cards = (card for card in registry.cards(DatasetCard) if card.name == asked.name)
    return next(cards, None)


def _is_embedded(asked: "DataReference", registry: Registry) -> bool:
    card = _card(asked, registry)
    return card is not None and card.embedded


def _tell(sentence: str) -> None:
    """Say it once, not in each process of a training."""
    from g2dbench.training.distributed import is_main_process

    if is_main_process():
        console.print(sentence, soft_wrap=True, markup=False)


def open_shards(
    name: str, store: Path, size: int, options: dict[str, str], buffer: int | None
) -> "Stream":
    """`stream:ADDRESS`, shards that are read where they lie."""
    from g2dbench.data.reference import STREAM
    from g2dbench.data.shards import stream
    from g2dbench.training.distributed import is_main_process

    return stream.open_stream(
        name.removeprefix(STREAM),
        size,
        store,
        progress=track,
        echo=console.print if is_main_process() else lambda _: None,
        warn=console.print,
        options=options,
        buffer=buffer or stream.BUFFER,
    )


def _drawn(
    asked: "DataReference", store: Path, size: int | None, registry: Registry, split: str | None
) -> "Store":
    """An embedded set, so many images of it where a number is asked for, under that name."""
    from g2dbench.data import prepare

    data = prepare.open_or_prepare(
        asked.name,
        None,
        store,
        size=size,
        workers=None,
        progress=track,
        registry=registry,
        drawing=drawing_of(asked, registry),
        split=prepare.Split.parse(split or asked.split, ()),
    )
    return data.named(asked.text) if asked.count is not None else data
