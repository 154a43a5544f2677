"""What readers ask of files before they read rows: which columns, which lines, what is there."""

import csv
import gzip
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from g2dbench.data.reading import read_bytes
from g2dbench.errors import BadData


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


def first_column(path: Path, names: Sequence[str]) -> str:
    """The first of these column names that a table has; BadData if it has none of them."""
    found = header(path)
    for name in names:
        if name in found:
            return name
    raise BadData(f"{path} lacks the columns {' or '.join(names)}; found: {', '.join(found)}")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers; BadData if unreadable."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"the list {path} cannot be read: {error}") from error
    for count, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield count, line.strip()


def files_below(place: Path) -> Iterator[Path]:
    """Every file below a folder; links to folders are not followed."""
    for folder, _, names in os.walk(place):
        yield from (Path(folder) / name for name in names)
