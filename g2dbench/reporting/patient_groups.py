"""The group of each image of a cell: from its prepared data set, or from the user's table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from g2dbench.data.prepared_stores import stores_in
from g2dbench.data.store.shrink import shrunk_fingerprint
from g2dbench.data.store.store import Store
from g2dbench.errors import BadData, Misuse
from g2dbench.reporting.fairness import age_bands
from g2dbench.reporting.stored_cells import StoredCell
from g2dbench.system.parquet_files import read_frame

STORED = ("sex", "age", "view")
"""What prepared data sets know of an image or its patient."""

MIN_SIZE = 32  # the smallest --size


@dataclass(frozen=True)
class GroupSource:
    """by: a column. store: folder of prepared data sets. file: the user's own table instead."""

    by: str
    store: Path
    file: Path | None
    bands: Sequence[int]

    def groups_of(self, cell: StoredCell) -> dict[str, str | None]:
        """Image id -> group, None where it is not known; ages become bands.

        Misuse: the column is not there. BadData: the data set is not prepared here, or the table
        cannot be read.
        """
        if self.file is not None:
            values = self._from_file(self.file, cell.predictions)
        else:
            if self.by not in STORED:
                raise Misuse(
                    f"prepared data have no {self.by!r}, but {', '.join(STORED)}: give a table "
                    f"with the columns id (or patient) and {self.by}: --groups FILE"
                )
            table = find_data(cell, self.store).table
            values = dict(zip(table["id"], table[self.by], strict=True))
        if self.by == "age":
            years = pd.to_numeric(pd.Series(list(values.values()), dtype=object), errors="coerce")
            names = age_bands(years.to_numpy(np.float64), self.bands)
            return dict(zip(values, names, strict=True))
        return {image: _text(value) or None for image, value in values.items()}

    def _from_file(self, file: Path, predictions: pd.DataFrame) -> Mapping[str, object]:
        table = _read(file)
        keys = [name for name in ("id", "patient") if name in table.columns]
        if not keys or self.by not in table.columns:
            raise Misuse(
                f"{file} needs a column id or patient, and {self.by}; it has: "
                f"{', '.join(map(str, table.columns))}"
            )
        rows = table.drop_duplicates([keys[0], self.by])
        twice = rows[keys[0]].duplicated()
        if twice.any():
            name = rows[keys[0]][twice].iloc[0]
            raise BadData(f"{file} gives {keys[0]} {name!r} two values of {self.by}")
        value_of = dict(zip(rows[keys[0]], rows[self.by], strict=True))
        images = predictions.drop_duplicates("id")
        found = {
            image: value_of.get(str(key))
            for image, key in zip(images["id"], images[keys[0]], strict=True)
        }
        if all(value is None for value in found.values()):
            raise BadData(f"{file} has no {keys[0]} of these predictions: compare its {keys[0]}")
        return found


def find_data(cell: StoredCell, store: Path) -> Store:
    """The prepared data set from which a cell was computed, by its fingerprint; else BadData."""
    wanted = cell.result.provenance.data
    for found in stores_in(store):
        smaller = (
            shrunk_fingerprint(found.fingerprint, size) for size in range(MIN_SIZE, found.size)
        )
        if found.fingerprint == wanted or wanted in smaller:
            return found
    raise BadData(
        f"the data of {cell.folder} are not in {store}: prepare {cell.result.cell.data} again as "
        "it was (`g2dbench data list` shows what is prepared), name its folder with --store, or "
        "give --groups FILE"
    )


def _read(file: Path) -> pd.DataFrame:
    """A table of texts."""
    try:
        if file.suffix == ".parquet":
            return read_frame(file).astype(object).map(_text)
        separator = "\t" if file.suffix == ".tsv" else ","
        return pd.read_csv(file, dtype=str, sep=separator, keep_default_na=False)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise BadData(f"{file} cannot be read as a table: {error}") from error


def _text(value: object) -> str | None:
    """A value as text; None for None and NaN."""
    return None if value is None or value != value else str(value)
