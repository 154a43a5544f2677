"""One shard on disk: the texts of its rows, and their images as the bytes of files.

Nothing is ever unpacked to disk. Of a tar only regular members are read, by offset, whatever their
names say; a field that nobody asked for (a pickle, say) is not even read. A sample is what lies
between two changes of the key, the members' name up to the first dot of its last part. Errors name
the shard as `where`, for `path` may be a temporary copy.
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
from g2dbench.data.shards.index import MOST_ROWS, Kind
from g2dbench.data.store.decode import MAX_TEXT
from g2dbench.data.tables.files import MAX_BYTES, open_file
from g2dbench.errors import BadData

_MOST_MEMBERS = 2**22
BLOCK = 64
"""Rows of a shard that are read at once; they begin at its multiples."""

_TAR_BLOCK = 512  # bytes of a tar's headers and of its end
_LOOKED_AT = 100  # samples of a tar that tell its fields


class Told(NamedTuple):
    """A row without its image; split is train, valid, test, or None where none is told."""

    id: str
    study: str | None
    view: str | None
    split: str | None
    report: str | None


class Rows(Protocol):
    """A shard's rows by position."""

    def __len__(self) -> int: ...

    def columns(self, options: Mapping[str, str]) -> Columns:
        """What lies where, found or named by option; see `shard_columns`."""
        ...

    def told(self, rows: Sequence[int], columns: Columns) -> Iterator[Told]:
        """Texts of these rows; BadData where they cannot be read."""
        ...

    def images(self, rows: Sequence[int], columns: Columns) -> Iterator[bytes | None]:
        """The bytes of these rows' image files, None where there is none."""
        ...


def open_shard(path: Path, kind: Kind, where: str) -> Rows:
    """A shard, kept open for the next call; BadData if it is broken."""
    try:
        found = path.stat()
    except OSError as error:
        raise BadData(f"the shard {where} cannot be read: {error.strerror}") from error
    return _opened(path, kind, where, (found.st_size, found.st_mtime_ns))


@lru_cache(maxsize=2)
def _opened(path: Path, kind: Kind, where: str, version: tuple[int, int]) -> Rows:
    return _Parquet(path, where) if kind == "parquet" else _Tar(path, where)


class _Parquet:
    """Row groups are read as a whole; the last one is kept, texts and images apart."""

    def __init__(self, path: Path, where: str) -> None:
        self._where = where
        self._held: dict[tuple[str, ...], tuple[int, pa.Table]] = {}
        with _broken(where):
            with open_file(path, max_bytes=2**62):
                pass  # neither a pipe nor a device
            self._file = pq.ParquetFile(path)
            meta = self._file.metadata
            sizes = [meta.row_group(at).num_rows for at in range(meta.num_row_groups)]
        self._starts: list[int] = [0, *accumulate(sizes)]
        if min(sizes, default=0) < 0 or self._starts[-1] > MOST_ROWS:
            raise BadData(f"the shard {where} claims {self._starts[-1]} rows")

    def __len__(self) -> int:
        return self._starts[-1]

    def columns(self, options: Mapping[str, str]) -> Columns:
        return parquet_columns(self._file.schema_arrow, options, self._where)

    def told(self, rows: Sequence[int], columns: Columns) -> Iterator[Told]:
        asked = tuple(name for role, name in columns.items() if role != "image")
        for row in rows:
            cells = self._cells(row, asked)
            texts = {role: cells[name] for role, name in columns.items() if role != "image"}
            yield _told(texts, self._where, row)

    def images(self, rows: Sequence[int], columns: Columns) -> Iterator[bytes | None]:
        name = columns["image"]
        for row in rows:
            found = self._cells(row, (name,))[name]
            found = found.get("bytes") if isinstance(found, dict) else found
            yield found if isinstance(found, bytes) else None

    def _cells(self, row: int, asked: tuple[str, ...]) -> dict[str, Any]:
        group = bisect_right(self._starts, row) - 1
        held, table = self._held.get(asked, (-1, None))
        if table is None or held != group:
            with _broken(self._where):
                table = self._file.read_row_group(group, columns=list(asked))
            self._held[asked] = (group, table)
        return {name: table[name][row - self._starts[group]].as_py() for name in asked}


