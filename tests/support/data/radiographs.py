"""DICOM files for tests, written field by field."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000, ExplicitVRLittleEndian, JPEGLSNearLossless

RAMP = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5

_LOSSY = {JPEG2000: {"j2k_psnr": [70]}, JPEGLSNearLossless: {"jls_error": 1}}


def write_dicom(
    path: Path,
    pixels: np.ndarray,
    *,
    bits: int | None = None,
    syntax: str | None = None,
    coded: bytes | None = None,
    **fields: object,
) -> Path:
    """Pixels (H, W) or (H, W, 3) with these header fields.

    syntax: compressed by pydicom's encoder, or for uncompressed syntaxes written so; coded: the
    compressed image where pydicom has no encoder.
    """
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    found = Dataset()
    found.file_meta = meta
    found.SOPClassUID, found.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    found.Rows, found.Columns = pixels.shape[:2]
    found.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    found.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    found.BitsAllocated = pixels.dtype.itemsize * 8
    found.BitsStored = bits or found.BitsAllocated
    found.HighBit = found.BitsStored - 1
    found.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.ndim == 3:
        found.PlanarConfiguration = 0
    found.PixelData = pixels.tobytes()
    found["PixelData"].VR = "OB" if found.BitsAllocated == 8 else "OW"
    if coded is not None:
        found.PixelData = encapsulate([coded])
        found["PixelData"].VR, meta.TransferSyntaxUID = "OB", syntax
    elif syntax is not None and syntax.is_compressed:
        found.compress(syntax, **_LOSSY.get(syntax, {}))
    elif syntax is not None:
        meta.TransferSyntaxUID = syntax
        if not syntax.is_little_endian:
            found.PixelData = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    for name, value in fields.items():
        setattr(found, name, value)
    written = meta.TransferSyntaxUID
    dcmwrite(
        path, found, enforce_file_format=True,
        implicit_vr=written.is_implicit_VR, little_endian=written.is_little_endian,
    )  # fmt: skip
    return path


def lut(entries: list[int], first: int, bits: int = 16, kind: str = "US") -> Dataset:
    """An item of a Modality or VOI LUT sequence; first is signed where it is negative."""
    table = Dataset()
    signed = "SS" if first < 0 else "US"
    table.add_new("LUTDescriptor", signed, [len(entries), first, bits])
    words = np.array(entries, "<u2").tobytes()
    table.add_new("LUTData", kind, entries if kind == "US" else words)
    return table


def jpeg_bytes(pixels: np.ndarray, form: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def lossless_jpeg(pixels: np.ndarray) -> bytes:
    """(H, W) uint16 as JPEG lossless, process 14 with selection value 1: the left neighbour.

    One table whose 17 codes have 5 bits each, written down from ITU-T T.81, annex H.
    """
    height, width = pixels.shape
    codes = bytes([0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    head = b"\xff\xd8"
    head += b"\xff\xc3\x00\x0b\x10" + height.to_bytes(2, "big") + width.to_bytes(2, "big")
    head += b"\x01\x01\x11\x00"
    head += b"\xff\xc4" + (3 + len(codes)).to_bytes(2, "big") + b"\x00" + codes
    head += b"\xff\xda\x00\x08\x01\x01\x00\x01\x00\x00"
    values = pixels.astype(int)
    guess = np.empty_like(values)
    guess[:, 1:] = values[:, :-1]
    guess[1:, 0] = values[:-1, 0]
    guess[0, 0] = 2**15
    bits = "".join(_difference(int(step)) for step in (values - guess).ravel())
    bits += "1" * (-len(bits) % 8)
    body = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    return head + body + b"\xff\xd9"


def _difference(step: int) -> str:
    step = (step + 2**15) % 2**16 - 2**15
    size = abs(step).bit_length()
    if size in (0, 16):  # 32768 needs no bits beside its size
        return f"{size:05b}"
    return f"{size:05b}{step if step > 0 else step + 2**size - 1:0{size}b}"


def png_claiming(
    width: int, height: int, raw: bytes = bytes(1000), bits: int = 8, colour: int = 0, lace: int = 0
) -> bytes:
    """A PNG whose header says this, and whose data are `raw`, a filter byte before each row."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, lace)
    body = zlib.compress(raw)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def stretched(values: np.ndarray) -> np.ndarray:
    """From minimum to maximum as 0 to 255, as deep images are stored."""
    low, high = float(values.min()), float(values.max())
    return np.rint((values - low) / (high - low) * 255).astype(np.uint8)
