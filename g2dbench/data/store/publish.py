"""The files of a store that is being built, and the moment when it takes its place."""

import os
import shutil
from pathlib import Path

from g2dbench.system.files import exchange


def publish(partial: Path, folder: Path) -> None:
    """Move a finished store into place; an existing one is removed."""
    if folder.exists():
        exchange(partial, folder)
        partial.rename(replaced_of(folder))
    else:
        partial.rename(folder)
    sync(folder.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left beside a complete store; the caller holds its lock."""
    for rest in (replaced_of(folder), exchanged_of(folder), partial_of(folder)):
        shutil.rmtree(rest, ignore_errors=True)
    journal_of(folder).unlink(missing_ok=True)


def has_leftovers(folder: Path) -> bool:
    """Whether there is anything to remove."""
    places = (replaced_of, exchanged_of, partial_of, journal_of)
    return any(place(folder).exists() for place in places)


def partial_of(folder: Path) -> Path:
    """The hidden folder in which a store is built."""
    return folder.with_name(f".{folder.name}.partial")


def replaced_of(folder: Path) -> Path:
    """An earlier store, while the new one takes its place."""
    return folder.with_name(f".{folder.name}.broken")


def exchanged_of(folder: Path) -> Path:
    """An earlier store between two renames, where `exchange` needs them (such as on NFS)."""
    return folder.with_name(f".{folder.name}.old")


def journal_of(folder: Path) -> Path:
    """The journal of a store that is being built."""
    return folder.with_name(f".{folder.name}.journal")


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
