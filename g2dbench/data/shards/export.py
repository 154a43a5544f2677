"""A prepared store as shards: Parquet or WebDataset, for streaming and for others to read.

    train-00000-of-00012.parquet, valid-..., test-...     or .tar
    shards.json                                           last: its presence means complete

A shard holds rows of one split in the order of a hash of their ids, so that neighbours are not of
one patient and whoever reads in order reads shuffled. Images are 8-bit PNG, pixel for pixel the
store's. The same store gives the same bytes (with the same Pillow and pyarrow). What is kept:

    Parquet     __key__ (the id), image {bytes, path}, report, patient, study, view, sex, age,
                split, labels (JSON: finding to 1, 0 or -1)
    WebDataset  KEY.png, KEY.txt (the report, empty where there is none), KEY.json (the rest);
                KEY is the id, with % and two digits for what a member's name cannot have

Boxes and masks are not kept: pre-training reads none.
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
from g2dbench.data.shards.files import BLOCK
from g2dbench.data.shards.index import INDEX_FILE, SUFFIX, Index, Kind, Marks, Shard, make_index
from g2dbench.data.shards.remote import Place
from g2dbench.data.store.row import Row
from g2dbench.data.store.store import Store, card_fields
from g2dbench.errors import BadData, Misuse
from g2dbench.sample import SPLITS

if TYPE_CHECKING:
    from g2dbench.progress import Progress

SHARD_IMAGES = 1000

_TOLD = ("patient", "study", "view", "sex", "age", "split", "labels")
_SCHEMA = pa.schema(
    [
        ("__key__", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("report", pa.string()),
        *((name, pa.float64() if name == "age" else pa.string()) for name in _TOLD),
    ]
)
_COLUMNS: dict[Kind, Columns] = {
    "parquet": {"image": "image", "text": "report", "id": "__key__", "study": "study",
                "view": "view", "split": "split"},
    "webdataset": {"image": "png", "text": "txt", "id": "json.id", "study": "json.study",
                   "view": "json.view", "split": "json.split"},
}  # fmt: skip
_UNSHARED = ("no sharing", "physionet", "competition rules", "-nd")


def export(
    store: Store,
    kind: Kind,
    address: str,
    *,
    shard_images: int = SHARD_IMAGES,
    progress: "Progress",
) -> Index:
    """Write the rows of a store that a split has, as shards of at most so many images.

    address: an empty or new folder, or a prefix of a store that `fsspec` can write to; what an
    unfinished export left there is written anew.

    Raises:
        Misuse: the place holds something else, or an export that is complete.
        BadData: it cannot be written, or no row has a split.
    """
    place = Place(address.rstrip("/"))
    parts = _parts(store, kind, shard_images)
    if not parts:
        raise BadData(f"{store.card.name} has no images of a split to export")
    _check_free(place, [name for name, _ in parts])
    writer = {"parquet": _parquet, "webdataset": _tar}[kind]
    shards = [
        _write(place, name, store, rows, writer)
        for name, rows in progress(parts, f"exporting {store.card.name}")
    ]
    index = make_index(
        kind,
        card_fields(store.card),
        shards,
        size=store.size,
        store=store.fingerprint,
        columns=_COLUMNS[kind],
    )
    place.write(INDEX_FILE, index.text().encode())
    return index


def licence_warning(licence: str) -> str | None:
    """A sentence where a data set's licence, as its card tells it, forbids passing it on."""
    if not any(word in licence.lower() for word in _UNSHARED):
        return None
    return (
        f"warning: keep these shards to yourself, and the store that holds them closed: the "
        f"licence is {licence!r}"
    )


def _parts(store: Store, kind: Kind, most: int) -> list[tuple[str, Sequence[int]]]:
    """The shards' names and rows."""
    table = store.table
    keys = np.array([hashlib.sha256(name.encode()).hexdigest() for name in table["id"]])
    parts: list[tuple[str, Sequence[int]]] = []
    for split in SPLITS:
        rows = np.flatnonzero((table["split"] == split).to_numpy())
        rows = rows[np.argsort(keys[rows], kind="stable")]
        count = -(-len(rows) // most)
        for at, some in enumerate(np.array_split(rows, count) if count else []):
            name = f"{split}-{at:05d}-of-{count:05d}{SUFFIX[kind]}"
            parts.append((name, some.tolist()))
    return parts


def _check_free(place: Place, names: Sequence[str]) -> None:
    """Misuse where there is more than what an unfinished export of the same would leave."""
    if not place.can_list:
        raise Misuse(
            f"{place.address} cannot be written to: export to a folder or an S3-like store"
        )
    found = place.names()
    if INDEX_FILE in found:
        raise Misuse(f"{place.address} holds a finished export: choose another --out, or remove it")
    others = sorted({*found} - {*names})
    if others:
        raise Misuse(
            f"{place.address} holds other files ({', '.join(others[:3])}): give an empty or a new "
            "place as --out"
        )


def _write(
    place: Place,
    name: str,
    store: Store,
    rows: Sequence[int],
    writer: Callable[[Iterator[tuple[Row, bytes]]], bytes],
) -> Shard:
    marks = Marks()

    def read() -> Iterator[tuple[Row, bytes]]:
        for index in rows:
            row = store.raw(index)
            marks.add(row["split"], row["view"], row["report"] or None)
            yield row, _png(store[index].image)

    data = writer(read())
    place.write(name, data)
    digest = hashlib.sha256(data).hexdigest()
    return Shard(name=name, rows=len(marks), bytes=len(data), sha256=digest, masks=marks.masks())


def _png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png", compress_level=6)
    return buffer.getvalue()


def _parquet(rows: Iterator[tuple[Row, bytes]]) -> bytes:
    """A Parquet file in row groups of `BLOCK`, as `datasets` writes one."""
    kinds = {pa.string(): "string", pa.float64(): "float64"}
    features = {
        field.name: {"dtype": kinds[field.type], "_type": "Value"}
        for field in _SCHEMA
        if field.name != "image"
    }
    told = {"info": {"features": {**features, "image": {"_type": "Image"}}}}
    schema = _SCHEMA.with_metadata({"huggingface": json.dumps(told)})
    buffer = io.BytesIO()
    # PNG has nothing left to compress.
    packed = {field.name: "zstd" for field in _SCHEMA if field.name != "image"}
    packed |= {"image.bytes": "none", "image.path": "zstd"}
    with pq.ParquetWriter(buffer, schema, compression=packed) as writer:
        batch: list[dict[str, Any]] = []
        for row, png in rows:
            path = f"{_key(row['id'])}.png"
            told_of = {name: row[name] for name in ("report", *_TOLD)}
            batch.append({"__key__": row["id"], "image": {"bytes": png, "path": path}, **told_of})
            if len(batch) == BLOCK:
                writer.write_table(pa.Table.from_pylist(batch, schema))
                batch = []
        if batch:
            writer.write_table(pa.Table.from_pylist(batch, schema))
    return buffer.getvalue()


def _tar(rows: Iterator[tuple[Row, bytes]]) -> bytes:
    """A tar whose members have neither owner nor time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for row, png in rows:
            told = {"id": row["id"], **{name: row[name] for name in _TOLD}}
            members = {
                "png": png,
                "txt": (row["report"] or "").encode(),
                "json": json.dumps(told, sort_keys=True).encode(),
            }
            for field, data in members.items():
                member = tarfile.TarInfo(f"{_key(row['id'])}.{field}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _key(name: str) -> str:
    """An id as a member's name: one part, without a dot."""
    return quote(name, safe=" +=@,").replace(".", "%2E")
