"""Strangers' text in output: labels, file names and reasons never act as markup or formulas."""

import csv
import html
import io
import re
from collections.abc import Mapping, Sequence

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    **{letter: "\\" + letter for letter in "&%$#_{}"},
}  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def one_line(text: str) -> str:
    """The text without line breaks, escape sequences, and marks that turn its direction."""
    return _CONTROL.sub(" ", text)


def latex(text: str) -> str:
    """The text with LaTeX's special characters escaped."""
    return "".join(_LATEX.get(letter, letter) for letter in one_line(text))


def markdown(text: str) -> str:
    """The text for a cell of a Markdown table: no column, link, emphasis or HTML begins in it."""
    return re.sub(r"([\\|`*_\[\]])", r"\\\1", html.escape(one_line(text), quote=False))


def markdown_row(cells: Sequence[str]) -> str:
    """A row of a Markdown table; the cells are Markdown already but for the column mark."""
    return "| " + " | ".join(re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in cells) + " |"


def csv_value(value: object) -> object:
    """Text that a spreadsheet would take for a formula gets an apostrophe in front."""
    if not isinstance(value, str):
        return value
    text = one_line(value)
    return f"'{text}" if value.startswith(_FORMULA) or text.startswith(_FORMULA) else text


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """CSV with a header; columns are the keys of the first row."""
    out = io.StringIO()
    names = list(rows[0]) if rows else []
    writer = csv.DictWriter(out, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_value(value) for name, value in row.items()} for row in rows)
    return out.getvalue().rstrip("\n")
