"""Prepared data sets: make one, find one, list them.

One process prepares a data set at a time; others wait for it and then find the store finished.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from g2dbench.cards import DatasetCard
from g2dbench.data.images.border import KEEP, Border
from g2dbench.data.splits.published import OURS, Split
from g2dbench.data.store.build import build
from g2dbench.data.store.request import Drawing, is_from, request
from g2dbench.data.store.store import MANIFEST_FILE, Store, read_manifest
from g2dbench.data.store.verify import describe, verify
from g2dbench.errors import BadData, Misuse
from g2dbench.registry import Registry
from g2dbench.system.files import locked
from g2dbench.system.worker_pool import default_workers

if TYPE_CHECKING:
    from g2dbench.progress import Progress

__all__ = [
    "Drawing",
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
    drawing: Drawing | None = None,
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
    asked = request(name, root, registry, size, drawing, split, options, own_name, border)
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


def find(
    name: str,
    root: Path | None,
    store_root: Path,
    size: int | None = None,
    split: str | None = None,
) -> Store | None:
    """The prepared store of a name, None where there is none; BadData if it is broken.

    Without root or size any will do; without a split the default one's store goes before others,
    and one with its borders before one without.
    Misuse lists them where several fit.
    """
    fits = [folder for folder in _places(store_root) if _is_of(folder, name, size)]
    if root is not None:
        fits = [fit for fit in fits if is_from(read_manifest(fit).origin, root)]
    if split is not None or len(fits) > 1:
        wanted = [fit for fit in fits if read_manifest(fit).split == (split or OURS)]
        fits = wanted if split is not None else wanted or fits
    if len(fits) > 1:
        fits = [fit for fit in fits if read_manifest(fit).border == KEEP] or fits
    if len(fits) > 1:
        names = ", ".join(fit.name for fit in fits)
        raise Misuse(
            f"{name!r} was prepared more than once: {names}; say which --size, --root and --split"
        )
    return Store(fits[0]) if fits else None


def prepared(
    name: str,
    root: Path | None,
    store_root: Path,
    *,
    registry: Registry,
    size: int | None = None,
    split: str | None = None,
) -> Store:
    """The prepared store of a name; BadData with the way out where there is none."""
    embedded = {card.name for card in registry.cards(DatasetCard) if card.embedded}
    store = find(name, None if name in embedded else root, store_root, size, split)
    if store is None:
        card = registry.find(DatasetCard, name).card
        at = f" at {size} px" if size else ""
        of = "" if card.embedded else " --root FOLDER"
        of += f" --split {split}" if split else ""
        raise BadData(
            f"{name!r} is not prepared{at} in {store_root}: run `g2dbench data prepare {name}{of}`"
        )
    return store


def prepared_in(store_root: Path) -> list[Store]:
    """Every complete store of a folder, by name; unfinished ones are not listed."""
    return [Store(place) for place in _places(store_root) if (place / MANIFEST_FILE).is_file()]


def names_in(store_root: Path) -> set[str]:
    """The names under which a folder holds stores, those of a user's own data among them."""
    matches = (_FOLDER.fullmatch(folder.name) for folder in _places(store_root))
    return {match[1] for match in matches if match is not None}


def open_or_prepare(
    name: str,
    root: Path | None,
    store_root: Path,
    *,
    progress: "Progress",
    registry: Registry,
    size: int | None = None,
    workers: int | None = 0,
    drawing: Drawing | None = None,
    split: Split | None = None,
) -> Store:
    """The store of exactly this request, prepared first where there is none; see `prepare`.

    A broken store is an error here, for what was trained on it should not change silently.
    """
    folder = store_root / request(name, root, registry, size, drawing, split).folder
    if folder.exists():
        return Store(folder)
    return prepare(
        name,
        root,
        store_root,
        progress=progress,
        registry=registry,
        size=size,
        workers=workers,
        drawing=drawing,
        split=split,
    )


_FOLDER = re.compile(r"(.+)-(\d+)-[0-9a-f]{8}")


def _places(store_root: Path) -> list[Path]:
    """The folders that are named like stores."""
    inside = store_root.iterdir() if store_root.is_dir() else iter(())
    return sorted(place for place in inside if place.is_dir() and _FOLDER.fullmatch(place.name))


def _is_of(place: Path, name: str, size: int | None) -> bool:
    match = _FOLDER.fullmatch(place.name)
    return match is not None and match[1] == name and size in (None, int(match[2]))


def _is_complete(folder: Path) -> bool:
    """Whether a usable store is there; a broken one is as good as none."""
    try:
        read_manifest(folder)
    except BadData:
        return False
    return True
