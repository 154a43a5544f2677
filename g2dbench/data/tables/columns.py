"""Names of table columns in different releases, and the texts that mark an empty cell."""

from collections.abc import Iterable, Sequence

Column = str | tuple[str, ...]
"""The official name of a column, or its names in different releases; g2dbench uses the first."""

MISSING = frozenset({"", "nan", "na", "n/a", "<na>", "#n/a", "null"})
"""The lower-case texts that pandas, R, Excel and SQL write into an empty cell.

"none" is not included, because it can also be the name of a class.
"""


def canonical(name: str) -> str:
    """Return a column name without case, blanks and punctuation: `Patient Sex` is `patient_sex`.

    A name with control characters is damaged; it is returned unchanged, so that it equals no other.
    """
    return "".join(filter(str.isalnum, name.lower())) if name.isprintable() else name


def spellings(column: Column) -> tuple[str, ...]:
    """Return all names of a column."""
    return (column,) if isinstance(column, str) else column


def find_column(names: Sequence[str], column: Column) -> str | None:
    """Return the name in `names` that belongs to the column; None if there is none.

    An exact match of one of the column's names is preferred to a match of their `canonical` forms.
    """
    by_canonical = {canonical(name): name for name in reversed(names)}
    for name in spellings(column):
        if name in names:
            return name
        if canonical(name) in by_canonical:
            return by_canonical[canonical(name)]
    return None


def is_missing(cell: str) -> bool:
    """Whether a cell is empty or holds one of the texts in MISSING."""
    return cell.strip().lower() in MISSING


def shortened(items: Iterable[str], max_items: int = 8) -> str:
    """Join the first items by commas, and add how many more there are."""
    listed = list(items)
    rest = f" and {len(listed) - max_items} more" if len(listed) > max_items else ""
    return ", ".join(listed[:max_items]) + rest
