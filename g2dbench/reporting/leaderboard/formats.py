"""Text formats of a leaderboard: Markdown, CSV, LaTeX, JSON, HTML; `terminal.py` prints it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from html import escape
from typing import Protocol

from g2dbench.reporting.direction import arrow, lower_is_better
from g2dbench.reporting.leaderboard.entries import Column, Entry, FactTable
from g2dbench.reporting.leaderboard.leaderboard import Leaderboard
from g2dbench.reporting.markup import csv_text, latex, markdown, markdown_row, one_line
from g2dbench.system.counts import counted

DASH = "-"
NO_FACTS: FactTable = {}


def heading(column: Column) -> list[str]:
    """The lines of a column's heading: task, data set, fraction, metric with its direction."""
    share = column.share if column.limit is None else f"{column.share} n<={column.limit}"
    share += "" if column.precision == "fp32" else f" {column.precision}"
    share += "" if column.draw == "covering" else f" {column.draw}"
    share += "" if column.validation == "full" else " val-budget"
    task = column.task if column.protocol == "g2d" else f"{column.task}:{column.protocol}"
    task += f" #{column.settings}" if column.settings else ""
    metric = f"{column.metric} {arrow(column.metric)}"
    return [one_line(text) for text in (task, column.data, share, metric)]


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
        "patients; ↑ higher is better, ↓ lower."
    )
    ranks = [RANKS] if has_ranks(board) else []
    return [one_line(line) for line in (first, *filter(None, [board.bold]), *ranks, *board.notes)]


RANKS = (
    "Mean rank: over the columns with a score. Borda: the models beaten, summed over all columns; "
    "a tie counts half, a missing cell nothing."
)


def has_ranks(board: Leaderboard) -> bool:
    """Whether ranks say more than the one column of scores."""
    return len(board.columns) > 1 and len(board.ranks) > 1


RANK_HEADS = ("mean rank", "Borda")


def format_ranks(board: Leaderboard, model: str) -> list[str]:
    """Mean rank and Borda count of a model; dashes without a score."""
    rank = board.ranks.get(model)
    return [DASH, DASH] if rank is None else [f"{rank.mean:.2f}", f"{rank.borda:g}"]


def to_markdown(board: Leaderboard, facts: FactTable = NO_FACTS) -> str:
    """A Markdown table, the facts as a second one, then the legend."""
    more = list(RANK_HEADS) if has_ranks(board) else []
    heads = ["model", *(markdown(" ".join(heading(column))) for column in board.columns), *more]
    lines = [markdown_row(heads), markdown_row(["---"] + ["---:"] * (len(heads) - 1))]
    for model in board.models:
        cells = [_markdown_entry(board.entries.get((model, column))) for column in board.columns]
        ranks = format_ranks(board, model) if more else []
        lines.append(markdown_row([markdown(model), *cells, *ranks]))
    if rows := fact_rows(board, facts):
        lines += ["", markdown_row(list(rows[0])), markdown_row(["---"] * len(rows[0]))]
        lines += [markdown_row([markdown(text) for text in row.values()]) for row in rows]
    return "\n".join([*lines, "", *(markdown(line) for line in legend(board))])


def fact_rows(board: Leaderboard, facts: FactTable) -> list[dict[str, str]]:
    """One row of facts for each model and column, in the order of the table."""
    return [
        {"model": model, "column": " ".join(heading(column)), **facts[model, column]}
        for model in board.models
        for column in board.columns
        if (model, column) in facts
    ]


def _markdown_entry(entry: Entry | None) -> str:
    text = format_mean(entry)
    bold = f"**{text}**" if entry is not None and entry.best else text
    more = ", ".join(filter(None, (format_interval(entry), format_seeds(entry))))
    return f"{bold} ({more})" if more else bold


def to_latex(board: Leaderboard, facts: FactTable = NO_FACTS) -> str:
    """A booktabs table, and the facts as a second one; the legend is in comments."""
    more = list(RANK_HEADS) if has_ranks(board) else []
    heads = ["model", *(_latex_text(" ".join(heading(c))) for c in board.columns), *more]
    rows = []
    for model in board.models:
        cells = [_latex_entry(board.entries.get((model, column))) for column in board.columns]
        rows.append([latex(model), *cells, *(format_ranks(board, model) if more else [])])
    tables = [_tabular("l" + "r" * (len(heads) - 1), heads, rows)]
    if found := fact_rows(board, facts):
        texts = [[_latex_text(text) for text in row.values()] for row in found]
        tables.append(_tabular("l" * len(found[0]), list(found[0]), texts))
    return "\n".join([*tables, *(f"% {line}" for line in legend(board))])


