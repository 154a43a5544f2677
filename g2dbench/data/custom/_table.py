"""The table of a generic reader: which file it is, which columns say what, and its rows.

A table is CSV, TSV (either may be gzipped) or Parquet. A column is named by option (`image=path`)
or known by its own name: the first of ALIASES that the table has, whatever its case, blanks and
punctuation. An unknown split name or a path that leads nowhere is told row by row.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from g2dbench.data.custom._splits import NAMES, OwnSplits
from g2dbench.data.tables.columns import MISSING, find_column
from g2dbench.data.tables.csv import Cells, check_header, unpacked
from g2dbench.data.tables.demographics import parse_years
from g2dbench.data.tables.files import is_present
from g2dbench.data.tables.paths import is_absolute, portable
from g2dbench.errors import BadData, Misuse
from g2dbench.sample import Record

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")

ALIASES: dict[str, tuple[str, ...]] = {
    "image": (
        "image", "path", "image_path", "filepath", "file_path", "filename", "file_name", "file",
        "image_name", "image_file", "img", "img_path", "image_id", "image_index",
    ),
    "text": ("text", "report", "caption", "report_text", "findings", "impression"),
    "patient": ("patient", "patient_id", "subject_id", "subject"),
    "study": ("study", "study_id"),
    "view": ("view", "view_position", "projection"),
    "sex": ("sex", "gender", "patient_sex", "patient_gender"),
    "age": ("age", "patient_age"),
    "split": ("split", "subset", "partition"),
}  # fmt: skip

COLUMNS = tuple(ALIASES)

ABSOLUTE_PATH = "its path begins at a drive or at /, so that its end was looked for in the folder"


@dataclass(frozen=True)
class Table:
    """A table's cells as stripped text, its file, and the columns that say what ALIASES name."""

    path: Path
    cells: pd.DataFrame
    columns: Mapping[str, str]

    @cached_property
    def _splits(self) -> OwnSplits:
        column = self.columns.get("split")
        return OwnSplits([] if column is None else self.cells[column].unique())

    @property
    def first_line(self) -> int:
        """The `line` of the first row: behind the header, or 1 in Parquet, which has none."""
        return 1 if self.path.suffix == ".parquet" else 2

    def rows(self) -> Iterator[Cells]:
        """Rows as text by column, with their `line` in the file (the row's number in Parquet)."""
        for place, row in enumerate(self.cells.to_dict("records")):
            yield {**row, "line": place + self.first_line}

    def where(self, row: Cells) -> str:
        """The place of a row, for errors."""
        unit = "row" if self.path.suffix == ".parquet" else "line"
        return f"{unit} {row['line']} of {self.path.name}"

    def told(self) -> str:
        """Which columns are used for what, for people."""
        return ", ".join(f"{what}={column}" for what, column in self.columns.items())

    def unused(self, others: Iterable[str] = ()) -> list[str]:
        """The columns that say none of ALIASES and are not among the others."""
        used = {*self.columns.values(), *others}
        return [name for name in self.cells.columns if name not in used]

    def get(self, row: Cells, what: str) -> str | None:
        """A row's text of one of ALIASES; None where the column or the text is missing."""
        column = self.columns.get(what)
        return (row[column] or None) if column is not None else None

    def record(self, row: Cells, path: Path) -> Record:
        """What the row says of its image, its annotation apart; BadData names a broken cell.

        The id is the image's cell, with `/` where Windows writes a backslash; without a patient
        the image is a patient of its own. An age that is no number of years, such as "50+", is not
        kept.
        """
        name = portable(self.get(row, "image") or "")
        split, patient = self.get(row, "split"), self.get(row, "patient") or name
        if split is not None and split.lower() not in NAMES:
            raise BadData(f"{self.where(row)}: the split {split!r} is none of train, valid, test")
        return Record(
            id=name,
            path=path,
            patient=patient,
            study=self.get(row, "study"),
            view=self.get(row, "view"),
            sex=self.get(row, "sex"),
            age=parse_years(self.get(row, "age")),
            notes=(ABSOLUTE_PATH,) if is_absolute(name) and not is_present(Path(name)) else (),
            split=self._splits.of(split, patient),
            report=self.get(row, "text"),
        )


def open_table(root: Path, options: Mapping[str, str], needed: Sequence[str]) -> Table:
    """The table of a root: the one that option `table` names, or the only one there.

    needed: which of ALIASES must be found. Misuse if an option is needed or names no column;
    BadData if the root or the table cannot be read.
    """
    path = _find(root, options)
    cells = _read(path)
    columns = _match(path, list(cells.columns), options)
    for what in needed:
        if what not in columns:
            raise Misuse(
                f"{path} has no column that is known to hold the {what}; it has "
                f"{', '.join(cells.columns)}: say --option {what}=COLUMN"
            )
    return Table(path, cells, columns)


def tables_in(root: Path) -> list[Path]:
    """The files directly in a root that can be tables."""
    return sorted(path for path in root.iterdir() if path.name.lower().endswith(SUFFIXES))


def _find(root: Path, options: Mapping[str, str]) -> Path:
    if "table" in options:
        return root / options["table"]
    found = tables_in(root)
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise Misuse(
            f"{root} should hold one table ({', '.join(SUFFIXES)}) and holds {names}: "
            "say --option table=FILE"
        )
    return found[0]


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise BadData(f"there is no table {path}")
    try:
        if path.suffix == ".parquet":
            raw = pd.read_parquet(path)
            table = raw.astype(object).where(raw.notna(), "").map(_text)
        else:
            separator = "\t" if ".tsv" in path.suffixes else ","
            check_header(path)
            with unpacked(path) as file:
                table = pd.read_csv(
                    file, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig"
                )
    except BadData:
        raise
    except (OSError, EOFError, UnicodeDecodeError, ValueError, zlib.error) as error:
        raise BadData(f"the table {path} cannot be read: {error}") from error
    if path.suffix != ".parquet" and not isinstance(table.index, pd.RangeIndex):
        raise BadData(f"{path}: its rows have more cells than its header: {list(table.columns)}")
    table.columns = [str(name).strip() for name in table.columns]
    stripped = {name: _stripped(table[name]) for name in table.columns}
    return pd.DataFrame(stripped).reset_index(drop=True)


def _stripped(cells: "pd.Series[str]") -> "pd.Series[str]":
    """Cells without blanks around them, empty where a word says that they are."""
    texts = cells.fillna("").str.strip()
    return texts.where(~texts.str.lower().isin(MISSING), "")


def _text(value: Any) -> str:
    """A Parquet cell as a CSV would hold it: whole numbers without `.0`."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(int(value)) if isinstance(value, bool) else str(value)


def _match(path: Path, names: list[str], options: Mapping[str, str]) -> dict[str, str]:
    """What of ALIASES each column says: as told by option, or by the column's own name."""
    columns = {}
    for what, aliases in ALIASES.items():
        if what in options:
            if options[what] not in names:
                raise Misuse(f"--option {what}={options[what]}: {path} has only {', '.join(names)}")
            columns[what] = options[what]
        elif (name := find_column(names, aliases)) is not None:
            columns[what] = name
    return columns
