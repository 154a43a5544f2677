"""From `--data`, `--root` and `--size` to a prepared data set."""

from pathlib import Path
from typing import TYPE_CHECKING

from g2dbench.cli.console import console, track
from g2dbench.registry import Registry

if TYPE_CHECKING:
    from g2dbench.data.shards.stream import Stream
    from g2dbench.data.store.store import Store


def check_name(text: str, store: Path, registry: Registry) -> None:
    """Misuse unless `--data` names a data set, or own data that was prepared under that name."""
    from g2dbench.data import prepared, reference

    prepared.check_known(reference.parse(text).name, store, registry)


def open_data(
    text: str, root: Path | None, store: Path, size: int | None, registry: Registry
) -> "Store":
    """The prepared data set; prepared now from --root, or found without it if it was before."""
    from g2dbench.data import opening, prepare, reference

    asked = reference.parse(text)
    card = opening.card_of(asked, registry)
    if root is None or card is None or card.embedded:
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
    """`data.opening.open_prepared` with a progress bar and printed sentences."""
    from g2dbench.data import opening

    return opening.open_prepared(
        text, store, registry, root=root, size=size, split=split, progress=track, echo=_tell
    )


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
        buffer=buffer or stream.DEFAULT_BUFFER,
    )
