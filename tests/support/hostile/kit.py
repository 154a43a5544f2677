"""Shared by the cases: files of every kind, and the table of cases."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.filewriter import write_file_meta_info

GOOD, BAD = "good", "bad"
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)

Breaker = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """kind: the layout; place: breaks one thing in a valid folder; harmless: no record is lost."""

    kind: str
    place: Breaker
    harmless: tuple[str, ...] = ()


BROKEN: dict[str, Case] = {}


def png(pixels: np.ndarray = PIXELS) -> bytes:
    return encoded(pixels, "PNG")


def jpeg() -> bytes:
    return encoded(PIXELS, "JPEG")


def encoded(pixels: np.ndarray, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def dicom(syntax: str | None = None, **changes: object) -> bytes:
    """A 16-bit radiograph of 40 x 40; None as a value removes the field."""
    found = pydicom.Dataset()
    found.SOPClassUID, found.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    found.Rows, found.Columns, found.SamplesPerPixel = 40, 40, 1
    found.BitsAllocated, found.BitsStored, found.HighBit = 16, 12, 11
    found.PixelRepresentation, found.PhotometricInterpretation = 0, "MONOCHROME2"
    found.PatientID = "p"
    found.file_meta = pydicom.dataset.FileMetaDataset()
    found.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    found.PixelData = (PIXELS.astype(np.uint16) * 16).tobytes()
    found["PixelData"].VR = "OW"
    if syntax:
        found.compress(syntax)
    for name, value in changes.items():
        if value is None:
            delattr(found, name)
        else:
            setattr(found, name, value)
    buffer = io.BytesIO()
    found.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def renamed(syntax: str) -> bytes:
    """A DICOM file whose header has another transfer syntax than its pixel data."""
    data = dicom()
    meta = pydicom.dcmread(io.BytesIO(data)).file_meta
    body = data[132 + 12 + meta.FileMetaInformationGroupLength :]
    meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO(bytes(128) + b"DICM")
    buffer.seek(132)
    write_file_meta_info(buffer, meta)
    return buffer.getvalue() + body


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, depth: int = 8, colour: int = 0, body: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def outside(path: Path) -> Path:
    other = path.parents[2] / "elsewhere"
    other.mkdir(exist_ok=True)
    (other / "x.png").write_bytes(png())
    return other


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
