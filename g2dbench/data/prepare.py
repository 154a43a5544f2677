"""Prepare a data set, unless it is prepared already; `prepared` finds what is there.

One process prepares a data set at a time; others wait for it and then find the store finished.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from g2dbench.data.images.border import KEEP, Border
from g2dbench.data.prepared import (
    Echo,
    choose,
    find,
    names_in,
    prepared,
    prepared_in,
    size_of,
    sizes_of,
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
    "find",
    "names_in",
    "open_or_prepare",
    "prepare",
    "prepared",
    "prepared_in",
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
    """The complete store of a data set, made now unless it exists; a broken one is replaced.

    options: what the reader is told, by the keys of its card; own_name: what a generic reader's
    data is called from now on. size: short side in pixels, 256 (128 for an embedded set).
    workers: processes that decode, 0 for this one, None for one per core. split: a published one,
    see `presets`; by default the official one or ours. border: whether black and white margins
    are cut off, see `border`. The store's fingerprint depends on neither
    workers nor the order of files.

    Raises:
        Misuse: unknown data set or option, no root, no name for data of one's own, impossible size.
        BadData: the folder is not in the official layout, holds none of its images, more than
            5 % of them are broken, or the store cannot be written.
    """
    asked = request(name, root, registry, size, generation, split, options, own_name, border)
    folder = store_root / asked.folder
    if _is_complete(folder):
        return Store(folder)
    try:
        with locked(folder):
            # Whoever held the lock before may have finished it.
            if not _is_complete(folder):
                processes = default_workers() if workers is None else workers
                build(asked, folder, processes, progress)
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
    """The store of this request, prepared first where there is none; see `prepare`.

    A larger store of the same data serves too, shrunk on read; without a size the largest is taken,
    if it has the size that would be prepared. Drawn images are drawn at each size anew. A broken
    store is an error here, for what was trained on it should not change silently. echo: is told
    which store was taken where there was a choice.
    """
    asked = request(name, root, registry, size, generation, split)
    folder = store_root / asked.folder
    if asked.card.embedded:
        there = Store(folder) if folder.exists() else None
    else:
        alike = sizes_of(store_root, asked.folder)
        there = choose([one for one in alike if size_of(one) >= asked.size], size, echo)
    if there is not None:
        return there
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
    """Whether a usable store is there; a broken one is as good as none."""
    try:
        read_manifest(folder)
    except BadData:
        return False
    return True
