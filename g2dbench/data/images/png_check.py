"""Check that a PNG file holds all rows that its header declares; Pillow fills missing rows black.

The compressed stream is decompressed once more, in chunks, and its bytes are counted.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from g2dbench.errors import BadData

CHUNK_BYTES = 2**20

_SAMPLES_PER_PIXEL = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples per pixel by color type."""
_ADAM7 = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4),
    (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
)  # fmt: skip
"""First column, first row, column step and row step of each interlaced pass."""


def check_rows(data: bytes, path: Path) -> None:
    """BadData if the data of a PNG file end before the last row; zlib.error if they are damaged."""
    missing = _decompressed_size(data)
    inflater = zlib.decompressobj()
    for part in _image_data(data):
        while missing > 0 and (chunk := inflater.decompress(part, CHUNK_BYTES)):
            missing -= len(chunk)
            part = inflater.unconsumed_tail
    if missing > 0:
        raise BadData(f"the image {path} ends early: its last rows lack {missing:,} bytes")


def _decompressed_size(data: bytes) -> int:
    """Bytes of all rows, each with its filter byte, computed from the header chunk."""
    width, height, depth, color, _, _, interlace = struct.unpack_from(">IIBBBBB", data, 16)
    bits = depth * _SAMPLES_PER_PIXEL.get(color, 1)
    passes = _ADAM7 if interlace else ((0, 0, 1, 1),)
    sizes = (
        (max(0, -(-(width - x) // across)), max(0, -(-(height - y) // down)))
        for x, y, across, down in passes
    )
    return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns)


def _image_data(data: bytes) -> Iterator[bytes]:
    """The contents of the IDAT chunks."""
    at = 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT":
            yield data[at + 8 : at + 8 + length]
        at += 12 + length
