"""Lists for the terminal: one block per entry, with line breaks between words only."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

INDENT = 4


@dataclass(frozen=True)
class Block:
    """An entry: name, summary, and facts as (label, value); empty values are not printed."""

    name: str
    summary: str
    facts: Sequence[tuple[str, str]] = ()

    def lines(self, width: int) -> list[str]:
        """The block in lines of at most `width` characters; a longer word is not broken."""
        lines = _wrap(f"{self.name}  {self.summary}", width, 0)
        for label, value in self.facts:
            if value:
                lines += _wrap(f"{label}: {value}", width, INDENT)
        return lines


def _wrap(text: str, width: int, indent: int) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (INDENT + 2 * bool(indent)),
        break_long_words=False,
        break_on_hyphens=False,
    )


def show(blocks: Iterable[Block], console: Console) -> None:
    """Print the blocks with an empty line between them; names are bold."""
    for index, block in enumerate(blocks):
        if index:
            console.print()
        first, *rest = block.lines(console.width)
        title = Text(first)
        title.stylize("bold", 0, len(block.name))
        # soft_wrap keeps a long web address on one line, so that it can be copied.
        console.print(title, soft_wrap=True)
        for line in rest:
            console.print(Text(line, style="dim"), soft_wrap=True)
