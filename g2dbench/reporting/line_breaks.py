"""Breaks names of protocols and cells into lines that can be read: not in the middle of a word."""

import re
from collections.abc import Sequence

from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

_PLACES = (
    r"(?<= )(?![^\[]{0,200}\])",  # after a space outside of brackets
    r"(?=\+)",  # before a change of a protocol
    r"(?<=[=,])",
    r"(?<= )",
)
"""Where a text may break; a later kind of place is used only if an earlier one does not help."""


def break_lines(text: str, width: int) -> list[str]:
    """Lines of at most `width` characters; only a word that is longer than a line is cut."""
    return _broken(text, width, _PLACES) or [""]


def _broken(text: str, width: int, places: Sequence[str]) -> list[str]:
    if cell_len(text.rstrip()) <= width:
        return [text.rstrip()] if text.strip() else []
    if not places:
        return chop_cells(text, width)
    lines: list[str] = []
    current = ""
    for piece in re.split(places[0], text):
        if cell_len((current + piece).rstrip()) <= width:
            current += piece
            continue
        lines += _broken(current, width, places[1:])
        current = piece
    return lines + _broken(current, width, places[1:])


class BrokenText:
    """A text for a cell of a table, broken to the column's width by `break_lines`."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines."""
        yield Text("\n".join(break_lines(self._text, options.max_width)))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """As one line if there is room; a column of any width will do."""
        return Measurement(1, max(1, cell_len(self._text)))
