"""The packed store: a prepared data set in one memory-mapped Arrow file.

    <name>-<size>-<key>/
        rows.arrow       one row per image in id order (`rows.FIELDS`), an Arrow stream that
                         `datasets.Dataset.from_file` opens too (datasets 5.1 on)
        quarantine.csv   id, path and reason of each image that was left out
        manifest.json    written last: marks a complete store

Reading an image copies it from the mapped file, without decoding. A store is pickled as its folder,
size and row numbers; each loader worker opens it again.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from g2dbench.cards import DatasetCard
from g2dbench.data.images.border import KEEP
from g2dbench.data.store.manifest import (
    QUARANTINE_FILE,
    ROWS_FILE,
    Manifest,
    broken,
    read_manifest,
)
from g2dbench.data.store.row import FIELDS, TEXTS, Row, pack, unpack
from g2dbench.data.store.shrink import shrunk, shrunk_fingerprint
from g2dbench.dataset import COLUMNS, LABEL_PREFIX
from g2dbench.errors import BadData, Misuse
from g2dbench.sample import SPLITS, Sample


class _Pack:
    """An opened store file, which all subsets of the store share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        self.card = DatasetCard(**_tuples(self.manifest.card))
        try:
            with pa.memory_map(str(folder / ROWS_FILE)) as file:
                self.arrow = pa.ipc.open_stream(file).read_all()
        except (OSError, pa.ArrowException) as error:
            raise broken(folder, f"{ROWS_FILE} cannot be read: {error}") from error
        if self.arrow.schema != FIELDS or self.arrow.num_rows != self.manifest.rows:
            raise broken(
                folder, f"{ROWS_FILE} does not have the {self.manifest.rows} rows of its manifest"
            )
        batches = self.arrow.to_batches()
        self._starts = [0, *accumulate(batch.num_rows for batch in batches)]
        self._columns = [dict(zip(FIELDS.names, batch.columns, strict=True)) for batch in batches]

    def row(self, position: int, names: Iterable[str]) -> Row:
        """Fields of one row by name, as Python values."""
        batch = bisect_right(self._starts, position) - 1
        columns, offset = self._columns[batch], position - self._starts[batch]
        return {name: columns[name][offset].as_py() for name in names}

    def image(self, position: int) -> NDArray[np.uint8]:
        """A writable copy of one image's pixels, (H, W)."""
        batch = bisect_right(self._starts, position) - 1
        columns, offset = self._columns[batch], position - self._starts[batch]
        shape = (columns["height"][offset].as_py(), columns["width"][offset].as_py())
        return np.frombuffer(columns["pixels"][offset].as_buffer(), np.uint8).reshape(shape).copy()

    @cached_property
    def table(self) -> pd.DataFrame:
        """All rows without pixels, with the columns of `g2dbench.dataset`."""
        texts = {name: self.arrow[name].to_pylist() for name in TEXTS}
        frame = pd.DataFrame({name: pd.Series(texts[name], dtype=object) for name in TEXTS})
        frame["age"] = self.arrow["age"].to_numpy()
        frame["has_boxes"] = self.arrow["boxes"].is_valid().to_numpy()
        frame["has_masks"] = self.arrow["masks"].is_valid().to_numpy()
        labels = [json.loads(text) if text else {} for text in self.arrow["labels"].to_pylist()]
        seen = sorted({finding for row in labels for finding in row} - set(self.card.findings))
        labels_by_column = {
            LABEL_PREFIX + finding: np.array([row.get(finding, np.nan) for row in labels], float)
            for finding in (*self.card.findings, *seen)
        }
        return pd.concat([frame[list(COLUMNS)], pd.DataFrame(labels_by_column)], axis=1)


