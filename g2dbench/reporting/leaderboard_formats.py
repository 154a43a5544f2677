"""Formats of a leaderboard: terminal, Markdown, CSV, LaTeX, JSON."""

import json
import math
from collections.abc import Callable
from dataclasses import fields

from rich.console import Console
from rich.table import Table
from rich.text import Text

from g2dbench.reporting.leaderboard import Column, Entry, Leaderboard
from g2dbench.reporting.markup import csv_text, latex, markdown, markdown_row, one_line
from g2dbench.system.counts import counted

DASH = "-"


def heading(column: Column) -> list[str]:
    """The lines of a column's heading: task, data set, fraction, metric."""
    share = column.share if column.limit is None else f"{column.share} n<={column.limit}"
    share += "" if column.precision == "fp32" else f" {column.precision}"
    share += "" if column.draw == "covering" else f" {column.draw}"
    share += "" if column.validation == "full" else " val-budget"
    task = column.task if column.protocol == "g2d" else f"{column.task}:{column.protocol}"
    task += f" #{column.settings}" if column.settings else ""
    return [one_line(text) for text in (task, column.data, share, column.metric)]


def format_mean(entry: Entry | None) -> str:
    """The mean in per cent, with the standard deviations over training and over subset seeds."""
    if entry is None:
        return DASH
    return f"{entry.mean * 100:.1f}{_spreads(entry, '±')}"


def _spreads(entry: Entry, sign: str) -> str:
    spread = "" if math.isnan(entry.spread) else f"{sign}{entry.spread * 100:.1f}"
    subsets = entry.subset_spread
    return spread + ("" if math.isnan(subsets) else f"{sign}{subsets * 100:.1f}s")


def format_seeds(entry: Entry | None) -> str:
    """ "2 of 3 seeds" if runs failed or are undefined; else an empty text."""
    if entry is None or entry.seeds >= entry.runs:
        return ""
    return f"{entry.seeds} of {counted(entry.runs, 'seed')}"


def format_interval(entry: Entry | None) -> str:
    """The 95 % confidence interval in per cent, such as "41.2–58.0"."""
    if entry is None or math.isnan(entry.low):
        return ""
    return f"{entry.low * 100:.1f}–{entry.high * 100:.1f}"


def to_table(board: Leaderboard) -> Table:
    """A rich table; with up to six score columns it fits a terminal of 80 characters."""
    table = Table(title="g2dbench leaderboard", title_justify="left", padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    for column in board.columns:
        table.add_column(Text("\n".join(heading(column))), justify="right", no_wrap=True)
    for model in board.models:
        name = Text(one_line(model))
        table.add_row(name, *(_table_entry(board.entries.get((model, c))) for c in board.columns))
    return table


def _table_entry(entry: Entry | None) -> Text:
    style = "bold green" if entry is not None and entry.best else ""
    text = Text(format_mean(entry), style=style)
    if limits := format_interval(entry):
        text.append(f"\n{limits}", style="dim")
    if seeds := format_seeds(entry):
        text.append(f"\n{seeds}", style="yellow")
    return text


def legend(board: Leaderboard) -> list[str]:
    """What the numbers mean, then the notes."""
    entries = board.entries.values()
    seeds = sorted({entry.seeds for entry in entries})
    number = counted(seeds[0], "seed") if len(seeds) == 1 else "1 or more seeds"
    spread = ""
    if any(not math.isnan(entry.spread) for entry in entries):
        spread += "± the standard deviation over seeds; "
    if any(not math.isnan(entry.subset_spread) for entry in entries):
        spread += "±...s that over subsets of the training patients; "
    first = (
        f"Per cent, mean of {number}; {spread}below or after it the 95 % confidence interval over "
        "patients; the best of a column is bold."
    )
    return [one_line(line) for line in (first, *board.notes)]


def show(board: Leaderboard, console: Console, *, reasons: bool) -> None:
    """Print the table, its legend, and with `reasons` why entries are missing."""
    console.print(to_table(board))
    for line in legend(board):
        console.print(Text(line, style="dim"))
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


def to_markdown(board: Leaderboard) -> str:
    """A Markdown table, then the legend."""
    heads = ["model", *(markdown(" ".join(heading(column))) for column in board.columns)]
    lines = [markdown_row(heads), markdown_row(["---"] + ["---:"] * len(board.columns))]
    for model in board.models:
        cells = [_markdown_entry(board.entries.get((model, column))) for column in board.columns]
        lines.append(markdown_row([markdown(model), *cells]))
    return "\n".join([*lines, "", *(markdown(line) for line in legend(board))])


def _markdown_entry(entry: Entry | None) -> str:
    text = format_mean(entry)
    bold = f"**{text}**" if entry is not None and entry.best else text
    more = ", ".join(filter(None, (format_interval(entry), format_seeds(entry))))
    return f"{bold} ({more})" if more else bold


def to_latex(board: Leaderboard) -> str:
    """A booktabs table."""
    lines = [
        r"\begin{tabular}{l" + "r" * len(board.columns) + "}",
        r"\toprule",
        " & ".join(["model", *(latex(" ".join(heading(c))) for c in board.columns)]) + r" \\",
        r"\midrule",
    ]
    for model in board.models:
        cells = [_latex_entry(board.entries.get((model, column))) for column in board.columns]
        lines.append(" & ".join([latex(model), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _latex_entry(entry: Entry | None) -> str:
    if entry is None:
        return "--"
    spreads = _spreads(entry, r" $\pm$ ")
    text = f"{entry.mean * 100:.1f}{spreads}"
    seeds = f" ({found})" if (found := format_seeds(entry)) else ""
    return (rf"\textbf{{{text}}}" if entry.best else text) + seeds


def records(board: Leaderboard) -> list[dict[str, object]]:
    """One flat record per model and column; a missing entry has its reason."""
    return [_record(board, model, column) for model in board.models for column in board.columns]


def _record(board: Leaderboard, model: str, column: Column) -> dict[str, object]:
    entry = board.entries.get((model, column))
    values = dict.fromkeys(_STATISTICS) if entry is None else vars(entry)
    statistics = {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in values.items()
    }
    reason = board.reasons.get((model, column), None if entry else "not run")
    return {"model": model, **vars(column), **statistics, "reason": reason}


_STATISTICS = tuple(each.name for each in fields(Entry))


def to_csv(board: Leaderboard) -> str:
    """CSV, one line per model and column."""
    return csv_text(records(board))


def to_json(board: Leaderboard) -> str:
    """JSON: the flat records and the notes."""
    return json.dumps({"rows": records(board), "notes": board.notes}, indent=1)


TEXT_FORMATS: dict[str, Callable[[Leaderboard], str]] = {
    "md": to_markdown,
    "csv": to_csv,
    "latex": to_latex,
    "json": to_json,
}
