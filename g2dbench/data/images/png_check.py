"""Whether a PNG file holds all the rows that it claims; Pillow makes missing ones black.

The compressed stream is unpacked once more and counted, in pieces, to its end or to the last row.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from g2dbench.errors import BadData

PIECE = 2**20

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by colour type."""
_ADAM7 = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4),
    (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
)  # fmt: skip
"""First column and row of each interlaced pass, and its steps."""


def check_rows(data: bytes, path: Path) -> None:
    """BadData if the image of a PNG file ends before its last row; zlib.error if it is damaged."""
    wanted = _size(data)
    inflater = zlib.decompressobj()
    for part in _image_data(data):
        while wanted > 0 and (piece := inflater.decompress(part, PIECE)):
            wanted -= len(piece)
            part = inflater.unconsumed_tail
    if wanted > 0:
        raise BadData(f"the image {path} ends early: its last rows lack {wanted:,} bytes")


def _size(data: bytes) -> int:
    """Bytes of all rows, each with its filter's byte, from the header chunk."""
    width, height, depth, colour, _, _, interlace = struct.unpack_from(">IIBBBBB", data, 16)
    bits = depth * _SAMPLES.get(colour, 1)
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
