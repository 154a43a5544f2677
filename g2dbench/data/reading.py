"""What readers of official layouts share: tables, files, and what could not be used.

A reader's `read(root)` yields `Record` for a usable image, `Rejected` for a broken row or file,
and `Missing` for an image that a table lists and the folder lacks (an excerpt).
"""

import gzip
import io
import math
import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from g2dbench.data.sample import Record
from g2dbench.errors import BadData


@dataclass(frozen=True)
class Rejected:
    """A broken row or file, and why it was left out."""

    id: str
    path: Path | None
    reason: str


@dataclass(frozen=True)
class Missing:
    """An image that a table lists and the folder does not hold."""

    id: str
    path: Path | None


Found = Record | Rejected | Missing

MAX_BYTES = 2**30
"""A larger file is no radiograph."""

MAX_TABLE = 2**32
"""A larger table, unpacked, is a bomb; the longest official one has some hundred megabytes."""

MAX_HEADER, MAX_COLUMNS = 2**16, 4000
"""Bytes and columns of a table's first line; pandas takes time with the square of the columns."""

Cells = dict[Any, Any]
"""One row of a table: text by column, and its `line` in the file."""


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A CSV (or its .gz beside it) as stripped text; column `line` holds the file's line numbers.

    Empty cells are "". BadData: no such file, no table, or a column is missing.
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
    lacking = [name for name in columns if name not in table.columns]
    if lacking:
        raise BadData(f"{source} lacks the columns {lacking}; found: {', '.join(table.columns)}")
    cells = {name: table[name].fillna("").str.strip() for name in columns}
    return pd.DataFrame({**cells, "line": range(2, len(table) + 2)})


def has_table(path: Path) -> bool:
    """Whether a table, or its .gz, is there."""
    return path.is_file() or path.with_name(path.name + ".gz").is_file()


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


@contextmanager
def open_file(path: Path, most: int = MAX_BYTES) -> Iterator[io.BufferedReader]:
    """A regular file of at most so many bytes, open for reading.

    BadData: a folder, a pipe (which would wait for ever) or a device, or too large. OSError as
    `open` raises it.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:
        raise BadData(f"{str(path)!r} names no file: {error}") from error
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise BadData(f"{path} is no regular file")
        if found.st_size > most:
            raise BadData(f"{path} has {found.st_size:,} bytes; g2dbench reads at most {most:,}")
        yield file


def read_bytes(path: Path) -> bytes:
    """All of a file; see `open_file`."""
    with open_file(path) as file:
        return file.read()


def is_present(path: Path) -> bool:
    """Whether there is something to read at a path that a table names, however it is spelt."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def folders(root: Path, names: Sequence[str]) -> list[Path]:
    """Those of the named folders that exist under the root; BadData if there is none."""
    found = [root / name for name in names if (root / name).is_dir()]
    if not found:
        wanted = " or ".join(f"{name}/" for name in names)
        raise BadData(f"{root} holds no image folder {wanted}{_neighbours(root)}")
    return found


def index_images(places: Sequence[Path], extensions: Sequence[str]) -> dict[str, Path]:
    """Image files below the folders by name without extension.

    Where one name has several files, the earlier extension wins, then the earlier folder, then
    the path. Links to folders are not followed.
    """
    rank = {extension: order for order, extension in enumerate(extensions)}
    best: dict[str, tuple[tuple[int, int, str], Path]] = {}
    for order, place in enumerate(places):
        for path in _files(place):
            if (kind := rank.get(path.suffix.lower())) is None:
                continue
            key = (kind, order, str(path))
            if path.stem not in best or key < best[path.stem][0]:
                best[path.stem] = (key, path)
    return {name: path for name, (_, path) in best.items()}


def _files(place: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(place):
        yield from (Path(folder) / name for name in names)


def number(text: str, what: str) -> float:
    """A finite number from a cell; BadData names the cell."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadData(f"{what} is {text!r}, not a number")
    return value


def is_within(path: Path, roots: Sequence[Path]) -> bool:
    """Whether a path, all links followed, stays within one of these resolved folders."""
    try:
        real = path.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name too long, a NUL
        return False
    return any(real.is_relative_to(root) for root in roots)


def trusted_roots(root: Path) -> list[Path]:
    """The root, and the folders that its owner linked directly into it, all resolved.

    Big image folders often live on another disk behind such a link. What a table names must not
    leave these: neither through `..` nor through a link further down. A root that is no folder,
    such as a hub's data set, has none.
    """
    if not root.is_dir():
        return [root.resolve()]
    linked = [child.resolve() for child in root.iterdir() if child.is_symlink() and child.is_dir()]
    return [root.resolve(), *sorted(linked)]


def check_layout(root: Path) -> None:
    """BadData unless the root is a folder."""
    if not root.is_dir():
        raise BadData(f"there is no folder {root}{_neighbours(root.parent)}")


def by_key(table: pd.DataFrame, column: str) -> dict[str, list[Cells]]:
    """Rows of a table by key, keys in the order of their first row."""
    groups: dict[str, list[Cells]] = {}
    for cells in table.to_dict("records"):
        groups.setdefault(cells[column], []).append(cells)
    return groups


def relative_name(path: Path, root: Path) -> str:
    """A file's name from the root, with `/`; links directly below the root keep their name."""
    if path.is_relative_to(root):
        return printable(path.relative_to(root).as_posix())
    return printable(Path(os.path.relpath(path.resolve(), root.resolve())).as_posix())


def printable(name: str) -> str:
    r"""A file's name as text; bytes that are no UTF-8 are spelt out, as in `\udcff`."""
    return name.encode("utf-8", "backslashreplace").decode()


def _neighbours(folder: Path) -> str:
    """What lies where something was not found, for the error's end."""
    if not folder.is_dir():
        return f"; the folder {folder} does not exist either"
    names = sorted(child.name for child in folder.iterdir())
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"; {folder} holds: {shown or 'nothing'}"
