"""Ways to print a leaderboard: terminal, Markdown, CSV, LaTeX, JSON."""

import csv
import io
import json
import math
from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from g2dbench.reporting.leaderboard import Board, Column, Entry

DASH = "-"


def heading(column: Column) -> list[str]:
    """The lines of a column's heading: task, data and share, metric."""
    share = column.share if column.limit is None else f"{column.share} n<={column.limit}"
    share += "" if column.precision == "fp32" else f" {column.precision}"
    task = column.task if column.protocol == "g2d" else f"{column.task}:{column.protocol}"
    return [task, column.data, share, column.metric]


def figure(entry: Entry | None) -> str:
    """A mean in per cent with the standard deviation over seeds, where there are several."""
    if entry is None:
        return DASH
    spread = "" if math.isnan(entry.spread) else f"±{entry.spread * 100:.1f}"
    return f"{entry.mean * 100:.1f}{spread}"


def interval(entry: Entry | None) -> str:
    """The 95 % interval in per cent; "41.2–58.0", narrow enough for six columns on 80."""
    if entry is None or math.isnan(entry.low):
        return ""
    return f"{entry.low * 100:.1f}–{entry.high * 100:.1f}"


def terminal(board: Board) -> Table:
    """A rich table that fits 80 columns with up to six score columns."""
    table = Table(title="g2dbench leaderboard", title_justify="left", padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    for column in board.columns:
        table.add_column("\n".join(heading(column)), justify="right", no_wrap=True)
    for model in board.models:
        table.add_row(model, *(_cell(board.entries.get((model, c))) for c in board.columns))
    return table


def _cell(entry: Entry | None) -> Text:
    style = "bold green" if entry is not None and entry.best else ""
    text = Text(figure(entry), style=style)
    if limits := interval(entry):
        text.append(f"\n{limits}", style="dim")
    return text


def legend(board: Board) -> list[str]:
    """What the figures mean, and what a reader must know."""
    seeds = sorted({entry.seeds for entry in board.entries.values()})
    counted = (
        f"{seeds[0]} seed{'s' if seeds[0] > 1 else ''}" if len(seeds) == 1 else "1 or more seeds"
    )
    spread = "± the standard deviation over seeds; " if max(seeds, default=1) > 1 else ""
    first = (
        f"Per cent, mean of {counted}; {spread}"
        "below or behind it the 95 % interval over patients; the best of a column is bold."
    )
    return [first, *board.notes]


def show(board: Board, console: Console, *, reasons: bool) -> None:
    """Print the table, its legend, and on demand why cells are missing."""
    console.print(terminal(board))
    for line in legend(board):
        console.print(Text(line, style="dim"))
    missing = len(board.models) * len(board.columns) - len(board.entries)
    if missing and not reasons:
        console.print(Text(f"{missing} cells are missing: --reasons says why.", style="dim"))
    if missing and reasons:
        for record in rows(board):
            if record["reason"]:
                column = f"{record['task']} {record['data']} {record['protocol']}"
                console.print(Text(f"{record['model']}, {column}: {record['reason']}"))


def markdown(board: Board) -> str:
    """A Markdown table, then the legend."""
    heads = ["model", *(" ".join(heading(column)) for column in board.columns)]
    lines = [_row(heads), _row(["---"] + ["---:"] * len(board.columns))]
    for model in board.models:
        cells = [_marked(board.entries.get((model, column))) for column in board.columns]
        lines.append(_row([model, *cells]))
    return "\n".join([*lines, "", *legend(board)])


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _marked(entry: Entry | None) -> str:
    text = figure(entry)
    bold = f"**{text}**" if entry is not None and entry.best else text
    limits = interval(entry)
    return f"{bold} ({limits})" if limits else bold


def latex(board: Board) -> str:
    """A booktabs table."""
    lines = [
        r"\begin{tabular}{l" + "r" * len(board.columns) + "}",
        r"\toprule",
        " & ".join(["model", *(_escaped(" ".join(heading(c))) for c in board.columns)]) + r" \\",
        r"\midrule",
    ]
    for model in board.models:
        cells = [_typeset(board.entries.get((model, column))) for column in board.columns]
        lines.append(" & ".join([_escaped(model), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _typeset(entry: Entry | None) -> str:
    if entry is None:
        return "--"
    spread = "" if math.isnan(entry.spread) else rf" $\pm$ {entry.spread * 100:.1f}"
    text = f"{entry.mean * 100:.1f}{spread}"
    return rf"\textbf{{{text}}}" if entry.best else text


def _escaped(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    plain = {letter: "\\" + letter for letter in "&%$#_{}"}
    return "".join({**special, **plain}.get(letter, letter) for letter in text)


def rows(board: Board) -> list[dict[str, object]]:
    """One flat record per model and column; missing cells carry their reason."""
    return [_record(board, model, column) for model in board.models for column in board.columns]


def _record(board: Board, model: str, column: Column) -> dict[str, object]:
    entry = board.entries.get((model, column))
    values = (None,) * 7 if entry is None else (
        entry.mean, entry.spread, entry.low, entry.high, entry.seeds, entry.n, entry.best
    )  # fmt: skip
    names = ("mean", "spread", "low", "high", "seeds", "n", "best")
    figures = {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in zip(names, values, strict=True)
    }
    reason = None if entry else board.reasons.get((model, column), "not run")
    return {"model": model, **column.__dict__, **figures, "reason": reason}


def comma(board: Board) -> str:
    """CSV, one line per model and column."""
    records = rows(board)
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(records[0]) if records else ["model"])
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue().rstrip("\n")


def as_json(board: Board) -> str:
    """JSON: the flat records and the notes."""
    return json.dumps({"rows": rows(board), "notes": board.notes}, indent=1)


PLAIN: dict[str, Callable[[Board], str]] = {
    "md": markdown,
    "csv": comma,
    "latex": latex,
    "json": as_json,
}
FORMATS = ("rich", *PLAIN)
