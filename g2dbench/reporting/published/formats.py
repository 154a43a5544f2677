"""Formats of published scores beside results: terminal, Markdown, CSV, JSON."""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from g2dbench.reporting.markup import csv_text, markdown, markdown_row, one_line
from g2dbench.reporting.published.comparison import Beside, Measured, is_inside
from g2dbench.reporting.published.scores import PublishedScore

LEGEND = (
    "Published by the G2D paper (arXiv 2312.01522), in per cent. Below a method, indented: "
    "measured here, difference, and = if the published value lies in our 95 % confidence interval, "
    "else #; * marks other settings than the paper's."
)

Line = tuple[str, list[str]]
"""A method, or a model of ours, and one text for each fraction."""


def blocks(beside: Sequence[Beside]) -> Iterator[tuple[str, list[str], list[Line]]]:
    """(title, headings, lines) of each table, data set and metric."""
    grouped: dict[tuple[str, str, str, str], list[Beside]] = defaultdict(list)
    for each in beside:
        grouped[each.published.block].append(each)
    for (table, task, dataset, metric), group in grouped.items():
        fractions = sorted({each.published.fraction for each in group})
        shares = ["zero-shot" if f == 0 else f"{f * 100:g}%" for f in fractions]
        yield f"Table {table}: {task}, {dataset}, {metric}", shares, _lines(group, fractions)


def _lines(group: Sequence[Beside], fractions: Sequence[float]) -> list[Line]:
    lines: list[Line] = []
    for method in dict.fromkeys(each.published.method for each in group):
        cells = {each.published.fraction: each for each in group if each.published.method == method}
        published = [_published(cells[f].published) if f in cells else "" for f in fractions]
        lines.append((method, published))
        ours: dict[str, list[str]] = {}
        for place, fraction in enumerate(fractions):
            for found in cells[fraction].measured if fraction in cells else ():
                texts = ours.setdefault(found.model, [""] * len(fractions))
                text = _measured(cells[fraction].published, found)
                texts[place] = f"{texts[place]}\n{text}".strip()
        lines += [(f"  {model}", texts) for model, texts in ours.items()]
    return lines


def _published(score: PublishedScore) -> str:
    if math.isnan(score.value):
        return score.note or "-"
    return f"{score.value:.1f}" + ("" if math.isnan(score.std) else f"±{score.std:.1f}")


def _measured(score: PublishedScore, found: Measured) -> str:
    inside = is_inside(score, found)
    sign = "" if inside is None else (" =" if inside else " #")
    difference = "" if math.isnan(score.value) else f" {found.value - score.value:+.1f}"
    return f"{found.value:.1f}{difference}{sign}{'*' if found.notes else ''}"


def notes(beside: Sequence[Beside]) -> list[str]:
    """The legend, the counts, and how settings of ours differ from the paper's."""
    measured = [(each, found) for each in beside for found in each.measured]
    inside = [is_inside(each.published, found) for each, found in measured]
    lines = [
        LEGEND,
        f"{len(beside)} published scores, {sum(bool(each.measured) for each in beside)} measured "
        f"here; {inside.count(True)} of {len(inside) - inside.count(None)} published values lie in "
        "our intervals.",
    ]
    differing = dict.fromkeys(
        f"* {each.published.task}, {found.model}: {note}"
        for each, found in measured
        for note in found.notes
    )
    return [one_line(line) for line in (*lines, *differing)]


def show(beside: Sequence[Beside], console: Console) -> None:
    """Print each table, then the notes."""
    for title, heads, lines in blocks(beside):
        console.print(Text(title, style="bold"))  # a table's own title wraps at its width
        table = Table(padding=(0, 1, 0, 0))
        table.add_column("method", overflow="fold")
        for head in heads:
            table.add_column(head, justify="right", no_wrap=True)
        for name, texts in lines:
            style = "cyan" if name.startswith(" ") else ""
            table.add_row(Text(one_line(name), style=style), *(Text(t, style) for t in texts))
        console.print(table)
    for line in notes(beside):
        console.print(Text(line, style="dim"))


def to_markdown(beside: Sequence[Beside]) -> str:
    """A Markdown table for each table of the paper, data set and metric, then the notes."""
    found: list[str] = []
    for title, heads, lines in blocks(beside):
        found += [f"### {markdown(title)}", "", markdown_row(["method", *heads])]
        found.append(markdown_row(["---", *["---:"] * len(heads)]))
        for name, texts in lines:
            first = f"*{markdown(name.strip())}*" if name.startswith(" ") else markdown(name)
            found.append(markdown_row([first, *(markdown(t).replace("\n", " ") for t in texts)]))
        found.append("")
    return "\n".join([*found, *(markdown(line) for line in notes(beside))])


def records(beside: Sequence[Beside]) -> list[dict[str, object]]:
    """One flat record per published score and model of ours; without one, ours are None."""
    return [
        _record(each.published, found) for each in beside for found in (each.measured or (None,))
    ]


def _record(score: PublishedScore, found: Measured | None) -> dict[str, object]:
    record = {
        **vars(score),
        "model": found and found.model,
        "measured": found and found.value,
        "low": found and found.low,
        "high": found and found.high,
        "seeds": found and found.seeds,
        "inside": found and is_inside(score, found),
        "differs": found and "; ".join(found.notes),
    }
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in record.items()
    }


def to_csv(beside: Sequence[Beside]) -> str:
    """CSV of the records."""
    return csv_text(records(beside))


def to_json(beside: Sequence[Beside]) -> str:
    """JSON: the records and the notes."""
    return json.dumps({"rows": records(beside), "notes": notes(beside)}, indent=1)


TEXT_FORMATS: dict[str, Callable[[Sequence[Beside]], str]] = {
    "md": to_markdown,
    "csv": to_csv,
    "json": to_json,
}
