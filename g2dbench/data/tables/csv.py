"""CSV and TSV tables, also gzipped, and text lists: existence, header, columns, rows and cells."""

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
from g2dbench.data.tables.files import folder_hint, open_file, read_bytes
from g2dbench.data.tables.records import Note
from g2dbench.errors import BadData

MAX_TABLE = 2**32
"""Largest table in bytes, decompressed; the largest official table has some hundred megabytes."""
MAX_HEADER, MAX_COLUMNS = 2**16, 4000
"""Limits of a header, in bytes and columns; pandas takes time quadratic in the columns."""
Cells = dict[Any, Any]
"""One row of a table: its text by column, and `line`, its line number in the file."""


def header(path: Path) -> list[str]:
    """Return the stripped column names of a CSV, or of its .gz; BadData if it cannot be read."""
    compressed = path.with_name(path.name + ".gz")
    source = compressed if compressed.is_file() and not path.is_file() else path
    opened = gzip.open if source == compressed else open
    try:
        with opened(source, "rt", encoding="utf-8-sig", newline="") as file:
            return [name.strip() for name in next(csv.reader(file), [])]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise BadData(f"the table {source} cannot be read: {error}") from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that is not blank; BadData if the file is unreadable."""
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
    """Read columns of a CSV, or of its .gz, as stripped text, and the line number as `line`.

    columns, optional: the columns to read; each is named in the result by its first official name.
    An optional column that the file lacks is "" in every row, and `note_lacking` reports it. Cells
    that are empty or hold one of `columns.MISSING` are "". BadData: the file does not exist, is not
    a table, or lacks one of `columns`.
    """
    compressed = path.with_name(path.name + ".gz")
    source = compressed if compressed.is_file() and not path.is_file() else path
    if not source.is_file():
        raise BadData(f"there is no table {path}{folder_hint(path.parent)}")
    try:
        check_header(source)
        with unpacked(source) as file:
            table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except BadData:
        raise
    except (OSError, EOFError, UnicodeDecodeError, ValueError, zlib.error) as error:
        raise BadData(f"the table {source} cannot be read: {error}") from error
    if not isinstance(table.index, pd.RangeIndex):
        # pandas would take the surplus cells as row names and shift all others.
        raise BadData(f"{source}: its rows have more cells than its header: {list(table.columns)}")
    table.columns = [str(name).strip() for name in table.columns]
    names = list(table.columns)
    found = {spellings(column)[0]: find_column(names, column) for column in (*columns, *optional)}
    missing = [_names_of(column) for column in columns if found[spellings(column)[0]] is None]
    if missing:
        raise BadData(f"{source} lacks the columns {missing}; found: {', '.join(names)}")
    cells = {wanted: _column_cells(table, name) for wanted, name in found.items()}
    return pd.DataFrame({**cells, "line": range(2, len(table) + 2)})


def _column_cells(table: pd.DataFrame, name: str | None) -> "pd.Series[str]":
    """Return the stripped cells of a column; "" where a cell is empty or there is no column."""
    if name is None:
        return pd.Series("", index=table.index, dtype=object)
    cells = table[name].fillna("").str.strip()
    return cells.where(~cells.str.lower().isin(MISSING), "")


def _names_of(column: Column) -> str:
    """All names of a column, for messages."""
    return " or ".join(spellings(column))


def note_lacking(path: Path, optional: Sequence[Column]) -> Iterator[Note]:
    """Yield a note for each optional column that a table lacks."""
    names = header(path)
    for column in optional:
        if find_column(names, column) is None:
            yield Note(f"{path.name} has no column {_names_of(column)}, which is not needed")


def has_table(path: Path) -> bool:
    """Whether a table or its .gz exists."""
    return path.is_file() or path.with_name(path.name + ".gz").is_file()


def choose_table(root: Path, names: Sequence[str]) -> Path:
    """Return the path of a table by its official names, in order of preference.

    The case of file names is ignored. If no file exists, the path has the first name.
    """
    for name in names:
        if has_table(root / name):
            return root / name
    present = (file.name for file in sorted(root.glob("*.*")))
    by_lower_name = {
        name.lower(): name for name in (re.sub(r"(?i)\.gz$", "", name) for name in present)
    }
    same_name = (by_lower_name[name.lower()] for name in names if name.lower() in by_lower_name)
    return root / next(same_name, names[0])


def note_unread(root: Path, names: Sequence[str]) -> Iterator[Note]:
    """Yield a note if a table exists under several of its names, of which only one is read."""
    present = [name for name in names if has_table(root / name)]
    if len(present) > 1:
        yield Note(f"{present[0]} is read, {' and '.join(present[1:])} beside it is not")


def check_header(path: Path) -> None:
    """BadData if the first line of a CSV or TSV is too long for a header; OSError as `open`."""
    with unpacked(path) as file:
        first = file.readline(MAX_HEADER + 1).split(b"\r")[0]
    if len(first) > MAX_HEADER or max(first.count(mark) for mark in (b",", b"\t")) >= MAX_COLUMNS:
        raise BadData(
            f"the table {path} has no header: its first line has more than {MAX_HEADER:,} bytes or "
            f"{MAX_COLUMNS:,} columns"
        )


class _BoundedReader(io.RawIOBase):
    """The bytes of a table while it is decompressed; BadData beyond MAX_TABLE bytes."""

    def __init__(self, file: io.BufferedReader | gzip.GzipFile, path: Path) -> None:
        self._file, self._path, self._remaining = file, path, MAX_TABLE

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer)
        self._remaining -= count
        if self._remaining < 0:
            raise BadData(f"the table {self._path} unpacks to more than {MAX_TABLE:,} bytes")
        return count


@contextmanager
def unpacked(path: Path) -> Iterator[io.BufferedReader]:
    """Open a table for reading bytes, a .gz decompressed; BadData beyond MAX_TABLE bytes."""
    with open_file(path, MAX_TABLE) as file:
        raw = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
        yield io.BufferedReader(_BoundedReader(raw, path), 2**16)


def number(text: str, what: str) -> float:
    """Parse a finite number; BadData says that `what` is not a number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadData(f"{what} is {text!r}, not a number")
    return value


def is_complete(row: Cells, columns: Iterable[str]) -> bool:
    """Whether a row has no empty cell in these columns."""
    return all(row[column] for column in columns)


def by_key(table: pd.DataFrame, column: str) -> dict[str, list[Cells]]:
    """Group the rows of a table by a column; groups are in the order of their first row."""
    groups: dict[str, list[Cells]] = {}
    for cells in table.to_dict("records"):
        groups.setdefault(cells[column], []).append(cells)
    return groups
