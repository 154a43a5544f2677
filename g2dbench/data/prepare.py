"""Prepare a data set if it is not prepared yet; `prepared_stores` finds prepared ones.

One process at a time prepares a data set; the others wait and then use the finished store.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from g2dbench.data.images.border import KEEP, Border
from g2dbench.data.prepared_stores import (
    Echo,
    all_sizes,
    choose_size,
    find_store,
    prepare_command,
    require_store,
    silent,
    store_names,
    stored_size,
    stores_in,
)
from g2dbench.data.splits.published import Split
from g2dbench.data.store.build import build
from g2dbench.data.store.manifest import Manifest, read_manifest
from g2dbench.data.store.publish import has_leftovers, remove_leftovers
from g2dbench.data.store.request import GenerationSettings, Request, request
from g2dbench.data.store.source_files import SourceFiles, describe_change, scan
from g2dbench.data.store.store import Store
from g2dbench.data.store.verify import describe, verify
from g2dbench.errors import BadData
from g2dbench.registry import Registry
from g2dbench.system.locks import locked, try_lock
from g2dbench.system.worker_pool import default_workers

if TYPE_CHECKING:
    from g2dbench.progress import Progress

__all__ = [
    "GenerationSettings",
    "Split",
    "describe",
    "find_store",
    "store_names",
    "open_or_prepare",
    "prepare",
    "require_store",
    "stores_in",
    "verify",
]


def prepare(
    name: str,
    root: Path | None,
    store_root: Path,
    *,
    progress: "Progress",
    registry: Registry,
    size: int | None = None,
    workers: int | None = 0,
    generation: GenerationSettings | None = None,
    split: Split | None = None,
    options: Mapping[str, str] | None = None,
    own_name: str | None = None,
    border: Border = KEEP,
    echo: Echo = silent,
) -> Store:
    """Return the complete store of a data set; create it if it is missing, broken or out of date.

    A store is out of date if its source has other files than when it was prepared, see
    `store.source_files`; a sentence says what has changed, and the new store replaces the old one.

    options: options of the reader, with the keys of its card; own_name: the name of user data that
    a generic reader reads. size: short side in pixels; 256 by default, 128 for an embedded set.
    workers: number of decoding processes; 0 decodes in this process, None uses one per core. split:
    a published split, see `splits.published`; None for the official or the default split. border:
    whether black and white margins are removed, see `images.border`. The fingerprint of the store
    depends neither on the workers nor on the order of files. echo: receives sentences about the
    source.

    Raises:
        Misuse: an unknown data set or option, an impossible size, or a missing root or own_name.
        BadData: the folder does not have the official layout, holds none of the images, more than
            5 % of them are broken, or the store cannot be written.
    """
    requested = request(name, root, registry, size, generation, split, options, own_name, border)
    folder = store_root / requested.folder
    files = scan(requested, store_root)
    if _is_current(folder, files, echo):
        _clean(folder)
        return Store(folder)
    try:
        with locked(folder):
            # The process that held the lock before may have finished the store.
            if not _is_current(folder, files, silent):
                before = _manifest(folder)
                processes = default_workers() if workers is None else workers
                build(requested, folder, processes, progress, files)
                _tell_difference(before, Store(folder), echo)
    except OSError as error:
        raise BadData(f"the store {folder} cannot be written: {error}") from error
    return Store(folder)


def open_or_prepare(
    name: str,
    root: Path | None,
    store_root: Path,
    *,
    progress: "Progress",
    registry: Registry,
    size: int | None = None,
    workers: int | None = 0,
    generation: GenerationSettings | None = None,
    split: Split | None = None,
    echo: Echo = lambda _: None,
) -> Store:
    """Open the store of a request; prepare it first if there is none, see `prepare`.

    A larger store of the same data is used too and shrunk on read; without a size, the largest one
    is used if it has at least the default size. Embedded data are generated for each size. A broken
    store is an error here, because data that models were trained on must not change silently. echo:
    receives a sentence about the store that is used, if there was a choice.
    """
    requested = request(name, root, registry, size, generation, split)
    folder = store_root / requested.folder
    if requested.card.embedded:
        existing = Store(folder) if folder.exists() else None
    else:
        candidates = all_sizes(store_root, requested.folder)
        existing = choose_size(
            [one for one in candidates if stored_size(one) >= requested.size], size, echo
        )
    if existing is not None:
        _check_current(existing, requested, store_root)
        return existing
    return prepare(
        name,
        root,
        store_root,
        progress=progress,
        registry=registry,
        size=size,
        workers=workers,
        generation=generation,
        split=split,
        echo=echo,
    )


def _check_current(store: Store, asked: Request, store_root: Path) -> None:
    """BadData, with both ways out, if the source of a store has changed."""
    before, now = store.manifest.source, scan(asked, store_root)
    if before is None or now is None or before.digest == now.digest:
        return
    command = prepare_command(store.manifest, store_root, store.manifest.size, asked.split.name)
    raise BadData(
        f"{store.folder.name}: {describe_change(before, now)}: prepare it again with `{command}`, "
        "or omit --root to use the data as they were prepared"
    )


def _is_current(folder: Path, files: SourceFiles | None, echo: Echo) -> bool:
    """Whether a usable store of these files exists; a broken one counts as missing."""
    manifest = _manifest(folder)
    if manifest is None:
        return False
    if files is None:
        return True
    if manifest.source is None:
        echo(
            f"{folder.name} was prepared by an older g2dbench, which did not record its source: if "
            f"that has changed, run `g2dbench data rm {folder.name}` and prepare it again"
        )
        return True
    if manifest.source.digest != files.digest:
        echo(f"{folder.name}: {describe_change(manifest.source, files)}: preparing it again")
        return False
    echo(f"{folder.name} is prepared, and its source is as it was: {files}")
    return True


def _clean(folder: Path) -> None:
    """Remove the leftovers of a killed process beside a complete store, unless one is at work."""
    if not has_leftovers(folder):
        return
    with suppress(OSError), try_lock(folder) as holder:  # a store that may only be read
        if holder is None:
            remove_leftovers(folder)


def _tell_difference(before: Manifest | None, store: Store, echo: Echo) -> None:
    """Say whether a store that was prepared again has other content."""
    if before is None:
        return
    if before.fingerprint == store.manifest.fingerprint:
        echo("its images and annotations are the same as before")
        return
    echo(
        f"its content has changed: fingerprint {before.fingerprint[:12]} before, "
        f"{store.manifest.fingerprint[:12]} now; runs and results of the earlier one are kept and "
        "are not mixed with new ones"
    )


def _manifest(folder: Path) -> Manifest | None:
    """The manifest of a usable store; None if there is none, or it is broken."""
    try:
        return read_manifest(folder)
    except BadData:
        return None
