"""An index beside many results, so that a leaderboard does not open 100,000 small files each time.

The index is one Parquet file in the results folder. A row is the summary of one result: without
details, and without the scores beside the main one. The result files are the truth: a row counts
only while its file has the same times, size and inode. No program can set the time of change
(ctime), so a file that was edited in place is read again, and an index that came with a copied
folder is not used. A file that changed less than `SETTLED_SECONDS` ago gets no row: another change
within the resolution of the clock would go unseen.

Several processes may write the index at once: each writes a complete file and moves it into place.
"""

import gc
import json
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import compute, parquet
from pydantic import BaseModel

import g2dbench
from g2dbench.errors import BadResult
from g2dbench.reporting.stored_results import StoredResult, no_readable_result
from g2dbench.result import SCHEMA, Result, load, result_paths
from g2dbench.system.counts import counted
from g2dbench.system.files import replace_file

INDEX_FILE = ".results-index.parquet"
MIN_RESULTS = 1000
"""Fewer results are read from their files alone, in less than a second."""

MAX_STALE = 0.01
"""The index is written again when more than this share of the results are not in it."""

SETTLED_SECONDS = 2.0
"""Coarser than the clock of any common file system (FAT: 2 s)."""

_BATCH = 4096
_STAMPS = ("ctime", "mtime", "size", "inode")
_FORMAT = f"2 {SCHEMA} {g2dbench.__version__}".encode()
_SHARED = pa.dictionary(pa.int32(), pa.string())
_COLUMNS = pa.schema(
    [
        ("path", pa.binary()),  # relative to the results folder
        ("ctime", pa.int64()),
        ("mtime", pa.int64()),  # negative before 1970
        ("size", pa.uint64()),
        ("inode", pa.uint64()),
        ("summary", pa.string()),
        ("config", _SHARED),
        ("packages", _SHARED),
    ],
    metadata={"g2dbench": _FORMAT},
)


class ResultIndexNote(UserWarning):
    """Says that the index of a results folder was broken, or cannot be written."""


Row = tuple[bytes, int, int, int, int, str, str, str]
"""Relative path, stamp, summary, config and packages of a result."""


class Stamp(NamedTuple):
    """What changes when a file changes: times in ns, size in bytes, inode."""

    ctime: int
    mtime: int
    size: int
    inode: int


@dataclass
class _Summaries:
    """Results by relative path. parsed: config and packages, which many results share."""

    folder: Path
    stored: dict[bytes, StoredResult] = field(default_factory=dict)
    parsed: dict[str, Any] = field(default_factory=dict)

    def add_all(self, batch: pa.RecordBatch) -> None:
        """Parse the rows of a batch."""
        names = ("path", "summary", "config", "packages")
        for row in zip(*(batch[name].to_pylist() for name in names), strict=True):
            self._add(*row)

    def _add(self, path: bytes, summary: str, config: str, packages: str) -> None:
        """Parse one row. Equal settings are one object, so that 100,000 results fit in memory."""
        result = Result.model_validate_json(summary)
        for name, text in (("config", config), ("packages", packages)):
            if text not in self.parsed:
                self.parsed[text] = json.loads(text)
            vars(result.provenance)[name] = self.parsed[text]
        for model in (result, result.cell, result.provenance, *result.scores.values()):
            _share_field_names(model)
        cell = os.path.dirname(os.fsdecode(path))
        self.stored[path] = StoredResult(result, self.folder / cell)


_FIELD_NAMES: dict[type[BaseModel], set[str]] = {}


def _share_field_names(model: BaseModel) -> None:
    """Let all models of a type share the set of their fields: it is half of their memory."""
    names = _FIELD_NAMES.setdefault(type(model), set(type(model).model_fields))
    object.__setattr__(model, "__pydantic_fields_set__", names)


def read_summaries(folder: Path) -> tuple[list[StoredResult], list[str]]:
    """The readable results of a folder, sorted by path, and a sentence for each broken file.

    A result has its main score only, and of its details only whether it was imported;
    `read_results` reads whole results. Warns with a `ResultIndexNote`. BadResult if the folder
    does not exist, or none of its results can be read.
    """
    began, files = time.time_ns(), _scan(folder)
    settled = began - int(SETTLED_SECONDS * 1e9)
    try:
        summaries, problems = _summaries(folder, files, _read_index(folder, files), settled)
    except (ValueError, TypeError, RecursionError) as error:  # texts of the index
        _note_broken(folder / INDEX_FILE, error)
        summaries, problems = _summaries(folder, files, [], settled)
    found = [summaries.stored[path] for path in files if path in summaries.stored]
    if not found:
        raise no_readable_result(folder, problems)
    return found, problems


