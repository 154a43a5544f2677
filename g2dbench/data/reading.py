"""What readers of official layouts share: tables, files, and what could not be used.

A reader's `read(root)` yields `Record` for a usable image, `Rejected` for a broken row or file,
and `Missing` for an image that a table lists and the folder lacks (an excerpt).
"""

import math
import os
from collections.abc import Iterator, Sequence
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
        table = pd.read_csv(source, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError, ValueError) as error:
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
    real = path.resolve()
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
        return path.relative_to(root).as_posix()
    return Path(os.path.relpath(path.resolve(), root.resolve())).as_posix()


def _neighbours(folder: Path) -> str:
    """What lies where something was not found, for the error's end."""
    if not folder.is_dir():
        return f"; the folder {folder} does not exist either"
    names = sorted(child.name for child in folder.iterdir())
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"; {folder} holds: {shown or 'nothing'}"
