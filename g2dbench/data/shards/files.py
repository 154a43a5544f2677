"""Readers of a shard on disk: the metadata of its rows, and their encoded images.

No member of a tar is extracted to disk. Only regular members are read, by offset and not by name,
and only the fields that are requested: a pickle, for example, is never read. Successive members
with the same key form a sample; the key is the name up to the first dot after the last slash.
Errors name the shard as `where`, because `path` may be a temporary copy.
"""

import io
import json
import tarfile
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from g2dbench.data.custom._splits import SPLIT_NAMES
from g2dbench.data.shards.columns import IMAGE_FIELDS, Columns, parquet_columns, tar_columns
from g2dbench.data.shards.index import MAX_ROWS, Kind
from g2dbench.data.store.decode import MAX_TEXT
from g2dbench.data.tables.files import MAX_BYTES, open_file
from g2dbench.errors import BadData

_MAX_MEMBERS = 2**22
BLOCK_ROWS = 64
"""Rows that a loader worker reads at once; a block starts at a multiple of this."""

_TAR_BLOCK = 512  # bytes of a header, and of the block of zeros at the end
_INSPECTED_SAMPLES = 100  # the fields of a tar are those of its first samples


class RowMetadata(NamedTuple):
    """A row without its image; split is train, valid or test, or None if the row has none."""

    id: str
    study: str | None
    view: str | None
    split: str | None
    report: str | None


class ShardReader(Protocol):
    """The interface of the readers of both formats; rows are given by position."""

    def __len__(self) -> int: ...

    def columns(self, options: Mapping[str, str]) -> Columns:
        """The column of each role, from the options or found by name and type; see `columns`."""
        ...

    def metadata(self, rows: Sequence[int], columns: Columns) -> Iterator[RowMetadata]:
        """The metadata of these rows; BadData if they cannot be read."""
        ...

    def images(self, rows: Sequence[int], columns: Columns) -> Iterator[bytes | None]:
        """The encoded image of each of these rows, or None if a row has none."""
        ...


def open_shard(path: Path, kind: Kind, where: str) -> ShardReader:
    """Open a shard; the reader is cached for the next call. BadData if the shard is damaged."""
    try:
        found = path.stat()
    except OSError as error:
        raise BadData(f"the shard {where} cannot be read: {error.strerror}") from error
    return _opened(path, kind, where, (found.st_size, found.st_mtime_ns))


@lru_cache(maxsize=2)
def _opened(path: Path, kind: Kind, where: str, version: tuple[int, int]) -> ShardReader:
    return _ParquetReader(path, where) if kind == "parquet" else _TarReader(path, where)


class _ParquetReader:
    """Reads whole row groups and caches the last one, separately for metadata and images."""

    def __init__(self, path: Path, where: str) -> None:
        self._where = where
        self._cached: dict[tuple[str, ...], tuple[int, pa.Table]] = {}
        with _named_errors(where):
            with open_file(path, max_bytes=2**62):
                pass  # this refuses pipes and devices
            self._file = pq.ParquetFile(path)
            meta = self._file.metadata
            sizes = [meta.row_group(at).num_rows for at in range(meta.num_row_groups)]
        self._starts: list[int] = [0, *accumulate(sizes)]
        if min(sizes, default=0) < 0 or self._starts[-1] > MAX_ROWS:
            raise BadData(
                f"the shard {where} claims to have {self._starts[-1]} rows; "
                f"0 to {MAX_ROWS} are possible"
            )

    def __len__(self) -> int:
        return self._starts[-1]

    def columns(self, options: Mapping[str, str]) -> Columns:
        return parquet_columns(self._file.schema_arrow, options, self._where)

    def metadata(self, rows: Sequence[int], columns: Columns) -> Iterator[RowMetadata]:
        columns_read = tuple(name for role, name in columns.items() if role != "image")
        for row in rows:
            cells = self._cells(row, columns_read)
            texts = {role: cells[name] for role, name in columns.items() if role != "image"}
            yield _row_metadata(texts, self._where, row)

    def images(self, rows: Sequence[int], columns: Columns) -> Iterator[bytes | None]:
        name = columns["image"]
        for row in rows:
            found = self._cells(row, (name,))[name]
            found = found.get("bytes") if isinstance(found, dict) else found
            yield found if isinstance(found, bytes) else None

    def _cells(self, row: int, columns_read: tuple[str, ...]) -> dict[str, Any]:
        group = bisect_right(self._starts, row) - 1
        cached, table = self._cached.get(columns_read, (-1, None))
        if table is None or cached != group:
            with _named_errors(self._where):
                table = self._file.read_row_group(group, columns=list(columns_read))
            self._cached[columns_read] = (group, table)
        return {name: table[name][row - self._starts[group]].as_py() for name in columns_read}


