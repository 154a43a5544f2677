"""The folder of a cell on disk: written by one process, switched as a whole.

A cell is written into a hidden folder beside its place, `.NAME.partial`, under a lock, and moved
into its place when it is complete: readers see the old cell or the new one, never a mixture. A
stopped process leaves the hidden folder; the next run of the same cell goes on in it.
"""

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pandas as pd
import pyarrow as pa

from g2dbench.errors import BadResult
from g2dbench.result import PREDICTIONS_FILE, RESULT_FILE, SUBSET_FILE, Result, load
from g2dbench.system.files import exchange, file_digest, replace_file, sync_folder
from g2dbench.system.locks import locked, try_lock
from g2dbench.system.parquet_files import read_frame

LOCKS = ".locks"
"""Folder of the locks, in the results folder."""


@contextmanager
def reserved(folder: Path, out: Path) -> Iterator[Path]:
    """Hold the cell's lock; yields the hidden folder to write into. out: the results folder.

    Another process that evaluates the same cell waits, and then finds it finished.
    """
    (out / LOCKS).mkdir(parents=True, exist_ok=True)
    with locked(out / LOCKS / folder.name):
        partial = _partial(folder)
        _clean(folder)
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
        exchange(partial, folder)
        partial.rename(_replaced(folder))
        shutil.rmtree(_replaced(folder))
    sync_folder(folder.parent)


def remove_abandoned(out: Path) -> None:
    """Remove what killed evaluations left in a results folder and no later one goes on in.

    A hidden folder is kept while a process holds its cell's lock, and if it has a checkpoint.
    """
    for hidden in out.glob("*/*/*/.*"):
        kept = _HIDDEN.fullmatch(hidden.name)
        if kept is None or not hidden.is_dir() or _is_resumable(hidden):
            continue
        folder = hidden.with_name(kept[1])
        (out / LOCKS).mkdir(exist_ok=True)
        with try_lock(out / LOCKS / folder.name) as holder:
            if holder is None:
                _clean(folder)
                shutil.rmtree(_partial(folder), ignore_errors=True)


_HIDDEN = re.compile(r"\.(.+)\.(?:partial|old)")


def _is_resumable(partial: Path) -> bool:
    """Whether an unfinished cell holds more than every run of it writes anew."""
    names = {path.name for path in partial.iterdir() if not path.name.startswith(".")}
    return RESULT_FILE not in names and bool(names - {PREDICTIONS_FILE, SUBSET_FILE})


def _clean(folder: Path) -> None:
    """Remove a replaced cell that a killed process left; the caller holds the lock.

    A hidden folder with a result is one too: a cell is published right after its result is written.
    """
    partial, old = _partial(folder), _replaced(folder)
    if old.is_dir() and not folder.exists():  # killed between two renames, see `exchange`
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    if (partial / RESULT_FILE).is_file():
        partial.rename(old)
        shutil.rmtree(old)


def _partial(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


def _replaced(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


class CellStore(Protocol):
    """Where finished cells are kept besides the folder; the caller holds the cell's lock."""

    def fetch(self, cell: Path) -> None:
        """Bring a cell into the folder unless it is there."""

    def add(self, cell: Path) -> None:
        """Keep a cell unless it is kept."""

    def replace(self, cell: Path) -> None:
        """Keep a cell instead of the one that is kept."""


class FolderAlone:
    """A `CellStore` that keeps cells nowhere else."""

    def fetch(self, cell: Path) -> None:
        """Nothing is elsewhere."""

    add = replace = fetch


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
        return read_frame(path).reset_index(drop=True)
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise BadResult(
            f"{path} cannot be read, so its predictions cannot be scored: {error}; run the cell "
            "again (--rerun)"
        ) from error
