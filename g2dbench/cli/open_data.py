"""Opens the prepared data set of `--data`, `--root` and `--size`."""

from pathlib import Path
from typing import TYPE_CHECKING

from g2dbench.cli.console import console, track
from g2dbench.registry import Registry

if TYPE_CHECKING:
    from g2dbench.data.shards.stream import Stream
    from g2dbench.data.store.store import Store
    from g2dbench.reporting.stored_results import StoredResult


def check_name(text: str, store: Path, registry: Registry) -> None:
    """Raise Misuse unless `--data` is a known data set or the name of prepared data of your own."""
    from g2dbench.data import prepared_stores, reference

    prepared_stores.check_known(reference.parse(text).name, store, registry)


def open_data(
    text: str, root: Path | None, store: Path, size: int | None, registry: Registry
) -> "Store":
    """The prepared data set; with --root it is prepared first if necessary."""
    from g2dbench.data import opening, prepare, reference

    requested = reference.parse(text)
    card = opening.card_of(requested, registry)
    if root is None or card is None or card.embedded:
        return open_prepared(text, root, store, size, registry)
    data = prepare.open_or_prepare(
        requested.name,
        root,
        store,
        size=size,
        workers=None,
        progress=track,
        registry=registry,
        split=prepare.Split.parse(requested.split, ()),
        echo=_print_once,
    )
    return data.named(text) if requested.split else data


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
        text, store, registry, root=root, size=size, split=split, progress=track, echo=_print_once
    )


def open_evaluated(stored: "StoredResult", store: Path, registry: Registry) -> "Store":
    """The prepared data set of a result, in the image size of its evaluation.

    BadResult if it is not the one on which the result was evaluated.
    """
    from g2dbench.reporting.errors.case_overlays import check_fingerprint

    size = stored.result.provenance.config.get("image_size")
    data = open_prepared(
        stored.result.cell.data, None, store, size if isinstance(size, int) else None, registry
    )
    check_fingerprint(data, stored)
    return data


def _print_once(sentence: str) -> None:
    """Print a sentence in the main process only, where several processes train."""
    from g2dbench.training.distributed import is_main_process

    if is_main_process():
        console.print(sentence, soft_wrap=True, markup=False)


def open_shards(
    name: str, store: Path, size: int, options: dict[str, str], buffer: int | None
) -> "Stream":
    """The shards of `stream:ADDRESS`, read without copying the data set."""
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