class _TarReader:
    """Lists the members once, then reads each of them at its offset."""

    def __init__(self, path: Path, where: str) -> None:
        self._path, self._where = path, where
        with _named_errors(where), open_file(path, max_bytes=2**62) as file:
            self._samples = list(_list_samples(file, where))

    def __len__(self) -> int:
        return len(self._samples)

    def columns(self, options: Mapping[str, str]) -> Columns:
        fields: set[str] = set()
        for row in range(min(len(self), _INSPECTED_SAMPLES)):
            fields |= {"__key__", *self._samples[row].members}
            fields |= {f"json.{key}" for key in self._json(row)}
        return tar_columns(fields, options, self._where)

    def metadata(self, rows: Sequence[int], columns: Columns) -> Iterator[RowMetadata]:
        for row in rows:
            sample, found = self._samples[row], self._json(row)
            texts: dict[str, Any] = {}
            for role, name in columns.items():
                if name == "__key__":
                    texts[role] = sample.key
                elif name.startswith("json.") and name not in sample.members:
                    texts[role] = found.get(name.removeprefix("json."))
                elif role != "image":
                    texts[role] = self._text(row, name)
            yield _row_metadata(texts, self._where, row)

    def images(self, rows: Sequence[int], columns: Columns) -> Iterator[bytes | None]:
        for row in rows:
            members = self._samples[row].members
            found = (name for name in sorted(members) if name.lower() in IMAGE_FIELDS)
            name = columns["image"] or next(found, "")
            yield self._read(members[name], MAX_BYTES) if name in members else None

    def _json(self, row: int) -> Mapping[str, Any]:
        text = self._text(row, "json")
        try:
            found = json.loads(text or "{}")
        except (ValueError, RecursionError) as error:
            raise BadData(f"{self._where}, sample {row}: its json is broken: {error}") from error
        return found if isinstance(found, dict) else {}

    def _text(self, row: int, name: str) -> str | None:
        location = self._samples[row].members.get(name)
        if location is None:
            return None
        try:
            return self._read(location, 4 * MAX_TEXT).decode()
        except UnicodeDecodeError as error:
            raise BadData(f"{self._where}, sample {row}: its {name} is not UTF-8") from error

    def _read(self, location: tuple[int, int], max_bytes: int) -> bytes:
        start, size = location
        if size > max_bytes:
            raise BadData(
                f"{self._where}: a member has {size:,} bytes; at most {max_bytes:,} are read"
            )
        with _named_errors(self._where), self._path.open("rb") as file:
            file.seek(start)
            data = file.read(size)
        if len(data) < size:
            raise BadData(f"the shard {self._where} ends within a member: it is truncated")
        return data


class _TarSample(NamedTuple):
    """The members of a sample: offset and size by field name."""

    key: str
    members: dict[str, tuple[int, int]]


def _list_samples(file: io.BufferedReader, where: str) -> Iterator[_TarSample]:
    """Yield the samples of an uncompressed tar in order."""
    sample = _TarSample("", {})
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for count, member in enumerate(tar):
            if count == _MAX_MEMBERS:
                raise BadData(f"the shard {where} has more than {_MAX_MEMBERS:,} members")
            if not member.isreg() or member.issparse():
                continue
            folder, slash, name = member.name.rpartition("/")
            stem, dot, field = name.partition(".")
            if not (stem and dot):
                continue
            key = folder + slash + stem
            if key != sample.key:
                if sample.members:
                    yield sample
                sample = _TarSample(key, {})
            if field in sample.members:
                raise BadData(f"the shard {where} has the member {member.name!r} twice")
            sample.members[field] = (member.offset_data, member.size)
        file.seek(tar.offset)
    if sample.members:
        yield sample
    if len(file.read(_TAR_BLOCK)) < _TAR_BLOCK:
        raise BadData(f"the shard {where} has no end-of-archive block: it is truncated")


def _row_metadata(texts: Mapping[str, Any], where: str, row: int) -> RowMetadata:
    """Make a row's metadata from its texts by role.

    Raises BadData if a text is too long or the split is unknown.
    """
    found = {role: None if value is None else str(value) for role, value in texts.items()}
    for role, text in found.items():
        if text is not None and len(text) > MAX_TEXT:
            raise BadData(f"{where}, row {row}: its {role} has {len(text):,} characters")
    name = found.get("id") or f"{where.rpartition('/')[2]}/{row}"
    split = found.get("split")
    if split is not None and split.lower() not in SPLIT_NAMES:
        raise BadData(f"{where}, row {row}: the split {split!r} is none of train, valid, test")
    named = None if split is None else SPLIT_NAMES[split.lower()]
    return RowMetadata(
        name, found.get("study"), found.get("view"), named, found.get("text") or None
    )


@contextmanager
def _named_errors(where: str) -> Iterator[None]:
    """Turn the errors that libraries raise for damaged files into BadData that names the shard."""
    try:
        yield
    except BadData:
        raise
    except (
        OSError, EOFError, ValueError, OverflowError, MemoryError, RecursionError,
        KeyError, tarfile.TarError, pa.ArrowException,
    ) as error:  # fmt: skip
        raise BadData(f"the shard {where} cannot be read: {error}") from error
