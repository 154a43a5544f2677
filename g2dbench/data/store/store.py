"""The packed store: a prepared data set in one memory-mapped Arrow file.

    <name>-<size>-<key>/
        rows.arrow       one row per image in id order (`rows.FIELDS`), an Arrow stream that
                         `datasets.Dataset.from_file` opens too
        quarantine.csv   what was left out, and why: id, path, reason
        manifest.json    written last: its presence means complete

Random access maps the file and copies one image: nothing is decoded. The store pickles as its
folder and row numbers, so that loader workers open it for themselves.
"""

import hashlib
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
from pydantic import BaseModel, ConfigDict

from g2dbench.cards import DatasetCard
from g2dbench.data.images.border import KEEP
from g2dbench.data.splits.published import OURS
from g2dbench.data.store.row import FIELDS, TEXTS, Row, unpack
from g2dbench.dataset import COLUMNS, LABEL_PREFIX
from g2dbench.errors import BadData, Misuse
from g2dbench.sample import SPLITS, Sample

SCHEMA = 1
ROWS_FILE, MANIFEST_FILE, QUARANTINE_FILE = "rows.arrow", "manifest.json", "quarantine.csv"


class Summary(BaseModel):
    """What preparing found: images listed by the tables = stored + rejected + missing + unlisted.

    unlisted: left out by the split; leaks: what is wrong with it, in sentences.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    listed: int
    stored: int
    rejected: int
    missing: int
    splits: dict[str, int]
    unlisted: int = 0
    leaks: tuple[str, ...] = ()


class Manifest(BaseModel):
    """What a store is; `card` as it was when preparing, `origin` where the images came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA
    version: str
    card: dict[str, Any]
    size: int
    origin: str
    split: str = OURS
    border: str = KEEP
    rows: int
    bytes: int
    fingerprint: str
    summary: Summary


def begin_fingerprint(size: int, border: str = KEEP) -> "hashlib._Hash":
    """A store's SHA-256 before its first row; every row adds its digest, in id order."""
    cut = "" if border == KEEP else f" border {border}"
    return hashlib.sha256(f"g2dbench store {SCHEMA} {size}{cut}".encode())


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a complete store; BadData says what is broken and the way out."""
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise _broken(folder, f"it has no {MANIFEST_FILE}, so preparing it never finished")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if version != SCHEMA:
            raise _broken(folder, f"its schema version is {version!r}, this g2dbench has {SCHEMA}")
        manifest = Manifest.model_validate(raw)
    except BadData:
        raise
    except (OSError, RecursionError, ValueError) as error:
        raise _broken(folder, f"its {MANIFEST_FILE} cannot be read: {error}") from error
    rows = folder / ROWS_FILE
    found = rows.stat().st_size if rows.is_file() else 0
    if found != manifest.bytes:
        raise _broken(folder, f"{ROWS_FILE} has {found} bytes instead of {manifest.bytes}")
    return manifest


def _broken(folder: Path, reason: str) -> BadData:
    return BadData(
        f"the prepared data in {folder} cannot be used: {reason}; "
        "run the `g2dbench data prepare` that made it again, which replaces it"
    )


class _Pack:
    """An opened store file, shared by all subsets of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        self.card = DatasetCard(**_tuples(self.manifest.card))
        try:
            with pa.memory_map(str(folder / ROWS_FILE)) as file:
                self.arrow = pa.ipc.open_stream(file).read_all()
        except (OSError, pa.ArrowException) as error:
            raise _broken(folder, f"{ROWS_FILE} cannot be read: {error}") from error
        if self.arrow.schema != FIELDS or self.arrow.num_rows != self.manifest.rows:
            raise _broken(folder, f"{ROWS_FILE} does not hold the {self.manifest.rows} rows of it")
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
        judged = {
            LABEL_PREFIX + finding: np.array([row.get(finding, np.nan) for row in labels], float)
            for finding in (*self.card.findings, *seen)
        }
        return pd.concat([frame[list(COLUMNS)], pd.DataFrame(judged)], axis=1)


class Store:
    """A prepared data set, or some of its rows; implements `g2dbench.dataset.Dataset`."""

    def __init__(self, folder: Path) -> None:
        """Open a complete store; BadData with the way out if it is broken or unfinished."""
        pack = _Pack(folder)
        self._bind(pack, np.arange(pack.manifest.rows), pack.card)

    def _bind(self, pack: _Pack, rows: NDArray[np.int64], card: DatasetCard) -> None:
        self._pack = pack
        self._rows = rows
        self.card = card
        self.fingerprint = pack.manifest.fingerprint
        self.size = pack.manifest.size

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.folder, self._rows, self.card)

    @property
    def folder(self) -> Path:
        """Where the store lies."""
        return self._pack.folder

    @property
    def arrow(self) -> pa.Table:
        """The whole store's rows as mapped, `rows.FIELDS`, whatever the subset."""
        return self._pack.arrow

    @property
    def summary(self) -> str:
        """One paragraph for people: what was stored, what was lost, where."""
        found = self.manifest.summary
        splits = ", ".join(f"{name} {found.splits.get(name, 0)}" for name in SPLITS)
        text = f"{self.card.name}: {found.stored} of {found.listed} images at {self.size} px"
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
        return f"{text}; {splits}; fingerprint {self.fingerprint[:12]}; in {self.folder}"

    @property
    def manifest(self) -> Manifest:
        """What the whole store is, and what preparing left out."""
        return self._pack.manifest

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per image, in order; see `g2dbench.dataset`."""
        return self._pack.table.iloc[self._rows].reset_index(drop=True)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        position = int(self._rows[index])
        return unpack(self._pack.row(position, _SAMPLE), self._pack.image(position))

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def raw(self, index: int) -> Row:
        """Every packed field of one row, `rows.FIELDS`; for checks and for tracing a source."""
        return self._pack.row(int(self._rows[index]), FIELDS.names)

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> "Store":
        """The rows at these positions of this data set, in this order."""
        chosen = Store.__new__(Store)
        chosen._bind(self._pack, self._rows[np.asarray(indices, dtype=np.int64)], self.card)
        return chosen

    def named(self, name: str) -> "Store":
        """The same rows under another name, for drawn images in a real data set's layout."""
        other = Store.__new__(Store)
        other._bind(self._pack, self._rows, replace(self.card, name=name))
        return other

    def split(self, name: str) -> "Store":
        """The train, valid or test part; BadData if it is empty."""
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


_SAMPLE = (*TEXTS, "age", "labels", "boxes", "masks")


def _reopen(folder: Path, rows: NDArray[np.int64], card: DatasetCard) -> Store:
    store = Store.__new__(Store)
    store._bind(_Pack(folder), rows, card)
    return store


def _tuples(card: dict[str, Any]) -> dict[str, Any]:
    """Card fields from JSON: lists are tuples again."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in card.items()}


def card_fields(card: DatasetCard) -> dict[str, Any]:
    """A card as JSON values."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(card).items()}