class Store:
    """A prepared data set, or a subset of its rows; implements `g2dbench.dataset.Dataset`."""

    def __init__(self, folder: Path) -> None:
        """Open a store; BadData, with the way out, if it is damaged or incomplete."""
        pack = _Pack(folder)
        self._bind(pack, np.arange(pack.manifest.rows), pack.card, pack.manifest.size)

    def _bind(self, pack: _Pack, rows: NDArray[np.int64], card: DatasetCard, size: int) -> None:
        self._pack = pack
        self._rows = rows
        self.card = card
        self.size = size
        self.fingerprint = pack.manifest.fingerprint
        if self.is_shrunk:
            self.fingerprint = shrunk_fingerprint(self.fingerprint, size)

    def _view(
        self,
        rows: NDArray[np.int64] | None = None,
        card: DatasetCard | None = None,
        size: int | None = None,
    ) -> "Store":
        """Return the same store with other rows, another card or another size."""
        other = Store.__new__(Store)
        chosen = self._rows if rows is None else rows
        other._bind(self._pack, chosen, card or self.card, size or self.size)
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.folder, self._rows, self.card, self.size)

    @property
    def is_shrunk(self) -> bool:
        """Whether images are reduced when they are read; see `at`."""
        return self.size != self._pack.manifest.size

    @property
    def folder(self) -> Path:
        """The folder of the store."""
        return self._pack.folder

    @property
    def arrow(self) -> pa.Table:
        """All rows of the store, `row.FIELDS`, memory-mapped; not only those of the subset."""
        return self._pack.arrow

    @property
    def summary(self) -> str:
        """A paragraph for users: what is stored, what was left out, and where."""
        found = self.manifest.summary
        splits = ", ".join(f"{name} {found.splits.get(name, 0)}" for name in SPLITS)
        text = f"{self.card.name}: {found.stored} of {found.listed} images at {self.size} px"
        if self.is_shrunk:
            text += f", shrunk on read from {self.manifest.size} px"
        if self.manifest.border != KEEP:
            text += ", borders cut off"
        if found.missing:
            text += f"; {found.missing} that its tables list are not in the folder (an excerpt)"
        if found.rejected:
            text += f"; {found.rejected} are broken and left out"
        if found.missing or found.rejected:
            text += f", see {self.folder / QUARANTINE_FILE}"
        if found.unlisted:
            text += f"; {found.unlisted} are not in the split {self.manifest.split}"
        text += "".join(f"; WARNING: {leak}" for leak in found.leaks)
        text += "".join(f"; NOTE: {note}" for note in found.notes)
        return f"{text}; {splits}; fingerprint {self.fingerprint[:12]}; in {self.folder}"

    @property
    def manifest(self) -> Manifest:
        """The description of the whole store, with the counts of preparing."""
        return self._pack.manifest

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per image, in order; see `g2dbench.dataset`."""
        return self._pack.table.iloc[self._rows].reset_index(drop=True)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        position = int(self._rows[index])
        sample = unpack(self._pack.row(position, _SAMPLE_FIELDS), self._pack.image(position))
        return shrunk(sample, self.size) if self.is_shrunk else sample

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def raw(self, index: int) -> Row:
        """All packed fields of a row, `row.FIELDS`, with the source of its image."""
        row = self._pack.row(int(self._rows[index]), FIELDS.names)
        if self.is_shrunk:
            return pack(self[index], row["source"], row["source_sha256"])
        return row

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> "Store":
        """The rows at these positions of this data set, in this order."""
        return self._view(rows=self._rows[np.asarray(indices, dtype=np.int64)])

    def named(self, name: str) -> "Store":
        """The same rows under another name, for synthetic images in a real data set's layout."""
        return self._view(card=replace(self.card, name=name))

    def at(self, size: int) -> "Store":
        """The same rows with the images reduced to a short side of at most `size` pixels on read.

        Boxes and masks are transformed too, see `shrink`. The fingerprint is a different one, so
        that results and runs of two sizes are never mixed. Misuse if the store is smaller.
        """
        if size > self.manifest.size:
            raise Misuse(f"{self.folder} holds images of {self.manifest.size} px, none of {size}")
        return self._view(size=size)

    def split(self, name: str) -> "Store":
        """The images of the split train, valid or test; BadData if there are none."""
        if name not in SPLITS:
            raise Misuse(f"there is no split {name!r}: choose one of {', '.join(SPLITS)}")
        found = np.flatnonzero((self.table["split"] == name).to_numpy())
        if found.size == 0:
            counts = self.table["split"].value_counts().to_dict()
            raise BadData(
                f"the data set {self.card.name!r} in {self.folder} has no {name} images; "
                f"its {len(self)} images are split {counts or 'not at all'}"
            )
        return self.take(found)


_SAMPLE_FIELDS = (*TEXTS, "age", "labels", "boxes", "masks")


def _reopen(folder: Path, rows: NDArray[np.int64], card: DatasetCard, size: int) -> Store:
    store = Store.__new__(Store)
    store._bind(_Pack(folder), rows, card, size)
    return store


def _tuples(card: dict[str, Any]) -> dict[str, Any]:
    """Convert card fields from JSON: lists become tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in card.items()}


def card_fields(card: DatasetCard) -> dict[str, Any]:
    """Return the fields of a card as JSON values."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(card).items()}
