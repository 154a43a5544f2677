"""The CSV logs of a run: log.csv, one row per epoch, and steps.csv, one row per monitored step."""

import csv
from collections.abc import Mapping
from pathlib import Path

from g2dbench.system.files import replace_file

Row = dict[str, float]


class Log:
    """A CSV file that grows row by row; later rows may add columns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[Row] = []

    def restore(self, rows: list[Row]) -> None:
        """Set the rows to those of a checkpoint; the file is not read."""
        self.rows = [dict(row) for row in rows]

    def add(self, row: Mapping[str, float]) -> None:
        """Append a row, as plain numbers that a checkpoint can hold, and rewrite the file."""
        plain = {k: v if isinstance(v, int) else float(v) for k, v in row.items()}
        self.rows.append(plain)
        replace_file(self._path, self._write)

    def _write(self, path: Path) -> None:
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(self.rows)
