"""The folder of a cell on disk: written by one process, switched as a whole.

A cell is written into a hidden folder beside its place, `.NAME.partial`, under a lock, and moved
into its place when it is complete: readers see the old cell or the new one, never a mixture. A
stopped process leaves the hidden folder; the next run of the same cell goes on in it.
"""

import ctypes
import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa

from g2dbench.errors import BadResult
from g2dbench.result import PREDICTIONS_FILE, RESULT_FILE, SUBSET_FILE, Result, load
from g2dbench.system.files import file_digest, locked, replace_file, sync_folder

LOCKS = ".locks"
"""Folder of the locks, in the results folder."""


@contextmanager
def reserved(folder: Path, out: Path) -> Iterator[Path]:
    """Hold the cell's lock; yields the hidden folder to write into. out: the results folder.

    Another process that evaluates the same cell waits, and then finds it finished.
    """
    (out / LOCKS).mkdir(parents=True, exist_ok=True)
    with locked(out / LOCKS / folder.name):
        partial = folder.with_name(f".{folder.name}.partial")
        partial.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
        finally:
            if partial.is_dir() and not any(partial.iterdir()):
                partial.rmdir()


def publish(partial: Path, folder: Path) -> None:
    """Move a complete cell into its place; the cell that was there is removed."""
    if not folder.exists():
        partial.rename(folder)
    else:
        _exchange(partial, folder)
        shutil.rmtree(partial)
    sync_folder(folder.parent)


def store_subset(digest: str, ids: Sequence[str], folder: Path) -> None:
    """Write the ids of the training subset, and the digest of the subset."""
    text = json.dumps({"digest": digest, "ids": list(ids)}, indent=0)
    replace_file(folder / SUBSET_FILE, lambda temporary: temporary.write_text(text))


def finished(folder: Path) -> Result | None:
    """The stored result if it is done and its predictions are those it was computed from."""
    try:
        result = load(folder / RESULT_FILE)
        if result.status != "done":
            return None
        digest = file_digest(folder / PREDICTIONS_FILE)
    except (BadResult, FileNotFoundError):
        return None
    return result if digest == result.provenance.predictions else None


def store_predictions(predictions: pd.DataFrame, folder: Path, name: str = PREDICTIONS_FILE) -> str:
    """Write predictions.parquet, or the file of this name, atomically; returns its SHA-256."""
    path = folder / name
    replace_file(path, lambda temporary: predictions.to_parquet(temporary, index=False))
    return file_digest(path)


def read_predictions(path: Path) -> pd.DataFrame:
    """The table of stored predictions; BadResult if the file is missing or broken."""
    try:
        return pd.read_parquet(path).reset_index(drop=True)
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise BadResult(
            f"{path} cannot be read, so its predictions cannot be scored: {error}; run the cell "
            "again (--rerun)"
        ) from error


_EXCHANGE, _CURRENT_FOLDER = 2, -100
"""RENAME_EXCHANGE and AT_FDCWD of Linux's renameat2."""


def _exchange(one: Path, other: Path) -> None:
    """Exchange two folders in one step; in two where the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    failed = True
    if hasattr(libc, "renameat2"):
        failed = libc.renameat2(_CURRENT_FOLDER, names[0], _CURRENT_FOLDER, names[1], _EXCHANGE)
        if failed and ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))
    if failed:
        old = other.with_name(f".{other.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        other.rename(old)
        one.rename(other)
        old.rename(one)
