"""Prepare a data set if it is not prepared yet; `prepared_stores` finds prepared ones.

One process at a time prepares a data set; the others wait and then use the finished store.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from g2dbench.data.images.border import KEEP, Border
from g2dbench.data.prepared_stores import (
    Echo,
    all_sizes,
    choose_size,
    find_store,
    require_store,
    store_names,
    stored_size,
    stores_in,
)
from g2dbench.data.splits.published import Split
from g2dbench.data.store.build import build
from g2dbench.data.store.manifest import read_manifest
from g2dbench.data.store.request import GenerationSettings, request
from g2dbench.data.store.store import Store
from g2dbench.data.store.verify import describe, verify
from g2dbench.errors import BadData
from g2dbench.registry import Registry
from g2dbench.system.files import locked
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
) -> Store:
    """Return the complete store of a data set; create it if it is missing or broken.

    options: options of the reader, with the keys of its card; own_name: the name of user data that
    a generic reader reads. size: short side in pixels; 256 by default, 128 for an embedded set.
    workers: number of decoding processes; 0 decodes in this process, None uses one per core. split:
    a published split, see `splits.published`; None for the official or the default split. border:
    whether black and white margins are removed, see `images.border`. The fingerprint of the store
    depends neither on the workers nor on the order of files.

    Raises:
        Misuse: an unknown data set or option, an impossible size, or a missing root or own_name.
        BadData: the folder does not have the official layout, holds none of the images, more than
            5 % of them are broken, or the store cannot be written.
    """
    requested = request(name, root, registry, size, generation, split, options, own_name, border)
    folder = store_root / requested.folder
    if _is_complete(folder):
        return Store(folder)
    try:
        with locked(folder):
            # The process that held the lock before may have finished the store.
            if not _is_complete(folder):
                processes = default_workers() if workers is None else workers
                build(requested, folder, processes, progress)
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
    )


def _is_complete(folder: Path) -> bool:
    """Whether a usable store exists; a broken one counts as missing."""
    try:
        read_manifest(folder)
    except BadData:
        return False
    return True
