"""Exports a prepared store as shards, in Parquet or WebDataset format, for streaming and sharing.

    train-00000-of-00012.parquet, valid-..., test-...     or .tar
    shards.json                                           written last: marks a complete export

A shard has rows of one split, sorted by a hash of their ids, so that the images of a patient are
not neighbors and reading in order gives shuffled data. Images are 8-bit PNG with exactly the pixels
of the store. The same store gives the same bytes (with the same Pillow and pyarrow). Contents:

    Parquet     __key__ (the id), image {bytes, path}, report, patient, study, view, sex, age,
                split, labels (JSON: finding to 1, 0 or -1)
    WebDataset  KEY.png, KEY.txt (the report, empty if there is none), KEY.json (the rest);
                KEY is the id, in which %XX replaces the characters that a name cannot contain

Boxes and masks are not exported, because pre-training does not use them.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from g2dbench.data.shards.columns import Columns
from g2dbench.data.shards.files import BLOCK_ROWS
from g2dbench.data.shards.index import (
    INDEX_FILE,
    SUFFIX,
    Index,
    Kind,
    MaskBuilder,
    Shard,
    make_index,
)
from g2dbench.data.shards.remote import StorageLocation
from g2dbench.data.store.row import Row
from g2dbench.data.store.store import Store, card_fields
from g2dbench.errors import BadData, Misuse
from g2dbench.sample import SPLITS

if TYPE_CHECKING:
    from g2dbench.progress import Progress

SHARD_IMAGES = 1000

_METADATA = ("patient", "study", "view", "sex", "age", "split", "labels")
_SCHEMA = pa.schema(
    [
        ("__key__", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("report", pa.string()),
        *((name, pa.float64() if name == "age" else pa.string()) for name in _METADATA),
    ]
)
_COLUMNS: dict[Kind, Columns] = {
    "parquet": {"image": "image", "text": "report", "id": "__key__", "study": "study",
                "view": "view", "split": "split"},
    "webdataset": {"image": "png", "text": "txt", "id": "json.id", "study": "json.study",
                   "view": "json.view", "split": "json.split"},
}  # fmt: skip
_FORBID_SHARING = ("no sharing", "physionet", "competition rules", "-nd")


def export(
    store: Store,
    kind: Kind,
    address: str,
    *,
    shard_images: int = SHARD_IMAGES,
    progress: "Progress",
) -> Index:
    """Write all rows that have a split, as shards of at most `shard_images` images.

    address: an empty or new folder, or a prefix of a store that `fsspec` can write to. The shards
    of an unfinished export of the same store are overwritten.

    Raises:
        Misuse: the location has other files or a complete export, or cannot be written to.
        BadData: writing fails, or no row has a split.
    """
    location = StorageLocation(address.rstrip("/"))
    planned = _plan_shards(store, kind, shard_images)
    if not planned:
        raise BadData(f"{store.card.name} has no images with a split to export")
    _check_target(location, [name for name, _ in planned])
    writer = {"parquet": _write_parquet, "webdataset": _write_tar}[kind]
    shards = [
        _write_shard(location, name, store, rows, writer)
        for name, rows in progress(planned, f"exporting {store.card.name}")
    ]
    index = make_index(
        kind,
        card_fields(store.card),
        shards,
        size=store.size,
        store=store.fingerprint,
        columns=_COLUMNS[kind],
    )
    location.write(INDEX_FILE, index.to_json().encode())
    return index


def license_warning(license_text: str) -> str | None:
    """Return a warning if the license of a data set, as its card states it, forbids sharing."""
    if not any(word in license_text.lower() for word in _FORBID_SHARING):
        return None
    return (
        "warning: do not share these shards, and restrict access to where they are stored: the "
        f"license is {license_text!r}"
    )


def _plan_shards(store: Store, kind: Kind, shard_images: int) -> list[tuple[str, Sequence[int]]]:
    """Return the name and rows of each shard."""
    table = store.table
    keys = np.array([hashlib.sha256(name.encode()).hexdigest() for name in table["id"]])
    planned: list[tuple[str, Sequence[int]]] = []
    for split in SPLITS:
        rows = np.flatnonzero((table["split"] == split).to_numpy())
        rows = rows[np.argsort(keys[rows], kind="stable")]
        count = -(-len(rows) // shard_images)
        for number, chosen in enumerate(np.array_split(rows, count) if count else []):
            name = f"{split}-{number:05d}-of-{count:05d}{SUFFIX[kind]}"
            planned.append((name, chosen.tolist()))
    return planned


def _check_target(location: StorageLocation, names: Sequence[str]) -> None:
    """Misuse unless the location is writable and has only shards of an unfinished export."""
    if not location.can_list:
        raise Misuse(
            f"{location.address} cannot be written to: export to a folder or an S3-like store"
        )
    found = location.list_files()
    if INDEX_FILE in found:
        raise Misuse(
            f"{location.address} holds a finished export: choose another --out, or remove it"
        )
    others = sorted({*found} - {*names})
    if others:
        raise Misuse(
            f"{location.address} holds other files ({', '.join(others[:3])}): choose an empty or "
            "new folder as --out"
        )


def _write_shard(
    location: StorageLocation,
    name: str,
    store: Store,
    rows: Sequence[int],
    writer: Callable[[Iterator[tuple[Row, bytes]]], bytes],
) -> Shard:
    masks = MaskBuilder()

    def read() -> Iterator[tuple[Row, bytes]]:
        for index in rows:
            row = store.raw(index)
            masks.add(row["split"], row["view"], row["report"] or None)
            yield row, _encode_png(store[index].image)

    data = writer(read())
    location.write(name, data)
    digest = hashlib.sha256(data).hexdigest()
    return Shard(name=name, rows=len(masks), bytes=len(data), sha256=digest, masks=masks.encode())


def _encode_png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png", compress_level=6)
    return buffer.getvalue()


def _write_parquet(rows: Iterator[tuple[Row, bytes]]) -> bytes:
    """Return a Parquet file with row groups of `BLOCK_ROWS`, with the metadata of `datasets`."""
    kinds = {pa.string(): "string", pa.float64(): "float64"}
    features = {
        field.name: {"dtype": kinds[field.type], "_type": "Value"}
        for field in _SCHEMA
        if field.name != "image"
    }
    description = {"info": {"features": {**features, "image": {"_type": "Image"}}}}
    schema = _SCHEMA.with_metadata({"huggingface": json.dumps(description)})
    buffer = io.BytesIO()
    # PNG is compressed already.
    packed = {field.name: "zstd" for field in _SCHEMA if field.name != "image"}
    packed |= {"image.bytes": "none", "image.path": "zstd"}
    with pq.ParquetWriter(buffer, schema, compression=packed) as writer:
        batch: list[dict[str, Any]] = []
        for row, png in rows:
            path = f"{_member_name(row['id'])}.png"
            metadata = {name: row[name] for name in ("report", *_METADATA)}
            batch.append({"__key__": row["id"], "image": {"bytes": png, "path": path}, **metadata})
            if len(batch) == BLOCK_ROWS:
                writer.write_table(pa.Table.from_pylist(batch, schema))
                batch = []
        if batch:
            writer.write_table(pa.Table.from_pylist(batch, schema))
    return buffer.getvalue()


def _write_tar(rows: Iterator[tuple[Row, bytes]]) -> bytes:
    """Return a tar whose members have no owner and no time, so that its bytes are reproducible."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for row, png in rows:
            metadata = {"id": row["id"], **{name: row[name] for name in _METADATA}}
            members = {
                "png": png,
                "txt": (row["report"] or "").encode(),
                "json": json.dumps(metadata, sort_keys=True).encode(),
            }
            for field, data in members.items():
                member = tarfile.TarInfo(f"{_member_name(row['id'])}.{field}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _member_name(name: str) -> str:
    """Return an id as the name of a tar member: without slashes and dots."""
    return quote(name, safe=" +=@,").replace(".", "%2E")
