"""Prints a leaderboard to a terminal: as many tables as its width needs, no digit left out."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from g2dbench.reporting.leaderboard.entries import Entry, FactTable
from g2dbench.reporting.leaderboard.formats import (
    DASH,
    NO_FACTS,
    RANK_HEADS,
    fact_rows,
    format_interval,
    format_mean,
    format_ranks,
    format_seeds,
    has_ranks,
    heading,
    legend,
    records,
)
from g2dbench.reporting.leaderboard.leaderboard import Leaderboard
from g2dbench.reporting.line_breaks import break_lines
from g2dbench.reporting.markup import one_line
from g2dbench.system.counts import counted

MAX_NAME = 36
"""Longest part of a model's name on one line; the rest follows on the next line."""

MAX_HEAD = 24
"""Longest part of a line of a column's heading."""

MAX_CELL = 24
"""Facts with a longer text are printed as lines below the table."""


_BORDER = 2
"""Characters of a table that each column adds to its own width."""

_Block = tuple[Text, list[Text]]
"""Heading and cells of a column."""


def show(
    board: Leaderboard, console: Console, *, reasons: bool, facts: FactTable = NO_FACTS
) -> None:
    """Print tables and legend, the facts, and with `reasons` why entries are missing."""
    for table in to_tables(board, console.width):
        console.print(table)
    for line in legend(board):
        console.print(Text(line, style="dim"))
    _show_facts(board, facts, console)
    missing = len(board.models) * len(board.columns) - len(board.entries)
    if missing and not reasons:
        console.print(
            Text(f"{counted(missing, 'cell')} missing: --reasons gives the reasons.", style="dim")
        )
    if reasons:
        for record in records(board):
            if record["reason"]:
                column = f"{record['task']} {record['data']} {record['protocol']}"
                line = f"{record['model']}, {column}: {record['reason']}"
                console.print(Text(one_line(line)))


def to_tables(board: Leaderboard, width: int) -> list[Table]:
    """The score columns, then the ranks, in tables of at most so many characters.

    A single column that is wider still gets a table of its own.
    """
    names = [Text(one_line(model)) for model in board.models]
    tables = _tables("model", names, _blocks(board), width)
    tables[0].title = "g2dbench leaderboard"
    return tables


def _tables(head: str, names: Sequence[Text], blocks: Sequence[_Block], width: int) -> list[Table]:
    """Tables that begin with the names and have as many of the blocks as fit."""
    longest = max((_width(name) for name in names), default=0)
    free = width - 1 - _BORDER - max(len(head), min(longest, MAX_NAME))
    groups: list[list[_Block]] = [[]]
    room = free
    for block in blocks:
        needed = _BORDER + max(_width(text) for text in (block[0], *block[1]))
        if needed > room and groups[-1]:
            groups.append([])
            room = free
        groups[-1].append(block)
        room -= needed
    return [_table(head, names, group) for group in groups]


def _blocks(board: Leaderboard) -> list[_Block]:
    found = [
        (
            Text(
                "\n".join(part for line in heading(column) for part in break_lines(line, MAX_HEAD))
            ),
            [_entry(board.entries.get((model, column))) for model in board.models],
        )
        for column in board.columns
    ]
    if has_ranks(board):
        ranks = [format_ranks(board, model) for model in board.models]
        found += [
            (Text(name.replace(" ", "\n")), [Text(row[at]) for row in ranks])
            for at, name in enumerate(RANK_HEADS)
        ]
    return found


def _width(text: Text) -> int:
    """The width of the longest line."""
    return max(line.cell_len for line in text.split("\n", allow_blank=True))


def _table(head: str, names: Sequence[Text], blocks: Sequence[_Block]) -> Table:
    table = Table(title_justify="left", padding=(0, 1, 0, 0))
    table.add_column(head, overflow="fold", max_width=MAX_NAME)
    for heading_of_block, _ in blocks:
        table.add_column(heading_of_block, justify="right", no_wrap=True)
    for at, name in enumerate(names):
        table.add_row(name, *(cells[at] for _, cells in blocks))
    return table


def _entry(entry: Entry | None) -> Text:
    style = "bold green" if entry is not None and entry.best else ""
    text = Text(format_mean(entry), style=style)
    if limits := format_interval(entry):
        text.append(f"\n{limits}", style="dim")
    if seeds := format_seeds(entry):
        text.append(f"\n{seeds}", style="yellow")
    return text


def _show_facts(board: Leaderboard, facts: FactTable, console: Console) -> None:
    """Short facts as a table; long ones as lines, once for each model if they are the same."""
    rows = fact_rows(board, facts)
    names = [name for name in (rows[0] if rows else ()) if name not in ("model", "column")]
    short = [name for name in names if all(len(row[name]) <= MAX_CELL for row in rows)]
    if short:
        cells = [_model_and_column(row) for row in rows]
        blocks = [(Text(n), [Text(one_line(row[n]) or DASH) for row in rows]) for n in short]
        for table in _tables("model, column", cells, blocks, console.width):
            console.print(table)
    for name in names:
        if name not in short:
            for line in _fact_lines(name, rows):
                # A command stays on one line, so that it can be copied.
                console.print(Text(one_line(line)), soft_wrap=name == "command")


def _model_and_column(row: dict[str, str]) -> Text:
    column = break_lines(one_line(row["column"]), MAX_NAME)
    return Text("\n".join([one_line(row["model"]), *column]))


def _fact_lines(name: str, rows: Sequence[dict[str, str]]) -> list[str]:
    """One line for each model, or for each column, if one text holds for it; else for each cell."""
    known = [row for row in rows if row[name]]
    for group in ("model", "column"):
        texts: dict[str, set[str]] = {}
        for row in known:
            texts.setdefault(row[group], set()).add(row[name])
        if all(len(each) == 1 for each in texts.values()):
            return [f"{name}: {label}: {each.pop()}" for label, each in texts.items()]
    return [f"{name}: {row['model']}, {row['column']}: {row[name]}" for row in known]
