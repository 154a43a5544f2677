"""Converts a sample to an Arrow row and back.

Pixels are raw bytes, row-major; labels, boxes and masks are JSON, null where not annotated:

    labels  {finding: 1 | 0 | -1}
    boxes   [[finding, x0, y0, x1, y1], ...] in pixels of the stored image
    masks   {finding: column-major run lengths}, see `rle`
    digest  SHA-256 of the pixels and all fields of the sample, without the source
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from g2dbench.data.annotations import rle
from g2dbench.sample import Box, Sample

TEXTS = ("id", "patient", "study", "view", "sex", "split", "report")
FIELDS = pa.schema(
    [
        *((name, pa.string()) for name in TEXTS),
        ("age", pa.float64()),
        *((name, pa.string()) for name in ("labels", "boxes", "masks")),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("pixels", pa.binary()),
        ("source", pa.string()),
        ("source_sha256", pa.string()),
        ("digest", pa.binary(32)),
    ]
)
_DIGESTED = (*TEXTS, "age", "labels", "boxes", "masks", "height", "width")

Row = dict[str, Any]


def pack(sample: Sample, source: str | None = None, source_sha256: str | None = None) -> Row:
    """Return a row of `FIELDS`; source: the image file, relative to the data set's root."""
    row: Row = {name: getattr(sample, name) for name in (*TEXTS, "age")}
    boxes = None if sample.boxes is None else [list(box) for box in sample.boxes]
    labels = None if sample.labels is None else dict(sample.labels)
    row["labels"] = _json(labels)
    row["boxes"] = _json(boxes)
    row["masks"] = None
    if sample.masks is not None:
        row["masks"] = _json({name: rle.to_runs(mask) for name, mask in sample.masks.items()})
    row["height"], row["width"] = sample.image.shape
    row["pixels"] = sample.image.tobytes()
    row["source"], row["source_sha256"] = source, source_sha256
    row["digest"] = digest(row)
    return row


def digest(row: Mapping[str, Any]) -> bytes:
    """Return the SHA-256 of a row's pixels, metadata and annotation."""
    seen = json.dumps([row[name] for name in _DIGESTED], allow_nan=False).encode()
    return hashlib.sha256(seen + b"\0" + row["pixels"]).digest()


def unpack(row: Mapping[str, Any], image: NDArray[np.uint8]) -> Sample:
    """Return the sample of a row; image: the row's pixels as an (H, W) array."""
    labels, boxes, masks = (_parsed(row[name]) for name in ("labels", "boxes", "masks"))
    if boxes is not None:
        boxes = tuple(Box(*box) for box in boxes)
    if masks is not None:
        masks = {name: rle.from_runs(part, *image.shape) for name, part in masks.items()}
    return Sample(
        id=row["id"],
        image=image,
        patient=row["patient"],
        study=row["study"],
        view=row["view"],
        sex=row["sex"],
        age=row["age"],
        split=row["split"],
        report=row["report"],
        labels=labels,
        boxes=boxes,
        masks=masks,
    )


def _json(value: object) -> str | None:
    if value is None:
        return None
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)
