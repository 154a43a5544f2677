"""The transfer syntax of a DICOM file: how its pixels are compressed, checked before decoding.

Each syntax has one fixed decoder, whatever else is installed, so that a file gives the same pixels
on every machine. JPEG lossless needs python-gdcm, an extra. 12-bit JPEG is refused, because no
decoder that can be installed with g2dbench reads it.
"""

import struct
import zlib
from importlib.util import find_spec

import pydicom
from pydicom.encaps import get_frame
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from g2dbench.errors import BadData

MAX_INFLATED = 2**29
"""Largest size of a decompressed file in bytes: 100 million pixels of 16 bits and a long header."""

DECODERS = {
    JPEGBaseline8Bit: "pillow",
    JPEGExtended12Bit: "pillow",
    JPEGLossless: "gdcm",
    JPEGLosslessSV1: "gdcm",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
    HTJ2KLossless: "pylibjpeg",
    HTJ2KLosslessRPCL: "pylibjpeg",
    HTJ2K: "pylibjpeg",
    RLELossless: "pydicom",
}
"""The decoder of each transfer syntax, by its name in pydicom."""

INSTALL_COMMAND = 'pip install "g2dbench[dicom]"'

_PREAMBLE = 132
_GROUP_LENGTH = b"\x02\x00\x00\x00UL\x04\x00"
_FRAME_MARKERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}
"""Second bytes of the JPEG and JPEG-LS markers that begin a frame header."""
_MARKERS_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
"""Second bytes of the JPEG markers that are not followed by a length."""


def inflate(data: bytes) -> bytes:
    """Decompress a deflated file; other files are returned unchanged.

    BadData if the result exceeds MAX_INFLATED, which pydicom does not limit, or if the file is
    truncated.
    """
    if data[_PREAMBLE : _PREAMBLE + 8] != _GROUP_LENGTH or len(data) < _PREAMBLE + 12:
        return data
    start = _PREAMBLE + 12 + int(struct.unpack_from("<I", data, _PREAMBLE + 8)[0])
    head, name = data[:start], DeflatedExplicitVRLittleEndian.encode()
    if name not in head:
        return data
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    body = inflater.decompress(data[start:], MAX_INFLATED)
    if not inflater.eof:
        raise BadData(f"it is cut short, or inflates to more than {MAX_INFLATED:,} bytes")
    # NUL padding keeps the length of the UID, so that the group length remains valid.
    return head.replace(name, ExplicitVRLittleEndian.encode().ljust(len(name), b"\0")) + body


def choose_decoder(dataset: pydicom.Dataset) -> str:
    """Return pydicom's name of the decoder for a file's pixels; "" if they are not compressed.

    BadData: the transfer syntax is not supported, its decoder is not installed, or the size of the
    compressed image differs from the size in the header.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        return ""
    if syntax not in DECODERS:
        raise BadData(f"its transfer syntax {syntax.name} is not read")
    name = DECODERS[syntax]
    if syntax != RLELossless:
        height, width, depth = _declared_size(get_frame(dataset.PixelData, 0, number_of_frames=1))
        if (height, width) != (dataset.Rows, dataset.Columns):
            raise BadData(
                f"it claims {dataset.Rows} x {dataset.Columns} pixels, its compressed image "
                f"{height} x {width}"
            )
        if name == "pillow" and depth > 8:
            raise BadData(f"it is a JPEG of {depth} bits, which is not read")
    if name == "gdcm" and find_spec("gdcm") is None:
        raise BadData(f"its transfer syntax {syntax.name} needs python-gdcm: {INSTALL_COMMAND}")
    return name


def _declared_size(frame: bytes) -> tuple[int, int, int]:
    """Return (H, W, bits) as a JPEG, JPEG-LS or JPEG 2000 stream declares them."""
    if frame[:2] == b"\xff\xd8":
        return _jpeg_size(frame)
    return _jpeg2000_size(frame)


def _jpeg_size(stream: bytes) -> tuple[int, int, int]:
    """Return (H, W, bits) from the frame header of a JPEG stream, found marker by marker."""
    at = 2
    while at + 9 <= len(stream):
        if stream[at] != 0xFF:
            break
        kind = stream[at + 1]
        if kind in _FRAME_MARKERS:
            depth, height, width = struct.unpack_from(">BHH", stream, at + 4)
            return height, width, depth
        if kind == 0xFF:  # a fill byte
            at += 1
        elif kind in _MARKERS_WITHOUT_LENGTH:
            at += 2
        else:
            at += 2 + struct.unpack_from(">H", stream, at + 2)[0]
    raise BadData("its compressed image has no frame header")


def _jpeg2000_size(stream: bytes) -> tuple[int, int, int]:
    """Return (H, W, bits) from the SIZ segment of a JPEG 2000 codestream or JP2 file."""
    at = stream.find(b"\xff\x4f\xff\x51")
    if at < 0 or at + 43 > len(stream):
        raise BadData("its compressed image has no frame header")
    right, bottom, left, top = struct.unpack_from(">4I", stream, at + 8)
    return bottom - top, right - left, (stream[at + 42] & 0x7F) + 1
