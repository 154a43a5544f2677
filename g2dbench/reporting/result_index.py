"""An index beside many results, so that a leaderboard does not open 100,000 small files each time.

The index is one Parquet file in the results folder. A row is the summary of one result
(`result_columns.py`). The result files are the truth: a row counts only while its file has the same
times, size and inode. No program can set the time of change (ctime), so a file that was edited in
place is read again, and an index that came with a copied folder is not used. A file that changed
less than `SETTLED_SECONDS` ago gets no row: another change within the resolution of the clock would
go unseen.

An index may come from a stranger, so it is read with limits that grow with the number of results.
Several processes may write the index at once: each writes a complete file and moves it into place.
"""

import gc
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
from pyarrow import compute, parquet

import g2dbench
from g2dbench.errors import BadResult
from g2dbench.reporting.result_columns import (
    COLUMNS,
    REPEATED,
    Summary,
    SummaryReader,
    columns_of,
    summarize,
    texts_of,
)
from g2dbench.reporting.stored_results import StoredResult, no_readable_result
from g2dbench.result import SCHEMA, load, result_entries
from g2dbench.system.counts import counted
from g2dbench.system.files import replace_file
from g2dbench.system.parquet_files import BATCH_ROWS, read_batches

INDEX_FILE = ".results-index.parquet"
MIN_RESULTS = 1000
"""Fewer results are read from their files alone, in less than a second."""

MAX_STALE = 0.01
"""The index is written again when more than this share of the results are not in it."""

SETTLED_SECONDS = 2.0
"""Coarser than the clock of any common file system (FAT: 2 s)."""

_STAMPS = ("ctime", "mtime", "size", "inode")
_FORMAT = f"3 {SCHEMA} {g2dbench.__version__}".encode()
_COLUMNS = pa.schema(
    [
        ("path", pa.dictionary(pa.int32(), pa.binary())),  # relative to the results folder
        ("ctime", pa.int64()),
        ("mtime", pa.int64()),  # negative before 1970
        ("size", pa.uint64()),
        ("inode", pa.uint64()),
        *COLUMNS,
    ],
    metadata={"g2dbench": _FORMAT},
)
_BYTES_PER_RESULT, _ROWS_PER_RESULT = 8192, 10
"""Upper limits of an index: a row has some 300 bytes, and results may have been removed."""

_SMALLEST_LIMIT = 1000
"""Results that these limits count at least."""


class ResultIndexNote(UserWarning):
    """Says that the index of a results folder was broken, or cannot be written."""


Stamp: TypeAlias = tuple[int, int, int, int]
"""What changes when a file changes: ctime and mtime in ns, size in bytes, inode."""


def read_summaries(folder: Path) -> tuple[list[StoredResult], list[str]]:
    """The summaries of the readable results, sorted by path, and a sentence per broken file.

    `result_columns.py` says what a summary lacks; `read_results` reads whole results. Warns with a
    `ResultIndexNote`. BadResult if the folder does not exist, or none of its results can be read.
    """
    began, files = time.time_ns(), _scan(folder)
    settled = began - int(SETTLED_SECONDS * 1e9)
    with _collector_paused():
        try:
            stored, problems = _summaries(folder, files, _read_index(folder, files), settled)
        except (ValueError, TypeError, LookupError, RecursionError) as error:  # texts of the index
            _note_broken(folder / INDEX_FILE, error)
            stored, problems = _summaries(folder, files, [], settled)
    found = [stored[path] for path in files if path in stored]
    if not found:
        raise no_readable_result(folder, problems)
    return found, problems


