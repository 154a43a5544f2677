"""`shards.json`: which shards a streamed data set has, and which of their rows can be trained on.

    kind      "parquet" or "webdataset"
    shards    name, rows, bytes and SHA-256 of each, and `masks`: a bit per row, by name
              train, valid     the row's split
              frontal          its view, or that it is not known
              CLEANING         a report of which this cleaning keeps something, one each
    columns   what of a row lies where, in shards that g2dbench did not write
    card      of the data set: name, licence, ...; size: short side in pixels, where all have one
    store     fingerprint of the prepared store that was exported

The masks make the order of an epoch computable without a look at any row. They are bytes in base64,
the first row in the highest bit. An index may come from a stranger: names that leave the folder,
masks of another length and unknown fields are refused.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import g2dbench
from g2dbench.cards import DatasetCard
from g2dbench.data.reports.cleaning import CLEANINGS, CleaningName, clean
from g2dbench.errors import BadData, Misuse
from g2dbench.sample import ViewFilter, is_frontal

INDEX_FILE = "shards.json"
SCHEMA = 1
MOST_ROWS = 2**24
"""A shard with more rows is none: its masks would be a bomb."""

TRAIN, VALID, FRONTAL = "train", "valid", "frontal"
Kind = Literal["parquet", "webdataset"]
SUFFIX: dict[Kind, str] = {"parquet": ".parquet", "webdataset": ".tar"}
Mask = NDArray[np.bool_]

_NAME = re.compile(r"\w[\w.@:+-]{0,99}")  # runs are named after it


class Shard(BaseModel):
    """One file of rows; see the module's text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    rows: int = Field(ge=0, le=MOST_ROWS)
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    masks: dict[str, str]

    @model_validator(mode="after")
    def _whole(self) -> "Shard":
        path = PurePosixPath(self.name)
        if not self.name or path.is_absolute() or ".." in path.parts or ":" in self.name:
            raise ValueError(f"the shard name {self.name!r} leaves the folder")
        for name in self.masks:
            self.mask(name)
        return self

    def mask(self, name: str) -> Mask:
        """The rows that have this, (rows,) bool; none where nothing is said of it."""
        if name not in self.masks:
            return np.zeros(self.rows, dtype=bool)
        try:
            packed = base64.b64decode(self.masks[name], validate=True)
        except binascii.Error as error:
            raise ValueError(f"{self.name}: the mask {name!r} is no base64") from error
        if len(packed) != -(-self.rows // 8):
            raise ValueError(f"{self.name}: the mask {name!r} is not of {self.rows} rows")
        return np.unpackbits(np.frombuffer(packed, np.uint8), count=self.rows).astype(bool)

    def pairs(self, split: str, views: ViewFilter, cleaning: CleaningName) -> NDArray[np.int64]:
        """The rows of a split that a recipe trains on, ascending."""
        chosen = self.mask(split) & self.mask(cleaning)
        return np.flatnonzero(chosen if views == "all" else chosen & self.mask(FRONTAL))


class Index(BaseModel):
    """A streamed data set; see the module's text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA
    version: str = g2dbench.__version__
    kind: Kind
    card: dict[str, Any]
    size: int | None = None
    store: str | None = None
    columns: dict[str, str] = {}
    rows: int
    pairs: dict[str, int]
    shards: tuple[Shard, ...]

    @model_validator(mode="after")
    def _agree(self) -> "Index":
        names = [shard.name for shard in self.shards]
        if len(set(names)) < len(names):
            raise ValueError("a shard is listed twice")
        if self.rows != sum(shard.rows for shard in self.shards):
            raise ValueError("its rows are not those of its shards")
        return self

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything about the shards: their hashes, sizes, rows and masks."""
        told = [shard.model_dump(mode="json") for shard in self.shards]
        text = json.dumps([self.kind, self.columns, told], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def dataset_card(self) -> DatasetCard:
        """The card of the data set that was exported."""
        told: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in self.card.items()
        }
        return DatasetCard(**told)

    def text(self) -> str:
        """The file's contents."""
        return self.model_dump_json(indent=1) + "\n"


def make_index(kind: Kind, card: Mapping[str, Any], shards: Iterable[Shard], **told: Any) -> Index:
    """An index of these shards; pairs are counted for each split with the default cleaning."""
    shards = tuple(shards)
    pairs = {
        split: sum(len(shard.pairs(split, "frontal", "g2dbench")) for shard in shards)
        for split in (TRAIN, VALID)
    }
    rows = sum(shard.rows for shard in shards)
    return Index(kind=kind, card=dict(card), shards=shards, rows=rows, pairs=pairs, **told)


def parse_index(data: bytes, where: str) -> Index:
    """The index in a file's bytes; BadData says what is wrong with it."""
    try:
        raw = json.loads(data)
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if version != SCHEMA:
            raise BadData(f"{where} has schema version {version!r}; this g2dbench reads {SCHEMA}")
        index = Index.model_validate(raw)
        if not _NAME.fullmatch(index.dataset_card.name):
            raise BadData(f"{where} has the card of {index.dataset_card.name!r}, which is no name")
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadData(f"{where} is no index of shards: {place}: {first['msg']}") from error
    except (ValueError, TypeError, RecursionError) as error:
        if isinstance(error, BadData):
            raise
        raise BadData(f"{where} is no index of shards: {error}") from error
    return index


def parse_kind(name: str) -> Kind:
    """A kind of shards by name; Misuse for an unknown one."""
    if name not in SUFFIX:
        raise Misuse(f"--format {name!r} is unknown: {' or '.join(SUFFIX)}")
    return name


class Marks:
    """The masks of a shard, made row by row."""

    def __init__(self) -> None:
        self._rows: list[tuple[bool, ...]] = []

    def add(self, split: str | None, view: str | None, report: str | None) -> None:
        """One more row."""
        kept = [bool(clean(report, name).text) for name in CLEANINGS]
        self._rows.append((split == TRAIN, split == VALID, is_frontal(view), *kept))

    def __len__(self) -> int:
        return len(self._rows)

    def masks(self) -> dict[str, str]:
        """As an index has them."""
        names = (TRAIN, VALID, FRONTAL, *CLEANINGS)
        table = np.array(self._rows, dtype=bool).reshape(-1, len(names))
        packed = np.packbits(table, axis=0)
        return {n: base64.b64encode(packed[:, k].tobytes()).decode() for k, n in enumerate(names)}
