"""DICOM radiographs: pixels as a viewer shows them, and the few header fields that we keep.

`dicom_transfer_syntax` unpacks, `dicom_grey_levels` makes grey levels of what is stored. Every
transfer syntax of still images is read (JPEG lossless with the extra `dicom`; 12-bit JPEG is not),
of one frame. Colour becomes luma.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import apply_color_lut, pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian

from g2dbench.data.images.dicom_grey_levels import shown
from g2dbench.data.images.dicom_transfer_syntax import decoder, inflated
from g2dbench.data.tables.demographics import parse_age
from g2dbench.data.tables.files import open_file
from g2dbench.errors import BadData

LUMA = (0.299, 0.587, 0.114)

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
            source = _inflated(file)
            found = pydicom.dcmread(source, stop_before_pixels=True, specific_tags=_HEADER)
        texts = {name: str(found.get(name) or "").strip() for name in _HEADER}
    except Exception as error:  # see `decode`
        raise BadData(f"the DICOM header of {path} cannot be read: {error}") from error
    return Header(
        patient=texts["PatientID"] or None,
        study=texts["StudyInstanceUID"] or None,
        view=texts["ViewPosition"] or None,
        sex=texts["PatientSex"] or None,
        age=parse_age(texts["PatientAge"]),
    )


def decode(data: bytes, path: Path, max_pixels: int) -> NDArray[Any]:
    """(H, W) grey values, bright is dense: uint8 unchanged where 8-bit, float64 otherwise."""
    try:
        found = pydicom.dcmread(io.BytesIO(inflated(data)))
        _check_geometry(found, max_pixels)
        # The unused bits of a grey image are dropped later: padding may lie in them.
        is_grey = str(found.get("PhotometricInterpretation")).startswith("MONOCHROME")
        options = {"decoding_plugin": decoder(found), "correct_unused_bits": not is_grey}
        return _render(pixel_array(found, **options), found)
    except Exception as error:
        # A damaged file makes pydicom and its decoders raise anything, bare Exception included.
        raise BadData(f"the DICOM image {path} cannot be decoded: {error}") from error


def _inflated(file: BinaryIO) -> BinaryIO:
    """The same file, or a deflated one as it would be without; the others are not read whole."""
    is_deflated = DeflatedExplicitVRLittleEndian.encode() in file.read(HEAD)
    file.seek(0)
    return io.BytesIO(inflated(file.read())) if is_deflated else file


def _check_geometry(found: pydicom.Dataset, max_pixels: int) -> None:
    """Header size within bounds, and one frame."""
    height, width = int(found.get("Rows") or 0), int(found.get("Columns") or 0)
    if "PixelData" not in found and "FloatPixelData" not in found:
        raise BadData("it holds no pixels")
    if height < 1 or width < 1 or height * width > max_pixels:
        raise BadData(
            f"it claims {height} x {width} pixels; "
            f"g2dbench reads 1 to {max_pixels // 1_000_000} million"
        )
    if (frames := int(found.get("NumberOfFrames") or 1)) != 1:
        raise BadData(f"it holds {frames} frames; a radiograph has one")


def _render(pixels: NDArray[Any], found: pydicom.Dataset) -> NDArray[Any]:
    if str(found.get("PhotometricInterpretation")) == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, found)
    if pixels.ndim == 2:
        return shown(pixels, found)
    # Not a matrix product: the order in which BLAS adds depends on the processor.
    red, green, blue = (pixels[..., i] * share for i, share in enumerate(LUMA))
    luma: NDArray[Any] = red + green + blue
    return np.rint(luma).astype(np.uint8) if pixels.dtype == np.uint8 else luma