def _summaries(
    folder: Path, files: dict[bytes, Stamp], rows: list[pa.RecordBatch], settled: int
) -> tuple[dict[bytes, StoredResult], list[str]]:
    """All summaries, from rows of the index and from files, and a sentence for each broken file.

    Writes the index again if more than `MAX_STALE` of the results are not in it.
    """
    known = {path for batch in rows for path in texts_of(batch["path"])}
    missing = [path for path in files if path not in known]
    new, problems = _read_files(folder, missing, files)
    rows += new
    if len(files) >= MIN_RESULTS and len(missing) > MAX_STALE * len(files):
        _write_index(folder, rows, settled)
    stored: dict[bytes, StoredResult] = {}
    root = os.path.join(folder, "")
    reader = SummaryReader()
    while rows:  # a batch is freed when its results exist
        batch = rows.pop()
        for path, result in zip(texts_of(batch["path"]), reader.results(batch), strict=True):
            stored[path] = StoredResult(result, Path(root + os.fsdecode(os.path.dirname(path))))
    return stored, problems


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the garbage collector, which would go through a million live objects many times."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _scan(folder: Path) -> dict[bytes, Stamp]:
    """Relative path -> stamp of each result file, in order; files that vanish are left out."""
    start = len(os.path.join(folder, ""))
    found = {}
    for entry in result_entries(folder):
        try:
            stat = entry.stat()
        except OSError:
            continue
        stamp = (stat.st_ctime_ns, stat.st_mtime_ns, stat.st_size, stat.st_ino)
        found[os.fsencode(entry.path[start:])] = stamp
    return found


def _read_index(folder: Path, files: dict[bytes, Stamp]) -> list[pa.RecordBatch]:
    """The rows whose files are unchanged.

    None if there is no index, one of another version, or a broken one.
    """
    path, results = folder / INDEX_FILE, max(len(files), _SMALLEST_LIMIT)
    limits = {"max_bytes": _BYTES_PER_RESULT * results, "max_rows": _ROWS_PER_RESULT * results}
    try:
        return [_unchanged(batch, files) for batch in read_batches(path, _COLUMNS, **limits)]
    except FileNotFoundError:
        pass
    except (OSError, ValueError, LookupError, TypeError, MemoryError, pa.ArrowException) as error:
        _note_broken(path, error)
    return []


def _unchanged(batch: pa.RecordBatch, files: dict[bytes, Stamp]) -> pa.RecordBatch:
    stamps = zip(*(batch[name].to_pylist() for name in _STAMPS), strict=True)
    rows = zip(texts_of(batch["path"]), stamps, strict=True)
    return batch.filter(pa.array([files.get(path) == stamp for path, stamp in rows], pa.bool_()))


def _read_files(
    folder: Path, paths: list[bytes], files: dict[bytes, Stamp]
) -> tuple[list[pa.RecordBatch], list[str]]:
    """The rows of results, read from their files, and a sentence for each broken file."""
    batches: list[pa.RecordBatch] = []
    problems: list[str] = []
    for start in range(0, len(paths), BATCH_ROWS):
        rows: list[tuple[object, ...]] = []
        for path in paths[start : start + BATCH_ROWS]:
            try:
                summary: Summary = summarize(load(folder / os.fsdecode(path)))
            except BadResult as error:
                problems.append(str(error))
            else:
                rows.append((path, *files[path], *summary))
        batches += columns_of(rows, _COLUMNS)
    return batches, problems


def _write_index(folder: Path, batches: list[pa.RecordBatch], settled: int) -> None:
    """Write the rows of files that did not change after `settled` (ns) as a complete index.

    A note if the folder cannot be written.
    """
    batches = [batch.filter(compute.less(batch["ctime"], settled)) for batch in batches]

    def write(path: Path) -> None:
        options: dict[str, Any] = {"compression": "none", "write_page_checksum": True}
        options["use_dictionary"] = [*REPEATED]
        with parquet.ParquetWriter(path, _COLUMNS, **options) as writer:
            for batch in batches:  # a row group each, with dictionaries of its own
                writer.write_table(pa.Table.from_batches([batch]))

    path = folder / INDEX_FILE
    try:
        replace_file(path, write)
    except OSError as error:
        _note(
            f"the index {path} cannot be written ({error.strerror or error}): the next reading of "
            f"{counted(sum(map(len, batches)), 'result')} will be as slow as this one"
        )


def _note_broken(path: Path, error: Exception) -> None:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    _note(f"the index {path} is broken ({reason}): all results are read from their files")


def _note(text: str) -> None:
    warnings.warn(text, ResultIndexNote, stacklevel=2)
