"""The files of a store's source when it was prepared, so that a later change of them is noticed.

The fingerprint has the name, size and modification time of every file, and the content of tables,
whose time may stay the same after an edit. Images are not opened: `source_check` does that.
"""

import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from g2dbench.data.store.request import Request
from g2dbench.data.tables.files import printable, read_bytes, trusted_roots
from g2dbench.errors import BadData

_TABLES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".gz")
_MAX_TABLE = 64 << 20
"""Content of larger tables does not count, only their size and time."""


class SourceFiles(BaseModel):
    """What a source held: files, bytes of all, the newest file with its time, and a SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: int
    bytes: int
    newest: str
    digest: str

    def __str__(self) -> str:
        return f"{self.files:,} files, {self.bytes:,} bytes, the newest {self.newest}"


def scan(asked: Request, store_root: Path) -> SourceFiles | None:
    """Look at every file of a request's source; None for generated data and data of a hub.

    Hidden files do not count, nor do prepared stores within the source.
    """
    if asked.root is None or not asked.root.is_dir():
        return None
    lines, total, newest = [], 0, (0, "none")
    for name, path in _files(asked, store_root.resolve()):
        try:
            status = path.stat()
        except OSError:  # a link to nothing
            lines.append(f"{name}\n")
            continue
        total += status.st_size
        newest = max(newest, (status.st_mtime_ns, name))
        lines.append(f"{name} {status.st_size} {_content(name, path) or status.st_mtime_ns}\n")
    digest = hashlib.sha256("".join(sorted(lines)).encode(errors="surrogateescape")).hexdigest()
    told = f"{printable(newest[1])} of {_date(newest[0])}" if newest[0] else newest[1]
    return SourceFiles(files=len(lines), bytes=total, newest=told, digest=digest)


def describe_change(before: SourceFiles, now: SourceFiles) -> str:
    """A sentence about a source that has changed."""
    return f"its source has changed since it was prepared: then {before}; now {now}"


def _files(asked: Request, store_root: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of every file: of the root, and of options that name a place outside it."""
    root = asked.root
    assert root is not None
    links = [child for child in root.iterdir() if child.is_symlink() and child.is_dir()]
    inside = trusted_roots(root)
    named = [root / value for value in asked.options.values() if Path(value).is_absolute()]
    outside = [path for path in named if not any(path.is_relative_to(each) for each in inside)]
    for place in (root, *links, *outside):
        if place.is_file():
            yield str(place), place
        for folder, folders, names in os.walk(place):
            folders[:] = [
                name for name in folders
                if not name.startswith(".") and Path(folder, name).resolve() != store_root
            ]  # fmt: skip
            for name in names:
                if not name.startswith("."):
                    path = Path(folder, name)
                    yield os.path.relpath(path, root), path


def _content(name: str, path: Path) -> str | None:
    """The SHA-256 of a table; None for another file, for a large and for an unreadable one."""
    in_root = os.sep not in name and name.lower().endswith(".txt")
    if not (in_root or name.lower().endswith(_TABLES)) or path.stat().st_size > _MAX_TABLE:
        return None
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except (OSError, BadData):
        return None


def _date(nanoseconds: int) -> str:
    return f"{datetime.fromtimestamp(nanoseconds / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC"
