"""Broken images: other content, truncated, impossible sizes, or another format than their name."""

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from support.hostile.kit import (
    BAD,
    BROKEN,
    PIXELS,
    Case,
    chunk,
    dicom,
    encoded,
    jpeg,
    png,
    png_of,
    renamed,
)


def image(name: str, data: Callable[[], bytes] | bytes, suffix: str = ".png") -> None:
    """A case with these bytes as its image file."""

    def place(root: Path) -> None:
        target = root / f"stage_2_train_images/{BAD}{suffix}"
        target.write_bytes(data if isinstance(data, bytes) else data())

    BROKEN[f"image: {name}"] = Case("rsna", place)


def jpeg_claiming(width: int, height: int) -> bytes:
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, at + 5, height, width)
    return bytes(data)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("bad.png", png())
    return buffer.getvalue()


def text_bomb() -> bytes:
    data = png()
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000_000), 1))
    return data[:33] + bomb + data[33:]


def nested_dicom() -> bytes:
    """Nested DICOM sequences, deeper than the recursion limit of a reader."""
    head = dicom()[:132] + dicom()[132:].split(b"\x28\x00")[0][:60]
    opening = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return head + (opening + item) * 20_000


NOISE = np.random.default_rng(1).bytes(5000)
WRONG = {
    "no bytes": b"", "one byte": b"\0", "zeros": bytes(4096), "words": b"this is no image\n" * 9,
    "a web page": b"<!DOCTYPE html><html><body>404</body></html>",
    "a drawing": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "an entity bomb": b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaa">]><l>&a;&a;</l>',
    "a script": b"#!/bin/sh\nrm -rf /\n", "a PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "a pickle": b"\x80\x04\x95\x1e\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "PNG's first bytes": b"\x89PNG\r\n\x1a\n", "JPEG's first bytes": b"\xff\xd8\xff\xe0",
    "DICOM's first bytes": bytes(128) + b"DICM", "noise": NOISE,
    "DICOM and noise": bytes(128) + b"DICM" + NOISE, "PNG and noise": png()[:33] + NOISE,
}  # fmt: skip
for name, data in WRONG.items():
    image(name, data)
for form in ("BMP", "WEBP", "JPEG2000", "TGA", "PPM", "ICO"):
    image(f"{form} under PNG's name", lambda form=form: encoded(PIXELS, form))
image("a zip", zipped)
image("a packed image", lambda: gzip.compress(png()))
image("a bomb of zeros, packed", lambda: gzip.compress(bytes(50_000_000), 1))
image("text before the magic", lambda: b"\n" + png())
image("PNG's line ends changed", lambda: png().replace(b"\r\n", b"\n"))
for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.95):
    image(f"PNG cut at {share:.0%}", lambda share=share: png()[: int(len(png()) * share)])
    image(
        f"JPEG cut at {share:.0%}", lambda share=share: jpeg()[: int(len(jpeg()) * share)], ".jpg"
    )
    image(
        f"DICOM cut at {share:.0%}",
        lambda share=share: dicom()[: int(len(dicom()) * share)],
        ".dcm",
    )
for syntax, form in (
    (RLELossless, "RLE"),
    (JPEG2000Lossless, "JPEG 2000"),
    (JPEGLSLossless, "JPEG-LS"),
):
    for share in (0.3, 0.6):
        image(
            f"DICOM with {form} cut at {share:.0%}",
            lambda syntax=syntax, share=share: (lambda d: d[: int(len(d) * share)])(dicom(syntax)),
            ".dcm",
        )
for width, height in (
    (0, 9),
    (9, 0),
    (2**31 - 1, 2**31 - 1),
    (60_000, 60_000),
    (10**8, 2),
    (2, 10**8),
):
    image(f"PNG of {width} x {height}", lambda w=width, h=height: png_of(w, h))
image("PNG with an unknown filter", lambda: png_of(4, 4, body=b"\x09\0\0\0\0" * 4))
image("PNG of depth 7", lambda: png_of(4, 4, depth=7))
image("PNG of an unknown colour type", lambda: png_of(4, 4, colour=5))
image("PNG without pixels", lambda: png()[:33] + chunk(b"IEND", b""))
image("PNG with a bomb as comment", text_bomb)
image("PNG of 16 bits that is blank", lambda: png(np.full((40, 40), 7, np.uint16)))
for width, height in ((0, 40), (40, 0), (65_535, 65_535), (30_000, 30_000)):
    image(f"JPEG of {width} x {height}", lambda w=width, h=height: jpeg_claiming(w, h), ".jpg")
image("JPEG without tables", lambda: jpeg().replace(b"\xff\xdb", b"\xff\xef"), ".jpg")
image("JPEG without its start", lambda: jpeg()[2:], ".jpg")

FIELDS: dict[str, dict[str, object]] = {
    "0 rows": {"Rows": 0}, "0 columns": {"Columns": 0}, "no rows": {"Rows": None},
    "65535 x 65535 pixels": {"Rows": 65_535, "Columns": 65_535},
    "more rows than pixels": {"Rows": 4000}, "no pixels": {"PixelData": None},
    "half the pixels": {"PixelData": bytes(40 * 40)}, "a thousand frames": {"NumberOfFrames": 1000},
    "3 bits allocated": {"BitsAllocated": 3}, "no bits allocated": {"BitsAllocated": None},
    "64 bits in 16": {"BitsStored": 64},
    "no photometric interpretation": {"PhotometricInterpretation": None},
    "an unknown photometric interpretation": {"PhotometricInterpretation": "ULTRAVIOLET"},
    "7 samples": {"SamplesPerPixel": 7}, "no samples": {"SamplesPerPixel": None},
    "a palette that is missing": {"PhotometricInterpretation": "PALETTE COLOR"},
    "a slope that is no number": {"RescaleSlope": "nan", "RescaleIntercept": "0"},
    "an infinite slope": {"RescaleSlope": "1e400", "RescaleIntercept": "0"},
    "blank": {"PixelData": bytes(40 * 40 * 2)},
}  # fmt: skip
for name, changes in FIELDS.items():
    image(f"DICOM: {name}", lambda changes=changes: dicom(**changes), ".dcm")
SYNTAXES = {
    "a film": "1.2.840.10008.1.2.4.100", "an unknown syntax": "1.2.3.4.5",
    "deflated": "1.2.840.10008.1.2.1.99", "JPEG 2000 in name only": JPEG2000Lossless,
    "JPEG-LS in name only": JPEGLSLossless, "RLE in name only": RLELossless,
    "JPEG in name only": "1.2.840.10008.1.2.4.50", "big endian in name only": "1.2.840.10008.1.2.2",
}  # fmt: skip
for name, uid in SYNTAXES.items():
    image(f"DICOM: {name}", lambda uid=uid: renamed(uid), ".dcm")
image("DICOM: compressed at another size", lambda: dicom(JPEG2000Lossless, Rows=400), ".dcm")
image("DICOM: sequences 20,000 deep", nested_dicom, ".dcm")
