r"""Paths in tables that were written on Windows or on another machine.

A cell may hold `images\a.png`, `C:\data\images\a.png` or `images/a.PNG`; each of them refers to
the file `images/a.png` below the root.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from g2dbench.data.tables.files import is_present

_ABSOLUTE = re.compile(r"[A-Za-z]:/|/")


def portable(cell: str) -> str:
    """Return a path with `/` instead of the backslash of Windows."""
    return cell.replace("\\", "/")


def file_name(cell: str) -> str:
    """Return the last part of a path."""
    return PurePosixPath(portable(cell)).name


def bare_name(cell: str) -> str:
    """Return the last part of a path without its extension."""
    return PurePosixPath(portable(cell)).stem


def is_absolute(cell: str) -> bool:
    """Whether a path begins at a drive or at the root of a file system."""
    return _ABSOLUTE.match(portable(cell)) is not None


def locate(root: Path, cell: str) -> Path:
    """Return the file that a cell names; if there is none, the path where it was expected.

    Tried in this order: the path as written; with `/` instead of backslashes; for an absolute path,
    its longest trailing part that exists below the root. The extension may be in another case.
    """
    for place in _candidates(root, cell):
        if found := next((path for path in _extension_variants(place) if is_present(path)), None):
            return found
    return root / portable(cell)


def _candidates(root: Path, cell: str) -> Iterator[Path]:
    yield root / cell
    if "\\" in cell:
        yield root / portable(cell)
    if is_absolute(cell):
        parts = [part for part in portable(cell).split("/") if part]
        yield from (root.joinpath(*parts[start:]) for start in range(1, len(parts)))


def _extension_variants(path: Path) -> Iterator[Path]:
    yield path
    for suffix in (path.suffix.lower(), path.suffix.upper()):
        if suffix not in ("", path.suffix):
            yield path.with_suffix(suffix)
