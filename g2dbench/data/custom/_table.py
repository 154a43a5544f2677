"""The table of a generic reader: its file, the roles of its columns, and its rows.

A table is CSV, TSV (each may be gzipped) or Parquet. The column of a role is given by an option
(`image=path`) or found by name: it is the first of the role's ALIASES in the table, regardless of
case, blanks and punctuation. An unknown split name or a missing file is reported for each row.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from g2dbench.data.custom._splits import SPLIT_NAMES, UserSplits
from g2dbench.data.tables.columns import MISSING, find_column
from g2dbench.data.tables.csv import Cells, check_header, unpacked
from g2dbench.data.tables.demographics import parse_years
from g2dbench.data.tables.files import is_present
from g2dbench.data.tables.paths import is_absolute, portable
from g2dbench.errors import BadData, Misuse
from g2dbench.sample import Record
from g2dbench.system.parquet_files import read_frame

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
    """A table: its file, its cells as stripped text, and the column of each role in ALIASES."""

    path: Path
    cells: pd.DataFrame
    columns: Mapping[str, str]

    @cached_property
    def _splits(self) -> UserSplits:
        column = self.columns.get("split")
        return UserSplits([] if column is None else self.cells[column].unique())

    @property
    def first_line(self) -> int:
        """The `line` of the first row: 2, after the header, or 1 in Parquet, which has none."""
        return 1 if self.path.suffix == ".parquet" else 2

    def rows(self) -> Iterator[Cells]:
        """Yield rows as text by column, with their `line` in the file (row number in Parquet)."""
        for place, row in enumerate(self.cells.to_dict("records")):
            yield {**row, "line": place + self.first_line}

    def where(self, row: Cells) -> str:
        """Return the location of a row in the file, for errors."""
        unit = "row" if self.path.suffix == ".parquet" else "line"
        return f"{unit} {row['line']} of {self.path.name}"

    def describe(self) -> str:
        """Describe which column is used for which role, for the summary."""
        return ", ".join(f"{role}={column}" for role, column in self.columns.items())

    def unused(self, others: Iterable[str] = ()) -> list[str]:
        """Return the columns that have no role and are not among `others`."""
        used = {*self.columns.values(), *others}
        return [name for name in self.cells.columns if name not in used]

    def get(self, row: Cells, role: str) -> str | None:
        """Return a row's text in one role; None if the column or the text is missing."""
        column = self.columns.get(role)
        return (row[column] or None) if column is not None else None

    def record(self, row: Cells, path: Path) -> Record:
        """Return the record of a row without labels, boxes and masks; BadData names a bad cell.

        The id is the cell of the image, with `/` instead of the backslash of Windows. Without a
        patient, the image counts as a patient of its own. An age that is not a number of years,
        such as "50+", is dropped.
        """
        name = portable(self.get(row, "image") or "")
        split, patient = self.get(row, "split"), self.get(row, "patient") or name
        if split is not None and split.lower() not in SPLIT_NAMES:
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
    """Open the table of a root: the one that option `table` names, or the only one in the root.

    needed: the roles whose column must be found. Misuse if an option is needed or names an unknown
    column; BadData if the root or the table cannot be read.
    """
    path = _find(root, options)
    cells = _read(path)
    columns = _match_columns(path, list(cells.columns), options)
    for role in needed:
        if role not in columns:
            raise Misuse(
                f"{path} has no column that is known to hold the {role}; it has "
                f"{', '.join(cells.columns)}: say --option {role}=COLUMN"
            )
    return Table(path, cells, columns)


def tables_in(root: Path) -> list[Path]:
    """Return the files directly in a root that have the suffix of a table."""
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
            raw = read_frame(path)
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
    stripped = {name: _strip_cells(table[name]) for name in table.columns}
    return pd.DataFrame(stripped).reset_index(drop=True)


def _strip_cells(cells: "pd.Series[str]") -> "pd.Series[str]":
    """Strip the cells; those that hold one of MISSING become empty."""
    texts = cells.fillna("").str.strip()
    return texts.where(~texts.str.lower().isin(MISSING), "")


def _text(value: Any) -> str:
    """Return a Parquet cell as the text of a CSV: integral numbers without `.0`."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(int(value)) if isinstance(value, bool) else str(value)


def _match_columns(path: Path, names: list[str], options: Mapping[str, str]) -> dict[str, str]:
    """Return the column of each role, from an option or found by name; Misuse if unknown."""
    columns = {}
    for role, aliases in ALIASES.items():
        if role in options:
            if options[role] not in names:
                raise Misuse(f"--option {role}={options[role]}: {path} has only {', '.join(names)}")
            columns[role] = options[role]
        elif (name := find_column(names, aliases)) is not None:
            columns[role] = name
    return columns