def _summaries(
    folder: Path, files: dict[bytes, Stamp], rows: list[pa.RecordBatch], settled: int
) -> tuple[_Summaries, list[str]]:
    """All summaries, from rows of the index and from files, and a sentence for each broken file.

    Writes the index again if more than `MAX_STALE` of the results are not in it.
    """
    known = {path for batch in rows for path in batch["path"].to_pylist()}
    missing = [path for path in files if path not in known]
    new, problems = _read_files(folder, missing, files)
    rows += new
    if len(files) >= MIN_RESULTS and len(missing) > MAX_STALE * len(files):
        _write_index(folder, rows, settled)
    summaries = _Summaries(folder)
    with _collector_paused():
        while rows:  # a batch is freed when its results exist
            summaries.add_all(rows.pop())
    return summaries, problems


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
    for path in result_paths(folder):
        try:
            stat = os.stat(path)
        except OSError:
            continue
        stamp = Stamp(stat.st_ctime_ns, stat.st_mtime_ns, stat.st_size, stat.st_ino)
        found[os.fsencode(path[start:])] = stamp
    return found


def _read_index(folder: Path, files: dict[bytes, Stamp]) -> list[pa.RecordBatch]:
    """The rows whose files are unchanged.

    None if there is no index, one of another version, or a broken one.
    """
    path = folder / INDEX_FILE
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as index:
            if (index.schema_arrow.metadata or {}).get(b"g2dbench") == _FORMAT:
                return [_unchanged(batch, files) for batch in index.iter_batches(_BATCH)]
    except FileNotFoundError:
        pass
    except (OSError, ValueError, LookupError, TypeError, pa.ArrowException) as error:
        _note_broken(path, error)
    return []


def _unchanged(batch: pa.RecordBatch, files: dict[bytes, Stamp]) -> pa.RecordBatch:
    if batch.schema.names != _COLUMNS.names:
        raise ValueError(f"its columns are {', '.join(batch.schema.names)}")
    stamps = zip(*(batch[name].to_pylist() for name in _STAMPS), strict=True)
    rows = zip(batch["path"].to_pylist(), stamps, strict=True)
    return batch.filter(pa.array([files.get(path) == stamp for path, stamp in rows], pa.bool_()))


def _read_files(
    folder: Path, paths: list[bytes], files: dict[bytes, Stamp]
) -> tuple[list[pa.RecordBatch], list[str]]:
    """The rows of results, read from their files, and a sentence for each broken file."""
    batches: list[pa.RecordBatch] = []
    problems: list[str] = []
    for start in range(0, len(paths), _BATCH):
        rows: list[Row] = []
        for path in paths[start : start + _BATCH]:
            try:
                texts = _summarize(load(folder / os.fsdecode(path)))
            except BadResult as error:
                problems.append(str(error))
            else:
                rows.append((path, *files[path], *texts))
        batches += _to_batch(rows)
    return batches, problems


def _summarize(result: Result) -> tuple[str, str, str]:
    """The summary of a result as JSON, without its config and packages, and these two as JSON."""
    origin, main = result.provenance, result.main
    details = {"imported": True} if result.details.get("imported") is True else {}
    small = result.model_copy(
        update={
            "scores": {} if main is None else {result.metric: main},
            "details": details,
            "provenance": origin.model_copy(update={"config": {}, "packages": {}}),
        }
    )
    config, packages = (json.dumps(each) for each in (origin.config, origin.packages))
    return small.model_dump_json(), config, packages


def _to_batch(rows: list[Row]) -> list[pa.RecordBatch]:
    """The rows as one batch; no batch for no rows."""
    if not rows:
        return []
    columns = zip(zip(*rows, strict=True), _COLUMNS, strict=True)
    arrays = [pa.array(values, column.type) for values, column in columns]
    return [pa.record_batch(arrays, schema=_COLUMNS)]


def _write_index(folder: Path, batches: list[pa.RecordBatch], settled: int) -> None:
    """Write the rows of files that did not change after `settled` (ns) as a complete index.

    A note if the folder cannot be written.
    """
    batches = [batch.filter(compute.less(batch["ctime"], settled)) for batch in batches]

    def write(path: Path) -> None:
        options = {"compression": "zstd", "write_page_checksum": True}
        with parquet.ParquetWriter(path, _COLUMNS, **options) as writer:
            for batch in batches:
                writer.write_batch(batch)

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
