"""The training log of a run: one CSV row per optimizer step."""

import csv
from collections.abc import Mapping
from pathlib import Path

from g2dbench.system.files import replace_file

Row = dict[str, float]


class Log:
    """log.csv: a row per epoch; columns may join in later epochs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[Row] = []

    def restore(self, rows: list[Row]) -> None:
        """Take up the rows that a checkpoint holds, whatever became of the file since."""
        self.rows = [dict(row) for row in rows]

    def add(self, row: Mapping[str, float]) -> None:
        """Append a row, as plain numbers that a checkpoint can hold, and write the file anew."""
        plain = {k: v if isinstance(v, int) else float(v) for k, v in row.items()}
        self.rows.append(plain)
        replace_file(self._path, self._write)

    def _write(self, path: Path) -> None:
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(self.rows)
