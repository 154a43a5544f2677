"""How a DICOM file's pixels are packed: what its transfer syntax says, checked before unpacking.

Each syntax has one decoder, whatever else is installed, so that the same file gives the same
pixels everywhere. JPEG lossless needs python-gdcm, an extra; nothing that may be installed with
this package reads 12-bit JPEG, which is refused.
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
"""Bytes of a deflated file, unpacked: 100 million pixels of 16 bits and much more header."""

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
"""pydicom's names of decoders."""

PIP_LINE = 'pip install "g2dbench[dicom]"'

_PREFIX = 132
_GROUP_LENGTH = b"\x02\x00\x00\x00UL\x04\x00"
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
"""Second bytes of JPEG's markers that begin a frame header; JPEG-LS has its own."""
_BARE = {0x01, *range(0xD0, 0xD9)}
"""Those of markers that no length follows."""


def inflated(data: bytes) -> bytes:
    """A file as it would be without deflation; others unchanged. BadData if it is a bomb.

    pydicom would inflate without bound.
    """
    if data[_PREFIX : _PREFIX + 8] != _GROUP_LENGTH or len(data) < _PREFIX + 12:
        return data
    start = _PREFIX + 12 + int(struct.unpack_from("<I", data, _PREFIX + 8)[0])
    head, name = data[:start], DeflatedExplicitVRLittleEndian.encode()
    if name not in head:
        return data
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    body = inflater.decompress(data[start:], MAX_INFLATED)
    if not inflater.eof:
        raise BadData(f"it is cut short, or inflates to more than {MAX_INFLATED:,} bytes")
    # The same length, so that the group's length stays right; NUL pads a UID.
    return head.replace(name, ExplicitVRLittleEndian.encode().ljust(len(name), b"\0")) + body


def decoder(found: pydicom.Dataset) -> str:
    """pydicom's name of the decoder of a file's pixels, "" where they are not compressed.

    BadData: the compressed image has another size than the header says, or its decoder is absent.
    """
    syntax = found.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        return ""
    if syntax not in DECODERS:
        raise BadData(f"its transfer syntax {syntax.name} is not read")
    name = DECODERS[syntax]
    if syntax != RLELossless:
        height, width, depth = _coded(get_frame(found.PixelData, 0, number_of_frames=1))
        if (height, width) != (found.Rows, found.Columns):
            raise BadData(
                f"it claims {found.Rows} x {found.Columns} pixels, its compressed image "
                f"{height} x {width}"
            )
        if name == "pillow" and depth > 8:
            raise BadData(f"it is a JPEG of {depth} bits, which is not read")
    if name == "gdcm" and find_spec("gdcm") is None:
        raise BadData(f"its transfer syntax {syntax.name} needs python-gdcm: {PIP_LINE}")
    return name


def _coded(frame: bytes) -> tuple[int, int, int]:
    """(H, W, bits) that a JPEG, JPEG-LS or JPEG 2000 stream itself declares."""
    if frame[:2] == b"\xff\xd8":
        return _jpeg_frame(frame)
    return _jpeg2000_frame(frame)


def _jpeg_frame(stream: bytes) -> tuple[int, int, int]:
    """The frame header of a JPEG stream, found from marker to marker."""
    at = 2
    while at + 9 <= len(stream):
        if stream[at] != 0xFF:
            break
        kind = stream[at + 1]
        if kind in _FRAMES:
            depth, height, width = struct.unpack_from(">BHH", stream, at + 4)
            return height, width, depth
        if kind == 0xFF:  # a fill byte
            at += 1
        elif kind in _BARE:
            at += 2
        else:
            at += 2 + struct.unpack_from(">H", stream, at + 2)[0]
    raise BadData("its compressed image has no frame header")


def _jpeg2000_frame(stream: bytes) -> tuple[int, int, int]:
    """The SIZ segment of a JPEG 2000 codestream, bare or in a JP2 file."""
    at = stream.find(b"\xff\x4f\xff\x51")
    if at < 0 or at + 43 > len(stream):
        raise BadData("its compressed image has no frame header")
    right, bottom, left, top = struct.unpack_from(">4I", stream, at + 8)
    return bottom - top, right - left, (stream[at + 42] & 0x7F) + 1
