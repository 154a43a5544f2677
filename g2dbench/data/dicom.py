"""DICOM radiographs: pixels as a viewer shows them, and the few header fields that we keep.

Order of operations (DICOM PS3.3 C.7.6.3, C.11): decode, mask to BitsStored, Modality LUT or
rescale, VOI LUT or window, invert MONOCHROME1. An 8-bit image without any of these keeps its
values; a window of 255 or more covers an 8-bit image and changes nothing.
"""

import io
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.encaps import get_frame
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from g2dbench.data.reading import open_file
from g2dbench.errors import BadData

LUMA = np.array([0.299, 0.587, 0.114])

HEAD = 4096
"""Bytes in which a file names its transfer syntax."""

_HEADER = ["PatientID", "PatientSex", "PatientAge", "ViewPosition", "StudyInstanceUID"]


@dataclass(frozen=True)
class Header:
    """Header fields of a radiograph; None where empty. age in years."""

    patient: str | None
    study: str | None
    view: str | None
    sex: str | None
    age: float | None


def read_header(path: Path) -> Header:
    """The header alone, without touching the pixels; BadData if it is no DICOM file."""
    try:
        with open_file(path) as file:
            _refuse_deflated(file.read(HEAD), path)
            file.seek(0)
            found = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_HEADER)
        texts = {name: str(found.get(name) or "").strip() for name in _HEADER}
    except BadData:
        raise
    except Exception as error:  # see `decode`
        raise BadData(f"the DICOM header of {path} cannot be read: {error}") from error
    return Header(
        patient=texts["PatientID"] or None,
        study=texts["StudyInstanceUID"] or None,
        view=texts["ViewPosition"] or None,
        sex=texts["PatientSex"] or None,
        age=parse_age(texts["PatientAge"]),
    )


def parse_age(text: str) -> float | None:
    """Years of a DICOM age: `051Y`, `18M`, `3W`, `10D`, or the bare `51` that RSNA writes."""
    match = re.fullmatch(r"(\d{1,3})([YMWD]?)", text.strip().upper())
    if match is None:
        return None
    per_year = {"Y": 1.0, "": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25}
    return int(match[1]) / per_year[match[2]]


def decode(data: bytes, path: Path, max_pixels: int) -> NDArray[Any]:
    """(H, W) grey values, bright is dense: uint8 unchanged where 8-bit, float64 otherwise."""
    try:
        _refuse_deflated(data, path)
        found = pydicom.dcmread(io.BytesIO(data))
        _check_geometry(found, path, max_pixels)
        return _render(found)
    except BadData:
        raise
    except Exception as error:
        # A damaged file makes pydicom and its decoders raise anything, bare Exception included.
        raise BadData(f"the DICOM image {path} cannot be decoded: {error}") from error


def _refuse_deflated(head: bytes, path: Path) -> None:
    """A deflated file inflates without bound before anything can be checked."""
    if DeflatedExplicitVRLittleEndian.encode() in head[:HEAD]:
        raise BadData(f"{path} is a deflated DICOM file; rewrite it, for example with dcmconv")


def _check_geometry(found: pydicom.Dataset, path: Path, max_pixels: int) -> None:
    """Header size within bounds, one frame, and the compressed image of the same size."""
    height, width = int(found.get("Rows") or 0), int(found.get("Columns") or 0)
    if "PixelData" not in found and "FloatPixelData" not in found:
        raise BadData(f"the DICOM file {path} holds no pixels")
    if height < 1 or width < 1 or height * width > max_pixels:
        raise BadData(
            f"the DICOM file {path} claims {height} x {width} pixels; "
            f"g2dbench reads 1 to {max_pixels // 1_000_000} million"
        )
    if (frames := int(found.get("NumberOfFrames") or 1)) != 1:
        raise BadData(f"the DICOM file {path} holds {frames} frames; a radiograph has one")
    syntax = found.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or syntax == RLELossless:
        return
    inner = _coded_size(get_frame(found.PixelData, 0, number_of_frames=1))
    if inner != (height, width):
        raise BadData(
            f"the DICOM file {path} claims {height} x {width} pixels, "
            f"its compressed image {inner[0]} x {inner[1]}"
        )