class _Tar:
    """The members' places are found once; then each is read where it lies."""

    def __init__(self, path: Path, where: str) -> None:
        self._path, self._where = path, where
        with _broken(where), open_file(path, max_bytes=2**62) as file:
            self._samples = list(_samples(file, where))

    def __len__(self) -> int:
        return len(self._samples)

    def columns(self, options: Mapping[str, str]) -> Columns:
        fields: set[str] = set()
        for row in range(min(len(self), _LOOKED_AT)):
            fields |= {"__key__", *self._samples[row].places}
            fields |= {f"json.{key}" for key in self._json(row)}
        return tar_columns(fields, options, self._where)

    def told(self, rows: Sequence[int], columns: Columns) -> Iterator[Told]:
        for row in rows:
            sample, found = self._samples[row], self._json(row)
            texts: dict[str, Any] = {}
            for role, name in columns.items():
                if name == "__key__":
                    texts[role] = sample.key
                elif name.startswith("json.") and name not in sample.places:
                    texts[role] = found.get(name.removeprefix("json."))
                elif role != "image":
                    texts[role] = self._text(row, name)
            yield _told(texts, self._where, row)

    def images(self, rows: Sequence[int], columns: Columns) -> Iterator[bytes | None]:
        for row in rows:
            places = self._samples[row].places
            found = (name for name in sorted(places) if name.lower() in IMAGE_FIELDS)
            name = columns["image"] or next(found, "")
            yield self._read(places[name], MAX_BYTES) if name in places else None

    def _json(self, row: int) -> Mapping[str, Any]:
        text = self._text(row, "json")
        try:
            found = json.loads(text or "{}")
        except (ValueError, RecursionError) as error:
            raise BadData(f"{self._where}, sample {row}: its json is broken: {error}") from error
        return found if isinstance(found, dict) else {}

    def _text(self, row: int, name: str) -> str | None:
        place = self._samples[row].places.get(name)
        if place is None:
            return None
        try:
            return self._read(place, 4 * MAX_TEXT).decode()
        except UnicodeDecodeError as error:
            raise BadData(f"{self._where}, sample {row}: its {name} is no UTF-8") from error

    def _read(self, place: tuple[int, int], most: int) -> bytes:
        start, size = place
        if size > most:
            raise BadData(f"{self._where}: a member has {size:,} bytes; at most {most:,} are read")
        with _broken(self._where), self._path.open("rb") as file:
            file.seek(start)
            data = file.read(size)
        if len(data) < size:
            raise BadData(f"the shard {self._where} ends within a member: it is truncated")
        return data


class _Sample(NamedTuple):
    """Where the fields of a sample lie: offset and size by name."""

    key: str
    places: dict[str, tuple[int, int]]


def _samples(file: io.BufferedReader, where: str) -> Iterator[_Sample]:
    """The samples of an uncompressed tar in order."""
    sample = _Sample("", {})
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for count, member in enumerate(tar):
            if count == _MOST_MEMBERS:
                raise BadData(f"the shard {where} has more than {_MOST_MEMBERS:,} members")
            if not member.isreg() or member.issparse():
                continue
            folder, slash, name = member.name.rpartition("/")
            stem, dot, field = name.partition(".")
            if not (stem and dot):
                continue
            key = folder + slash + stem
            if key != sample.key:
                if sample.places:
                    yield sample
                sample = _Sample(key, {})
            if field in sample.places:
                raise BadData(f"the shard {where} has the member {member.name!r} twice")
            sample.places[field] = (member.offset_data, member.size)
        file.seek(tar.offset)
    if sample.places:
        yield sample
    if len(file.read(_TAR_BLOCK)) < _TAR_BLOCK:
        raise BadData(f"the shard {where} lacks a tar's end: it is truncated")


def _told(texts: Mapping[str, Any], where: str, row: int) -> Told:
    """A row's texts by role; BadData for one that is too long."""
    found = {role: None if value is None else str(value) for role, value in texts.items()}
    for role, text in found.items():
        if text is not None and len(text) > MAX_TEXT:
            raise BadData(f"{where}, row {row}: its {role} has {len(text):,} characters")
    name = found.get("id") or f"{where.rpartition('/')[2]}/{row}"
    split = found.get("split")
    if split is not None and split.lower() not in SPLIT_NAMES:
        raise BadData(f"{where}, row {row}: the split {split!r} is none of train, valid, test")
    named = None if split is None else SPLIT_NAMES[split.lower()]
    return Told(name, found.get("study"), found.get("view"), named, found.get("text") or None)


@contextmanager
def _broken(where: str) -> Iterator[None]:
    """Whatever a library says of a broken file, as BadData that names the shard."""
    try:
        yield
    except BadData:
        raise
    except (
        OSError, EOFError, ValueError, OverflowError, MemoryError, RecursionError,
        KeyError, tarfile.TarError, pa.ArrowException,
    ) as error:  # fmt: skip
        raise BadData(f"the shard {where} cannot be read: {error}") from error
