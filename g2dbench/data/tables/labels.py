"""Label cells of tables: present, absent, uncertain or not labeled, in all usual notations."""

from g2dbench.data.tables.columns import is_missing
from g2dbench.sample import ABSENT, PRESENT, UNCERTAIN

_WORDS = {"true": PRESENT, "yes": PRESENT, "false": ABSENT, "no": ABSENT}
_NUMBERS = (PRESENT, ABSENT, UNCERTAIN)


def is_unlabeled(cell: str) -> bool:
    """Whether a cell holds no label: it is empty, or `None` as Python writes it."""
    return is_missing(cell) or cell.strip().lower() == "none"


def parse_label(cell: str) -> int | None:
    """Return the label 1, 0 or -1 of a cell; None if the cell is not a label.

    A label is a number in any format, or true, false, yes or no in any case.
    """
    word = cell.strip().lower()
    if word in _WORDS:
        return _WORDS[word]
    try:
        value = float(word)
    except ValueError:
        return None
    return int(value) if value in _NUMBERS else None
