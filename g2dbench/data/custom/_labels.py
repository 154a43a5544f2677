"""Labels in a user's table: one column of class names, or one column per finding.

A cell of a class column contains one or several names, joined by `|`; all other classes of the
column are absent in this image. A cell of a finding column contains 1, 0, -1 (uncertain), true,
false, yes, no, or nothing (not labeled, see `tables.labels`). Without the option `findings`, all
columns that contain only such cells are used. `notes` says which columns are not used, and why.
"""

from collections.abc import Iterator, Mapping

from g2dbench.data.custom._table import Table
from g2dbench.data.tables.columns import is_missing, shortened
from g2dbench.data.tables.csv import Cells
from g2dbench.data.tables.labels import is_unlabeled, parse_label
from g2dbench.data.tables.records import Note
from g2dbench.errors import BadData, Misuse

CLASS_NAMES = ("class", "label", "labels", "finding", "diagnosis", "category")
OPTIONS = ("class", "findings")


class TableLabels:
    """Reads the labels of a table's rows; Misuse if an option names an unknown column."""

    def __init__(self, table: Table, options: Mapping[str, str]) -> None:
        self._table = table
        self._chosen = any(name in options for name in OPTIONS)
        self._class = _class_column(table, options)
        self.findings: tuple[str, ...] = ()
        if self._class is not None:
            cells = {name for cell in table.cells[self._class] for name in _names(cell)}
            self.findings = tuple(sorted(cells))
        else:
            self.findings = _finding_columns(table, options)

    def of(self, row: Cells) -> dict[str, int] | None:
        """Return the labels of a row; None if it is not labeled. BadData names a malformed cell."""
        if self._class is not None:
            present = _names(row[self._class])
            return (
                {finding: int(finding in present) for finding in self.findings} if present else None
            )
        labels = {}
        for finding in self.findings:
            cell = row[finding]
            if is_unlabeled(cell):
                continue
            value = parse_label(cell)
            if value is None:
                where = self._table.where(row)
                raise BadData(f"{where}: the label of {finding!r} is {cell!r}, not 1, 0 or -1")
            labels[finding] = value
        return labels or None

    def notes(self) -> Iterator[Note]:
        """Yield notes on unused columns; none if an option names the labels."""
        if self._chosen:
            return
        others = self._table.unused([*self.findings, *([self._class] if self._class else [])])
        labels = [name for name in others if _is_finding(self._table, name)]
        if labels:
            yield Note(
                f"the labels in {shortened(labels)} are not used, for the column {self._class!r} "
                f"names the classes: to use them, say --option findings={','.join(labels)}"
            )
        rest = [_reason(self._table, name) for name in others if name not in labels]
        if rest:
            yield Note(f"columns of {self._table.path.name} that are not used: {shortened(rest)}")


def _names(cell: str) -> list[str]:
    return [name.strip() for name in cell.split("|") if not is_missing(name)]


def _class_column(table: Table, options: Mapping[str, str]) -> str | None:
    if "class" in options:
        if options["class"] not in table.cells.columns:
            raise Misuse(f"--option class={options['class']}: {table.path} has no such column")
        return options["class"]
    if "findings" in options:
        return None
    used = set(table.columns.values())
    found = [name for name in table.cells.columns if name.lower() in CLASS_NAMES]
    # A column `label` of 1 and 0 is the column of a finding, not one of class names.
    named = [name for name in found if name not in used and not _is_finding(table, name)]
    return named[0] if named else None


def _finding_columns(table: Table, options: Mapping[str, str]) -> tuple[str, ...]:
    if "findings" in options:
        wanted = tuple(name.strip() for name in options["findings"].split(","))
        missing = [name for name in wanted if name not in table.cells.columns]
        if missing:
            raise Misuse(f"--option findings: {table.path} has no columns {', '.join(missing)}")
        return wanted
    return tuple(name for name in table.unused() if _is_finding(table, name))


def _is_finding(table: Table, column: str) -> bool:
    """Whether a column contains only labels and empty cells, and at least one label."""
    cells = [cell for cell in table.cells[column].unique() if not is_unlabeled(cell)]
    return bool(cells) and all(parse_label(cell) is not None for cell in cells)


def _reason(table: Table, column: str) -> str:
    """Return a column's name and its first cell that is not a label, as the reason."""
    for row, cell in enumerate(table.cells[column]):
        if not is_unlabeled(cell) and parse_label(cell) is None:
            where = table.where({"line": row + table.first_line})
            return f"{column} ({cell[:40]!r} in {where} is no label)"
    return f"{column} (all its cells are empty)"
