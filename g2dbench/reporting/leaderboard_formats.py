"""Formats of a leaderboard: terminal, Markdown, CSV, LaTeX, JSON."""

import csv
import io
import json
import math
from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from g2dbench.reporting.leaderboard import Column, Entry, Leaderboard
from g2dbench.system.counts import counted

DASH = "-"


def heading(column: Column) -> list[str]:
    """The lines of a column's heading: task, data set, fraction, metric."""
    share = column.share if column.limit is None else f"{column.share} n<={column.limit}"
    share += "" if column.precision == "fp32" else f" {column.precision}"
    task = column.task if column.protocol == "g2d" else f"{column.task}:{column.protocol}"
    return [task, column.data, share, column.metric]


def format_mean(entry: Entry | None) -> str:
    """The mean in per cent, with the standard deviation if there are several seeds."""
    if entry is None:
        return DASH
    spread = "" if math.isnan(entry.spread) else f"±{entry.spread * 100:.1f}"
    return f"{entry.mean * 100:.1f}{spread}"


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
        table.add_column("\n".join(heading(column)), justify="right", no_wrap=True)
    for model in board.models:
        table.add_row(model, *(_table_entry(board.entries.get((model, c))) for c in board.columns))
    return table


def _table_entry(entry: Entry | None) -> Text:
    style = "bold green" if entry is not None and entry.best else ""
    text = Text(format_mean(entry), style=style)
    if limits := format_interval(entry):
        text.append(f"\n{limits}", style="dim")
    return text


def legend(board: Leaderboard) -> list[str]:
    """What the numbers mean, then the notes."""
    seeds = sorted({entry.seeds for entry in board.entries.values()})
    number = counted(seeds[0], "seed") if len(seeds) == 1 else "1 or more seeds"
    spread = "± the standard deviation over seeds; " if max(seeds, default=1) > 1 else ""
    first = (
        f"Per cent, mean of {number}; {spread}below or after it the 95 % confidence interval over "
        "patients; the best of a column is bold."
    )
    return [first, *board.notes]


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
    if missing and reasons:
        for record in records(board):
            if record["reason"]:
                column = f"{record['task']} {record['data']} {record['protocol']}"
                console.print(Text(f"{record['model']}, {column}: {record['reason']}"))


def to_markdown(board: Leaderboard) -> str:
    """A Markdown table, then the legend."""
    heads = ["model", *(" ".join(heading(column)) for column in board.columns)]
    lines = [_row(heads), _row(["---"] + ["---:"] * len(board.columns))]
    for model in board.models:
        cells = [_markdown_entry(board.entries.get((model, column))) for column in board.columns]
        lines.append(_row([model, *cells]))
    return "\n".join([*lines, "", *legend(board)])


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _markdown_entry(entry: Entry | None) -> str:
    text = format_mean(entry)
    bold = f"**{text}**" if entry is not None and entry.best else text
    limits = format_interval(entry)
    return f"{bold} ({limits})" if limits else bold


def to_latex(board: Leaderboard) -> str:
    """A booktabs table."""
    lines = [
        r"\begin{tabular}{l" + "r" * len(board.columns) + "}",
        r"\toprule",
        " & ".join(["model", *(_escape_latex(" ".join(heading(c))) for c in board.columns)])
        + r" \\",
        r"\midrule",
    ]
    for model in board.models:
        cells = [_latex_entry(board.entries.get((model, column))) for column in board.columns]
        lines.append(" & ".join([_escape_latex(model), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _latex_entry(entry: Entry | None) -> str:
    if entry is None:
        return "--"
    spread = "" if math.isnan(entry.spread) else rf" $\pm$ {entry.spread * 100:.1f}"
    text = f"{entry.mean * 100:.1f}{spread}"
    return rf"\textbf{{{text}}}" if entry.best else text


def _escape_latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    escaped = {letter: "\\" + letter for letter in "&%$#_{}"}
    return "".join({**special, **escaped}.get(letter, letter) for letter in text)


def records(board: Leaderboard) -> list[dict[str, object]]:
    """One flat record per model and column; a missing entry has its reason."""
    return [_record(board, model, column) for model in board.models for column in board.columns]


def _record(board: Leaderboard, model: str, column: Column) -> dict[str, object]:
    entry = board.entries.get((model, column))
    values = (None,) * 7 if entry is None else (
        entry.mean, entry.spread, entry.low, entry.high, entry.seeds, entry.n, entry.best
    )  # fmt: skip
    names = ("mean", "spread", "low", "high", "seeds", "n", "best")
    statistics = {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in zip(names, values, strict=True)
    }
    reason = None if entry else board.reasons.get((model, column), "not run")
    return {"model": model, **column.__dict__, **statistics, "reason": reason}


def to_csv(board: Leaderboard) -> str:
    """CSV, one line per model and column."""
    flat = records(board)
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(flat[0]) if flat else ["model"])
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue().rstrip("\n")


def to_json(board: Leaderboard) -> str:
    """JSON: the flat records and the notes."""
    return json.dumps({"rows": records(board), "notes": board.notes}, indent=1)


TEXT_FORMATS: dict[str, Callable[[Leaderboard], str]] = {
    "md": to_markdown,
    "csv": to_csv,
    "latex": to_latex,
    "json": to_json,
}
