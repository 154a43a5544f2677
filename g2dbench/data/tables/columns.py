"""Which column of a table is meant, and what stands for an empty cell."""

from collections.abc import Iterable, Sequence

Column = str | tuple[str, ...]
"""A column's official name, or its names in different releases; the first is what we call it."""

MISSING = frozenset({"", "nan", "na", "n/a", "<na>", "#n/a", "null"})
"""What pandas, R, Excel and SQL write into an empty cell, lower-cased.

"None" is not among them: it is the name of a class as often as an empty cell.
"""


def canonical(name: str) -> str:
    """A column's name without case, blanks and punctuation: `Patient Sex` is `patient_sex`.

    One with control characters is no name but damage, and is like no other.
    """
    return "".join(filter(str.isalnum, name.lower())) if name.isprintable() else name


def spellings(column: Column) -> tuple[str, ...]:
    """All names of a column."""
    return (column,) if isinstance(column, str) else column


def find_column(names: Sequence[str], column: Column) -> str | None:
    """The column of a table that is meant: spelt like one of its names, or much like it.

    None where there is none. See `canonical` for what is much like.
    """
    alike = {canonical(name): name for name in reversed(names)}
    for name in spellings(column):
        if name in names:
            return name
        if canonical(name) in alike:
            return alike[canonical(name)]
    return None


def is_missing(cell: str) -> bool:
    """Whether a cell is empty, by whatever word."""
    return cell.strip().lower() in MISSING


def shortened(items: Iterable[str], most: int = 8) -> str:
    """The first items joined by commas, and how many more there are."""
    every = list(items)
    rest = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + rest
