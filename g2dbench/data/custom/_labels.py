"""Labels in a table of one's own: a column of class names, or one column per finding.

A class column holds names, several joined by `|`; every other class of the column is then absent.
A finding's column holds 1, 0, -1 (uncertain) or nothing (not judged); without option `findings`
all columns are taken that hold nothing else.
"""

from collections.abc import Mapping

from g2dbench.data.custom._table import Table
from g2dbench.data.tables.csv import Cells
from g2dbench.errors import BadData, Misuse

CLASS_NAMES = ("class", "label", "labels", "finding", "diagnosis", "category")
VALUES = {"1": 1, "0": 0, "-1": -1, "1.0": 1, "0.0": 0, "-1.0": -1}
OPTIONS = ("class", "findings")


class OwnLabels:
    """How a table's rows become labels; Misuse if an option names no column."""

    def __init__(self, table: Table, options: Mapping[str, str]) -> None:
        self._table = table
        self._class = _class_column(table, options)
        self.findings: tuple[str, ...] = ()
        if self._class is not None:
            cells = {name for cell in table.cells[self._class] for name in _names(cell)}
            self.findings = tuple(sorted(cells))
        else:
            self.findings = _finding_columns(table, options)

    def of(self, row: Cells) -> dict[str, int] | None:
        """The labels of a row; None where nobody judged it. BadData names a broken cell."""
        if self._class is not None:
            seen = _names(row[self._class])
            return {finding: int(finding in seen) for finding in self.findings} if seen else None
        labels = {}
        for finding in self.findings:
            cell = row[finding]
            if cell and cell not in VALUES:
                where = self._table.where(row)
                raise BadData(f"{where}: the label of {finding!r} is {cell!r}, not 1, 0 or -1")
            if cell:
                labels[finding] = VALUES[cell]
        return labels or None


def _names(cell: str) -> list[str]:
    return [name.strip() for name in cell.split("|") if name.strip()]


def _class_column(table: Table, options: Mapping[str, str]) -> str | None:
    if "class" in options:
        if options["class"] not in table.cells.columns:
            raise Misuse(f"--option class={options['class']}: {table.path} has no such column")
        return options["class"]
    if "findings" in options:
        return None
    used = set(table.columns.values())
    found = [name for name in table.cells.columns if name.lower() in CLASS_NAMES]
    # A column of 1 and 0 that is called `label` is a finding's, not a column of names.
    named = [name for name in found if name not in used and not _is_finding(table, name)]
    return named[0] if named else None


def _finding_columns(table: Table, options: Mapping[str, str]) -> tuple[str, ...]:
    if "findings" in options:
        wanted = tuple(name.strip() for name in options["findings"].split(","))
        lacking = [name for name in wanted if name not in table.cells.columns]
        if lacking:
            raise Misuse(f"--option findings: {table.path} has no columns {', '.join(lacking)}")
        return wanted
    used = set(table.columns.values())
    return tuple(n for n in table.cells.columns if n not in used and _is_finding(table, n))


def _is_finding(table: Table, column: str) -> bool:
    cells = set(table.cells[column]) - {""}
    return bool(cells) and cells <= VALUES.keys()