def _coded_size(frame: bytes) -> tuple[int, int]:
    """(H, W) that a JPEG, JPEG 2000 or JPEG-LS stream itself declares."""
    at = frame.find(b"\xff\xf7")
    if frame[:2] == b"\xff\xd8" and 0 < at < 1024 and at + 9 <= len(frame):
        height, width = struct.unpack_from(">HH", frame, at + 5)
        return height, width
    if frame[:2] == b"\xff\xd8" and (at := frame.find(b"\xff\xc3")) > 0:
        height, width = struct.unpack_from(">HH", frame, at + 5)
        return height, width
    with Image.open(io.BytesIO(frame), formats=("JPEG", "JPEG2000")) as picture:
        return picture.height, picture.width


def _render(found: pydicom.Dataset) -> NDArray[Any]:
    pixels = pixel_array(found)
    kind = str(found.get("PhotometricInterpretation") or "")
    if kind == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, found)
    if pixels.ndim == 3:
        luma: NDArray[Any] = pixels[..., :3] @ LUMA
        return np.rint(luma).astype(np.uint8) if pixels.dtype == np.uint8 else luma
    pixels = _mask_bits(pixels, found)
    padding = _padding(pixels, found)
    shown = _look_up(pixels, found)
    if kind == "MONOCHROME1":
        shown = _inverted(shown, padding)
    if padding.any() and not padding.all():
        shown[padding] = shown[~padding].min()
    return shown


def _mask_bits(pixels: NDArray[Any], found: pydicom.Dataset) -> NDArray[Any]:
    """Drop what old files hide above BitsStored (overlays); extend the sign of signed ones."""
    if pixels.dtype.kind not in "iu":
        return pixels
    spare = pixels.dtype.itemsize * 8 - int(found.BitsStored)
    return pixels if spare <= 0 else (pixels << spare) >> spare


def _padding(pixels: NDArray[Any], found: pydicom.Dataset) -> NDArray[np.bool_]:
    """Pixels that the scanner filled in; they must not stretch the range of the others."""
    value = found.get("PixelPaddingValue")
    if value is None or pixels.dtype == np.uint8:
        return np.zeros(pixels.shape, dtype=bool)
    return np.asarray(pixels == int(value))


def _look_up(pixels: NDArray[Any], found: pydicom.Dataset) -> NDArray[Any]:
    """Modality then VOI transformation; 8-bit values stay where neither does anything."""
    rescaled = found.get("ModalityLUTSequence") or (
        float(found.get("RescaleSlope", 1)) != 1 or float(found.get("RescaleIntercept", 0)) != 0
    )
    eight = pixels.dtype == np.uint8 and int(found.BitsStored) == 8
    if rescaled:
        pixels = apply_modality_lut(pixels, found)
        if np.array_equal(pixels, np.rint(pixels)):
            pixels = pixels.astype(np.int64)
    elif eight and not found.get("VOILUTSequence") and _window(found) >= 255:
        return pixels
    return np.asarray(apply_voi_lut(pixels, found), dtype=np.float64)


def _window(found: pydicom.Dataset) -> float:
    """The width of the first window; infinite where there is none."""
    width = found.get("WindowWidth")
    if width is None or found.get("WindowCenter") is None:
        return float("inf")
    return float(width[0] if found["WindowWidth"].VM > 1 else width)


def _inverted(shown: NDArray[Any], padding: NDArray[np.bool_]) -> NDArray[Any]:
    if shown.dtype == np.uint8:
        return 255 - shown
    inside = shown[~padding]
    return inside.max() + inside.min() - shown if inside.size else shown
