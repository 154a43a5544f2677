"""Formats of a comparison of two models: terminal, Markdown, CSV, JSON."""

import json
import math
from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from g2dbench.reporting.line_breaks import BrokenText
from g2dbench.reporting.markup import csv_text, markdown, markdown_row, one_line
from g2dbench.reporting.model_comparison import ComparedCell, ModelComparison, setting_of
from g2dbench.system.counts import counted


def records(found: ModelComparison) -> list[dict[str, object]]:
    """One flat record per cell; None for numbers that are not defined."""
    return [_record(found, each) for each in found.cells]


def _record(found: ModelComparison, each: ComparedCell) -> dict[str, object]:
    difference = each.difference
    numbers = {
        "first_value": each.first,
        "second_value": each.second,
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "standard_error": difference.error,
        "p": difference.p_value,
        "p_holm": each.p_holm,
        "p_fdr": each.p_fdr,
        "effect_size": difference.effect_size,
        "detectable": difference.detectable,
        "p_equivalence": each.p_equivalence,
        "undefined_resamples": difference.undefined,
    }
    return {
        "first": found.first,
        "second": found.second,
        **each.cell.model_dump(exclude={"model", "model_seed", "seed", "subset_seed"}),
        "metric": each.metric,
        **{name: value if math.isfinite(value) else None for name, value in numbers.items()},
        "test": difference.test,
        "pairs": each.pairs,
        "unpaired": each.unpaired,
        "patients": difference.patients,
        "verdict": each.verdict,
    }


def to_table(found: ModelComparison) -> Table:
    """A rich table for 80 columns."""
    table = Table(padding=(0, 1, 0, 0), pad_edge=False, box=None, header_style="bold")
    table.add_column("cell", ratio=1)
    for heading in _headings(found):
        table.add_column(heading, justify="right", no_wrap=True)
    style = {"better": "green", "worse": "red", "equivalent": "cyan", "open": ""}
    for each in found.cells:
        label = BrokenText(one_line(f"{setting_of(each.cell)} {each.metric}"))
        numbers = [Text(text, style=style[each.verdict]) for text in _numbers(found, each, "\n")]
        table.add_row(label, *numbers)
    return table


def _headings(found: ModelComparison) -> list[str]:
    last = [] if found.margin is None else ["TOST"]
    return ["A", "B", "A-B", "p", "Holm", "FDR", "d", "MDD", *last]


def _numbers(found: ModelComparison, each: ComparedCell, between: str) -> list[str]:
    difference = each.difference
    interval = f"{difference.low * 100:+.1f}…{difference.high * 100:+.1f}"
    last = [] if found.margin is None else [_p(each.p_equivalence)]
    return [
        f"{each.first * 100:.1f}",
        f"{each.second * 100:.1f}",
        f"{difference.value * 100:+.1f}{between}{interval}",
        _p(difference.p_value),
        _p(each.p_holm),
        _p(each.p_fdr),
        f"{difference.effect_size:.2f}",
        f"{difference.detectable * 100:.1f}",
        *last,
    ]


def _p(value: float) -> str:
    if math.isnan(value):
        return "-"
    return "<.001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def legend(found: ModelComparison) -> list[str]:
    """What the numbers mean, what each cell shows, and what is left out."""
    lines = [
        f"A: {found.first}. B: {found.second}. Per cent; below A-B its 95 % confidence interval.",
        "p: paired over patients, and over seeds where there are several. Holm, FDR: p corrected "
        "for the number of cells. d: A-B in standard deviations between patients. MDD: the "
        "smallest difference that this test set finds with a power of 80 %.",
    ]
    if found.margin is not None:
        lines.append(
            f"TOST: p of the equivalence test; below .05, A and B differ by less than "
            f"{found.margin * 100:g}."
        )
    counts = {name: sum(each.verdict == name for each in found.cells) for name in _VERDICTS}
    lines.append(", ".join(f"{_VERDICTS[name]}: {n}" for name, n in counts.items() if n) + " of "
                 f"{counted(len(found.cells), 'cell')} (Holm, 5 %).")  # fmt: skip
    for each in found.cells:
        if each.unpaired:
            name = setting_of(each.cell)
            lines.append(f"{name}: {counted(each.unpaired, 'run')} without a partner left out.")
        if each.difference.undefined > 0:
            share = f"{each.difference.undefined * 100:.1f} %"
            lines.append(f"{setting_of(each.cell)}: {share} of the resamples have no value.")
    lines += [f"not compared: {name}: {reason}" for name, reason in found.refused]
    return [one_line(line) for line in lines]


_VERDICTS = {
    "better": "A is better",
    "worse": "B is better",
    "equivalent": "equivalent",
    "open": "no difference shown",
}


def show(found: ModelComparison, console: Console) -> None:
    """Print the table and its legend."""
    console.print(to_table(found))
    for line in legend(found):
        console.print(Text(line, style="dim"))


def to_markdown(found: ModelComparison) -> str:
    """A Markdown table, then the legend."""
    heads = ["cell", "metric", *_headings(found), "pairs", "patients"]
    lines = [markdown_row(heads), markdown_row(["---"] * 2 + ["---:"] * (len(heads) - 2))]
    for each in found.cells:
        counts = [str(each.pairs), str(each.difference.patients)]
        numbers = _numbers(found, each, " ")
        names = [markdown(setting_of(each.cell)), markdown(each.metric)]
        lines.append(markdown_row([*names, *numbers, *counts]))
    return "\n".join([*lines, "", *(markdown(line) for line in legend(found))])


def to_csv(found: ModelComparison) -> str:
    """CSV, one line per cell."""
    return csv_text(records(found))


def to_json(found: ModelComparison) -> str:
    """JSON: the flat records and the cells that are not compared."""
    refused = [{"cell": name, "reason": reason} for name, reason in found.refused]
    return json.dumps({"rows": records(found), "refused": refused}, indent=1)


TEXT_FORMATS: dict[str, Callable[[ModelComparison], str]] = {
    "md": to_markdown,
    "csv": to_csv,
    "json": to_json,
}
