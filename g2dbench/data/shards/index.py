"""`shards.json`, the index of a streamed data set: its shards, and which rows are training pairs.

    kind      "parquet" or "webdataset"
    shards    name, rows, bytes and SHA-256 of each shard, and `masks` with one bit per row:
              train, valid     the row is in this split
              frontal          the view is frontal or unknown
              CLEANING         the report is not empty after this cleaning (one mask for each)
    columns   the column of each role (image, text, ...), for shards that g2dbench did not write
    card      name, licence, ... of the data set; size: the short side of all images in pixels
    store     fingerprint of the prepared store that was exported

The order of an epoch is computed from the masks, without reading any row. Masks are bytes in
base64; the first row is the highest bit. An index is untrusted input: names outside the folder,
masks of a wrong length and unknown fields are refused.
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
from g2dbench.field_errors import first_sentence
from g2dbench.sample import ViewFilter, is_frontal

INDEX_FILE = "shards.json"
SCHEMA = 1
MAX_ROWS = 2**24
"""Upper limit of the rows of a shard: decoding the masks of more would exhaust the memory."""

TRAIN, VALID, FRONTAL = "train", "valid", "frontal"
Kind = Literal["parquet", "webdataset"]
SUFFIX: dict[Kind, str] = {"parquet": ".parquet", "webdataset": ".tar"}
Mask = NDArray[np.bool_]

_NAME = re.compile(r"\w[\w.@:+-]{0,99}")  # run folders are named after the data set


class Shard(BaseModel):
    """One shard; the module's docstring describes the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    rows: int = Field(ge=0, le=MAX_ROWS)
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    masks: dict[str, str]

    @model_validator(mode="after")
    def _check_names_and_masks(self) -> "Shard":
        path = PurePosixPath(self.name)
        if not self.name or path.is_absolute() or ".." in path.parts or ":" in self.name:
            raise ValueError(f"the shard name {self.name!r} leaves the folder")
        for name in self.masks:
            self.mask(name)
        return self

    def mask(self, name: str) -> Mask:
        """The mask of this name, (rows,) bool; all False if the shard has no such mask."""
        if name not in self.masks:
            return np.zeros(self.rows, dtype=bool)
        try:
            packed = base64.b64decode(self.masks[name], validate=True)
        except binascii.Error as error:
            raise ValueError(f"{self.name}: the mask {name!r} is not base64") from error
        if len(packed) != -(-self.rows // 8):
            raise ValueError(f"{self.name}: the mask {name!r} is not for {self.rows} rows")
        return np.unpackbits(np.frombuffer(packed, np.uint8), count=self.rows).astype(bool)

    def pairs(self, split: str, views: ViewFilter, cleaning: CleaningName) -> NDArray[np.int64]:
        """The ascending rows of a split that are pairs with these views and this cleaning."""
        chosen = self.mask(split) & self.mask(cleaning)
        return np.flatnonzero(chosen if views == "all" else chosen & self.mask(FRONTAL))


class Index(BaseModel):
    """The index of a streamed data set; the module's docstring describes the fields."""

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
    def _check_totals(self) -> "Index":
        names = [shard.name for shard in self.shards]
        if len(set(names)) < len(names):
            raise ValueError("a shard is listed twice")
        if self.rows != sum(shard.rows for shard in self.shards):
            raise ValueError("its rows are not the sum of those of its shards")
        return self

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the hashes, sizes, rows and masks of all shards."""
        described = [shard.model_dump(mode="json") for shard in self.shards]
        text = json.dumps([self.kind, self.columns, described], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def dataset_card(self) -> DatasetCard:
        """The card of the data set that was exported."""
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in self.card.items()
        }
        return DatasetCard(**fields)

    def to_json(self) -> str:
        """The contents of the file."""
        return self.model_dump_json(indent=1) + "\n"


def make_index(kind: Kind, card: Mapping[str, Any], shards: Iterable[Shard], **more: Any) -> Index:
    """Make the index of these shards; the pairs of a split are counted with default settings."""
    shards = tuple(shards)
    pairs = {
        split: sum(len(shard.pairs(split, "frontal", "g2dbench")) for shard in shards)
        for split in (TRAIN, VALID)
    }
    rows = sum(shard.rows for shard in shards)
    return Index(kind=kind, card=dict(card), shards=shards, rows=rows, pairs=pairs, **more)


def parse_index(data: bytes, where: str) -> Index:
    """Parse the index in a file's bytes; BadData if it is not valid. where: its address."""
    try:
        raw = json.loads(data)
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if version != SCHEMA:
            raise BadData(f"{where} has schema version {version!r}; this g2dbench reads {SCHEMA}")
        index = Index.model_validate(raw)
        if not _NAME.fullmatch(index.dataset_card.name):
            raise BadData(
                f"{where} has the card of {index.dataset_card.name!r}, which is not a valid name"
            )
    except ValidationError as error:
        raise BadData(f"{where} is not an index of shards: {first_sentence(error)}") from error
    except (ValueError, TypeError, RecursionError) as error:
        if isinstance(error, BadData):
            raise
        raise BadData(f"{where} is not an index of shards: {error}") from error
    return index


def parse_kind(name: str) -> Kind:
    """Return the kind of shards with this name; Misuse if it is unknown."""
    if name not in SUFFIX:
        raise Misuse(f"--format {name!r} is unknown: {' or '.join(SUFFIX)}")
    return name


class MaskBuilder:
    """Builds the masks of a shard, row by row."""

    def __init__(self) -> None:
        self._rows: list[tuple[bool, ...]] = []

    def add(self, split: str | None, view: str | None, report: str | None) -> None:
        """Add the next row."""
        kept = [bool(clean(report, name).text) for name in CLEANINGS]
        self._rows.append((split == TRAIN, split == VALID, is_frontal(view), *kept))

    def __len__(self) -> int:
        return len(self._rows)

    def encode(self) -> dict[str, str]:
        """Return the masks in base64 by name, as an index stores them."""
        names = (TRAIN, VALID, FRONTAL, *CLEANINGS)
        table = np.array(self._rows, dtype=bool).reshape(-1, len(names))
        packed = np.packbits(table, axis=0)
        return {n: base64.b64encode(packed[:, k].tobytes()).decode() for k, n in enumerate(names)}
