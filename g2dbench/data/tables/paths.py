r"""Paths in tables, which may have been written on Windows or on another machine.

A cell may hold `images\a.png`, `C:\data\images\a.png` or `images/a.PNG`; each means the file
`images/a.png` below the root.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from g2dbench.data.tables.files import is_present

_ELSEWHERE = re.compile(r"[A-Za-z]:/|/")


def portable(cell: str) -> str:
    """A path with `/` where Windows writes a backslash."""
    return cell.replace("\\", "/")


def file_name(cell: str) -> str:
    """The last part of a path."""
    return PurePosixPath(portable(cell)).name


def bare_name(cell: str) -> str:
    """The last part of a path without its extension."""
    return PurePosixPath(portable(cell)).stem


def is_elsewhere(cell: str) -> bool:
    """Whether a path begins at a drive or at the root of a file system, not in the data set."""
    return _ELSEWHERE.match(portable(cell)) is not None


def locate(root: Path, cell: str) -> Path:
    """The file that a cell names; where there is none, the path where it was expected.

    In this order: as written, with `/` for backslashes, and, for a path that begins elsewhere, its
    longest tail that exists below the root. An extension may be in the other case.
    """
    for place in _places(root, cell):
        if found := next((path for path in _cases(place) if is_present(path)), None):
            return found
    return root / portable(cell)


def _places(root: Path, cell: str) -> Iterator[Path]:
    yield root / cell
    if "\\" in cell:
        yield root / portable(cell)
    if is_elsewhere(cell):
        parts = [part for part in portable(cell).split("/") if part]
        yield from (root.joinpath(*parts[start:]) for start in range(1, len(parts)))


def _cases(path: Path) -> Iterator[Path]:
    yield path
    for suffix in (path.suffix.lower(), path.suffix.upper()):
        if suffix not in ("", path.suffix):
            yield path.with_suffix(suffix)
