"""Formats of a variance table: terminal, Markdown, CSV, JSON."""

import json
import math
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from g2dbench.reporting.leaderboard.formats import heading
from g2dbench.reporting.markup import csv_text, markdown, markdown_row, one_line
from g2dbench.reporting.variance.sources import ScoreVariance, Source

LEGEND = (
    "SD: the standard deviation that a source alone gives to the score of one run, in points; "
    "share: its part of the variance. Test sampling is from the runs' 95 % intervals over "
    "patients, which contain a part of the rest."
)


def records(found: Sequence[ScoreVariance]) -> list[dict[str, object]]:
    """One flat record per source."""
    return [
        {
            "model": each.model, **vars(each.column), "metric": each.metric, "runs": each.runs,
            "mean": each.mean, "source": source.name, "seeds": source.levels or None,
            "variance": source.variance, "sd": source.deviation,
            "share": None if math.isnan(share := each.share(source)) else share,
            "notes": "; ".join(each.notes),
        }
        for each in found
        for source in each.sources
    ]  # fmt: skip


def _texts(each: ScoreVariance, source: Source) -> list[str]:
    share = each.share(source)
    return [
        source.name,
        str(source.levels or ""),
        f"{source.deviation * 100:.2f}",
        "-" if math.isnan(share) else f"{share:.0%}",
    ]


def _title(each: ScoreVariance) -> str:
    place = " ".join([*heading(each.column)[:-1], each.metric])
    runs = f"{each.runs} run" if each.runs == 1 else f"{each.runs} runs"
    return f"{each.model}, {place}: {each.mean * 100:.1f}, {runs}"


_HEADS = ("source", "seeds", "SD", "share")


def show(found: Sequence[ScoreVariance], console: Console) -> None:
    """Print one table for each model and column, then what the numbers mean."""
    for each in found:
        table = Table(padding=(0, 1, 0, 0))
        table.add_column(_HEADS[0])
        for name in _HEADS[1:]:
            table.add_column(name, justify="right", no_wrap=True)
        for source in each.sources:
            table.add_row(*_texts(each, source))
        console.print(Text(one_line(_title(each)), style="bold"))
        console.print(table)
        for note in each.notes:
            console.print(Text(one_line(note), style="dim"))
    console.print(Text(LEGEND, style="dim"))


def to_markdown(found: Sequence[ScoreVariance]) -> str:
    """One Markdown table, the notes, and what the numbers mean."""
    lines = [markdown_row(["cell", *_HEADS]), markdown_row(["---"] * 2 + ["---:"] * 3)]
    for each in found:
        for source in each.sources:
            lines.append(markdown_row([markdown(_title(each)), *_texts(each, source)]))
    notes = [f"- {markdown(f'{_title(each)}: {note}')}" for each in found for note in each.notes]
    return "\n".join([*lines, "", *notes, "", LEGEND])


def to_csv(found: Sequence[ScoreVariance]) -> str:
    """CSV, one line per source."""
    return csv_text(records(found))


def to_json(found: Sequence[ScoreVariance]) -> str:
    """JSON: the flat records."""
    return json.dumps({"rows": records(found)}, indent=1)


TEXT_FORMATS: dict[str, Callable[[Sequence[ScoreVariance]], str]] = {
    "md": to_markdown,
    "csv": to_csv,
    "json": to_json,
}
