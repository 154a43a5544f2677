"""What readers ask of files before they read rows: which columns, which lines, what is there."""

import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from g2dbench.data.tables.columns import MISSING, Column, find_column, spellings
from g2dbench.data.tables.files import _neighbours, open_file, read_bytes
from g2dbench.data.tables.records import Note
from g2dbench.errors import BadData

MAX_TABLE = 2**32
"""A larger table, unpacked, is a bomb; the longest official one has some hundred megabytes."""
MAX_HEADER, MAX_COLUMNS = 2**16, 4000
"""Bytes and columns of a table's first line; pandas takes time with the square of the columns."""
Cells = dict[Any, Any]
"""One row of a table: text by column, and its `line` in the file."""


def header(path: Path) -> list[str]:
    """The column names of a CSV (or its .gz beside it), stripped; BadData if it cannot be read."""
    packed = path.with_name(path.name + ".gz")
    source = packed if packed.is_file() and not path.is_file() else path
    opened = gzip.open if source == packed else open
    try:
        with opened(source, "rt", encoding="utf-8-sig", newline="") as file:
            return [name.strip() for name in next(csv.reader(file), [])]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise BadData(f"the table {source} cannot be read: {error}") from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers; BadData if unreadable."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"the list {path} cannot be read: {error}") from error
    for count, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield count, line.strip()


def read_table(
    path: Path, columns: Sequence[Column], optional: Sequence[Column] = ()
) -> pd.DataFrame:
    """A CSV (or its .gz beside it) as stripped text; column `line` holds the file's line numbers.

    columns, optional: the columns to keep, by their official names, the first of which names the
    result's column. An optional one that the file lacks is "" throughout; `note_lacking` tells.
    Empty cells and words for them, see `columns.MISSING`, are "". BadData: no such file, no table,
    or a column of `columns` is missing.
    """
    packed = path.with_name(path.name + ".gz")
    source = packed if packed.is_file() and not path.is_file() else path
    if not source.is_file():
        raise BadData(f"there is no table {path}{_neighbours(path.parent)}")
    try:
        check_header(source)
        with unpacked(source) as file:
            table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except BadData:
        raise
    except (OSError, EOFError, UnicodeDecodeError, ValueError, zlib.error) as error:
        raise BadData(f"the table {source} cannot be read: {error}") from error
    if not isinstance(table.index, pd.RangeIndex):
        # pandas would take the surplus for row names and shift every cell.
        raise BadData(f"{source}: its rows have more cells than its header: {list(table.columns)}")
    table.columns = [str(name).strip() for name in table.columns]
    names = list(table.columns)
    found = {spellings(column)[0]: find_column(names, column) for column in (*columns, *optional)}
    lacking = [_either(column) for column in columns if found[spellings(column)[0]] is None]
    if lacking:
        raise BadData(f"{source} lacks the columns {lacking}; found: {', '.join(names)}")
    cells = {wanted: _texts(table, name) for wanted, name in found.items()}
    return pd.DataFrame({**cells, "line": range(2, len(table) + 2)})


def _texts(table: pd.DataFrame, name: str | None) -> "pd.Series[str]":
    """A column's stripped cells, "" where one is missing or where there is no such column."""
    if name is None:
        return pd.Series("", index=table.index, dtype=object)
    cells = table[name].fillna("").str.strip()
    return cells.where(~cells.str.lower().isin(MISSING), "")


def _either(column: Column) -> str:
    return " or ".join(spellings(column))


def note_lacking(path: Path, optional: Sequence[Column]) -> Iterator[Note]:
    """A note for each optional column that a table lacks."""
    names = header(path)
    for column in optional:
        if find_column(names, column) is None:
            yield Note(f"{path.name} has no column {_either(column)}, which is not needed")


def has_table(path: Path) -> bool:
    """Whether a table, or its .gz, is there."""
    return path.is_file() or path.with_name(path.name + ".gz").is_file()


def choose_table(root: Path, names: Sequence[str]) -> Path:
    """The first of a table's official names that is there, in any case; else the first of them."""
    for name in names:
        if has_table(root / name):
            return root / name
    there = (file.name for file in sorted(root.glob("*.*")))
    by_name = {name.lower(): name for name in (re.sub(r"(?i)\.gz$", "", name) for name in there)}
    alike = (by_name[name.lower()] for name in names if name.lower() in by_name)
    return root / next(alike, names[0])


def note_unread(root: Path, names: Sequence[str]) -> Iterator[Note]:
    """A note where a table lies there under several of its names: one of them is read."""
    there = [name for name in names if has_table(root / name)]
    if len(there) > 1:
        yield Note(f"{there[0]} is read, {' and '.join(there[1:])} beside it is not")


def check_header(path: Path) -> None:
    """BadData if the first line of a CSV or TSV is too long for a header; OSError as `open`."""
    with unpacked(path) as file:
        first = file.readline(MAX_HEADER + 1).split(b"\r")[0]
    if len(first) > MAX_HEADER or max(first.count(mark) for mark in (b",", b"\t")) >= MAX_COLUMNS:
        raise BadData(
            f"the table {path} has no header: its first line has more than {MAX_HEADER:,} bytes or "
            f"{MAX_COLUMNS:,} columns"
        )


class _Bounded(io.RawIOBase):
    """A table's bytes as they are unpacked; BadData when there are more than MAX_TABLE."""

    def __init__(self, file: io.BufferedReader | gzip.GzipFile, path: Path) -> None:
        self._file, self._path, self._left = file, path, MAX_TABLE

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer)
        self._left -= count
        if self._left < 0:
            raise BadData(f"the table {self._path} unpacks to more than {MAX_TABLE:,} bytes")
        return count


@contextmanager
def unpacked(path: Path) -> Iterator[io.BufferedReader]:
    """A table's bytes, those of a `.gz` unpacked; BadData where there are more than MAX_TABLE."""
    with open_file(path, MAX_TABLE) as file:
        raw = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
        yield io.BufferedReader(_Bounded(raw, path), 2**16)


def number(text: str, what: str) -> float:
    """A finite number from a cell; BadData names the cell."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadData(f"{what} is {text!r}, not a number")
    return value


def is_complete(row: Cells, columns: Iterable[str]) -> bool:
    """Whether none of a row's cells in these columns is empty."""
    return all(row[column] for column in columns)


def by_key(table: pd.DataFrame, column: str) -> dict[str, list[Cells]]:
    """Rows of a table by key, keys in the order of their first row."""
    groups: dict[str, list[Cells]] = {}
    for cells in table.to_dict("records"):
        groups.setdefault(cells[column], []).append(cells)
    return groups
