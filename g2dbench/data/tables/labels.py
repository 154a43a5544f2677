"""Label cells: present, absent, uncertain or not judged, by whatever program wrote them."""

from g2dbench.data.tables.columns import is_missing
from g2dbench.sample import ABSENT, PRESENT, UNCERTAIN

_WORDS = {"true": PRESENT, "yes": PRESENT, "false": ABSENT, "no": ABSENT}
_NUMBERS = (PRESENT, ABSENT, UNCERTAIN)


def is_unjudged(cell: str) -> bool:
    """Whether a label cell says nothing: it is empty, or `None` as Python writes it."""
    return is_missing(cell) or cell.strip().lower() == "none"


def parse_label(cell: str) -> int | None:
    """1, 0 or -1 of a cell: as a number of any format, or as true, false, yes, no in any case.

    None where the cell is no label.
    """
    word = cell.strip().lower()
    if word in _WORDS:
        return _WORDS[word]
    try:
        value = float(word)
    except ValueError:
        return None
    return int(value) if value in _NUMBERS else None