def _tabular(columns: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" & ".join(row) + r" \\" for row in (heads, *rows)]
    begin = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule"]
    return "\n".join([*begin, *lines[1:], r"\bottomrule", r"\end{tabular}"])


def _latex_text(text: str) -> str:
    return latex(text).replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$")


def _latex_entry(entry: Entry | None) -> str:
    if entry is None:
        return "--"
    spreads = _spreads(entry, r" $\pm$ ")
    text = f"{entry.mean * 100:.1f}{spreads}"
    seeds = f" ({found})" if (found := format_seeds(entry)) else ""
    return (rf"\textbf{{{text}}}" if entry.best else text) + seeds


def records(board: Leaderboard, facts: FactTable = NO_FACTS) -> list[dict[str, object]]:
    """One flat record per model and column; a missing entry has its reason."""
    names = list(next(iter(facts.values()), {}))
    return [
        {
            **_record(board, model, column),
            **dict.fromkeys(names, ""),
            **facts.get((model, column), {}),
        }
        for model in board.models
        for column in board.columns
    ]


def _record(board: Leaderboard, model: str, column: Column) -> dict[str, object]:
    entry, rank = board.entries.get((model, column)), board.ranks.get(model)
    values = dict.fromkeys(_STATISTICS) if entry is None else vars(entry)
    statistics = {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in values.items()
    }
    return {
        "model": model,
        **vars(column),
        "lower_is_better": lower_is_better(column.metric),
        **statistics,
        "reason": board.reasons.get((model, column), None if entry else "not run"),
        "mean_rank": rank and rank.mean,
        "borda": rank and rank.borda,
    }


_STATISTICS = tuple(each.name for each in fields(Entry))


def to_csv(board: Leaderboard, facts: FactTable = NO_FACTS) -> str:
    """CSV, one line per model and column."""
    return csv_text(records(board, facts))


def to_json(board: Leaderboard, facts: FactTable = NO_FACTS) -> str:
    """JSON: the flat records, what bold means, and the notes."""
    found = {"rows": records(board, facts), "bold": board.bold, "notes": board.notes}
    return json.dumps(found, indent=1)


_HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>g2dbench leaderboard</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
body {font: 15px/1.4 system-ui, sans-serif; margin: 1.5em; color-scheme: light dark}
table {border-collapse: collapse; margin-bottom: 1em}
th, td {padding: .3em .7em; text-align: right; border-bottom: 1px solid #8886}
th:first-child, td:first-child {text-align: left}
small {display: block; opacity: .75}
</style></head><body>
"""


def to_html(board: Leaderboard, facts: FactTable = NO_FACTS) -> str:
    """A page without scripts: the table, the facts as a second one, then the legend."""
    more = list(RANK_HEADS) if has_ranks(board) else []
    heads = ["model", *("\n".join(heading(column)) for column in board.columns), *more]
    rows = []
    for model in board.models:
        cells = [_html_entry(board.entries.get((model, column))) for column in board.columns]
        rows.append([_html(model), *cells, *(format_ranks(board, model) if more else [])])
    tables = [_html_table(heads, rows)]
    if found := fact_rows(board, facts):
        texts = [[_html(text) for text in row.values()] for row in found]
        tables.append(_html_table(list(found[0]), texts))
    notes = [f"<p>{_html(line)}</p>" for line in legend(board)]
    return _HTML + "\n".join([*tables, *notes, "</body></html>"])


def _html_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """heads: text; rows: HTML."""
    names = ("<br>".join(map(_html, head.split("\n"))) for head in heads)
    lines = ["".join(f'<th scope="col">{name}</th>' for name in names)]
    lines += ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    return "\n".join(["<table>", *(f"<tr>{line}</tr>" for line in lines), "</table>"])


def _html_entry(entry: Entry | None) -> str:
    text = format_mean(entry)
    bold = f"<b>{text}</b>" if entry is not None and entry.best else text
    more = [text for text in (format_interval(entry), format_seeds(entry)) if text]
    return bold + "".join(f"<small>{text}</small>" for text in more)


def _html(text: str) -> str:
    return escape(one_line(text))


class TextFormat(Protocol):
    """Writes a leaderboard, with facts if there are some."""

    def __call__(self, board: Leaderboard, facts: FactTable = ...) -> str:
        """The text."""


TEXT_FORMATS: Mapping[str, TextFormat] = {
    "md": to_markdown,
    "csv": to_csv,
    "latex": to_latex,
    "json": to_json,
    "html": to_html,
}
