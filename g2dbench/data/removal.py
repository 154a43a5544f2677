"""Removal of prepared stores and of the files of interrupted preparations, for `data rm`."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from g2dbench.data.reference import DataReference
from g2dbench.data.store.manifest import QUARANTINE_FILE, Manifest, read_manifest
from g2dbench.data.store.request import GenerationSettings
from g2dbench.errors import BadData, Misuse
from g2dbench.system.locks import locked_at_once

_STORE_FILE = re.compile(
    rf"\.?(.+-\d+-[0-9a-f]{{8}})(?:\.partial|\.journal|\.broken|\.old|\.{re.escape(QUARANTINE_FILE)})?"
)
"""The names of a store and of the hidden files of its unfinished preparation."""


@dataclass(frozen=True)
class Removable:
    """All files of one store, complete or not; bytes: their size."""

    store: str
    paths: tuple[Path, ...]
    bytes: int
    is_complete: bool

    def __str__(self) -> str:
        half = "" if self.is_complete else ", half made or broken"
        return f"{self.store} ({self.bytes / 1e6:,.1f} MB{half})"


def find_removable(reference: DataReference, store_root: Path, size: int | None) -> list[Removable]:
    """Find the stores that a name means: all stores of a data set, or one store.

    The split and the number of images in the name, and `size`, restrict the selection. Misuse if no
    store remains.
    """
    paths: dict[str, list[Path]] = {}
    for path in sorted(store_root.iterdir()) if store_root.is_dir() else ():
        if match := _STORE_FILE.fullmatch(path.name):
            paths.setdefault(match[1], []).append(path)
    found = [
        Removable(
            store,
            tuple(store_paths),
            sum(map(_disk_bytes, store_paths)),
            _manifest(store_root / store) is not None,
        )
        for store, store_paths in paths.items()
        if _matches(reference, store_root / store, size)
    ]
    if not found:
        at = f" at {size} px" if size else ""
        raise Misuse(
            f"nothing of {reference.text!r}{at} is prepared in {store_root}: `g2dbench data list` "
            "shows what is"
        )
    return found


def remove(item: Removable) -> None:
    """Delete all files of a store; Busy if another process is preparing it."""
    with locked_at_once(item.paths[0].with_name(item.store)):
        for path in item.paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _matches(reference: DataReference, store: Path, size: int | None) -> bool:
    name, store_size, _ = store.name.rsplit("-", 2)
    if reference.name not in (name, store.name) or size not in (None, int(store_size)):
        return False
    if reference.split is None and reference.count is None:
        return True
    manifest = _manifest(store)
    if manifest is None:
        return False
    has_count = (
        reference.count is None
        or manifest.origin == GenerationSettings(count=reference.count).origin
    )
    return has_count and reference.split in (None, manifest.split)


def _manifest(store: Path) -> Manifest | None:
    """Return the manifest of a complete store; None for any other folder."""
    try:
        return read_manifest(store)
    except BadData:
        return None


def _disk_bytes(path: Path) -> int:
    """Return the size in bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
