"""What `data rm` frees: prepared stores, and what preparations that were stopped left behind."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from g2dbench.data.reference import DataReference
from g2dbench.data.store.manifest import QUARANTINE_FILE, Manifest, read_manifest
from g2dbench.data.store.request import GenerationSettings
from g2dbench.errors import BadData, Misuse
from g2dbench.system.files import alone_at_once

_OF_A_STORE = re.compile(
    rf"\.?(.+-\d+-[0-9a-f]{{8}})(?:\.partial|\.journal|\.broken|\.{re.escape(QUARANTINE_FILE)})?"
)
"""What lies in the store's folder of one store: itself, and hidden what is not finished."""


@dataclass(frozen=True)
class Removable:
    """All that lies in the store's folder of one store, whole or half made; bytes: its size."""

    store: str
    paths: tuple[Path, ...]
    bytes: int
    is_whole: bool

    def __str__(self) -> str:
        half = "" if self.is_whole else ", half made or broken"
        return f"{self.store} ({self.bytes / 1e6:,.1f} MB{half})"


def removable(asked: DataReference, store_root: Path, size: int | None) -> list[Removable]:
    """What a name means: a data set's stores of every size, split and origin, or one store.

    size, and the split or the number of images of the name, leave out others. Misuse where nothing
    is left.
    """
    paths: dict[str, list[Path]] = {}
    for path in sorted(store_root.iterdir()) if store_root.is_dir() else ():
        if match := _OF_A_STORE.fullmatch(path.name):
            paths.setdefault(match[1], []).append(path)
    found = [
        Removable(
            store, tuple(its), sum(map(_bytes, its)), _manifest(store_root / store) is not None
        )
        for store, its in paths.items()
        if _is_meant(asked, store_root / store, size)
    ]
    if not found:
        at = f" at {size} px" if size else ""
        raise Misuse(
            f"nothing of {asked.text!r}{at} is prepared in {store_root}: `g2dbench data list` "
            "shows what is"
        )
    return found


def remove(item: Removable) -> None:
    """Delete it; Misuse while another process prepares it."""
    with alone_at_once(item.paths[0].with_name(item.store)):
        for path in item.paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _is_meant(asked: DataReference, store: Path, size: int | None) -> bool:
    name, its_size, _ = store.name.rsplit("-", 2)
    if asked.name not in (name, store.name) or size not in (None, int(its_size)):
        return False
    if asked.split is None and asked.count is None:
        return True
    manifest = _manifest(store)
    if manifest is None:
        return False
    drawn = asked.count is None or manifest.origin == GenerationSettings(count=asked.count).origin
    return drawn and asked.split in (None, manifest.split)


def _manifest(store: Path) -> Manifest | None:
    """Of a whole store; None where it is none."""
    try:
        return read_manifest(store)
    except BadData:
        return None


def _bytes(path: Path) -> int:
    """What a file, or all files of a folder, take on the disk."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.stat().st_size for one in files)
