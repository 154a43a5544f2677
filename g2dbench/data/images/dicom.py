"""DICOM radiographs: pixels as a viewer displays them, and the header fields that g2dbench uses.

`dicom_transfer_syntax` decompresses, `dicom_gray_levels` converts stored values to gray levels.
Every transfer syntax of still images is read except 12-bit JPEG; JPEG lossless needs the extra
`dicom`. The file must hold one frame. Color images are converted to luma.
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

from g2dbench.data.images.dicom_gray_levels import to_displayed_levels
from g2dbench.data.images.dicom_transfer_syntax import choose_decoder, inflate
from g2dbench.data.tables.demographics import parse_age
from g2dbench.data.tables.files import open_file
from g2dbench.errors import BadData

LUMA_WEIGHTS = (0.299, 0.587, 0.114)

SYNTAX_SEARCH_BYTES = 4096
"""Bytes at the start of a file in which its transfer syntax is searched."""

_HEADER_FIELDS = ["PatientID", "PatientSex", "PatientAge", "ViewPosition", "StudyInstanceUID"]


@dataclass(frozen=True)
class Header:
    """Header fields of a radiograph; None where a field is empty. age: in years."""

    patient: str | None
    study: str | None
    view: str | None
    sex: str | None
    age: float | None


def read_header(path: Path) -> Header:
    """Read the header without the pixels; BadData if the file is not a DICOM file."""
    try:
        with open_file(path) as file:
            source = _inflate_file(file)
            dataset = pydicom.dcmread(source, stop_before_pixels=True, specific_tags=_HEADER_FIELDS)
        texts = {name: str(dataset.get(name) or "").strip() for name in _HEADER_FIELDS}
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
    """Decode the (H, W) gray values of a file; dense tissue is bright.

    8-bit images keep their values as uint8; all others are float64. `path` only names the file in
    errors. BadData if the pixels cannot be decoded.
    """
    try:
        dataset = pydicom.dcmread(io.BytesIO(inflate(data)))
        _check_geometry(dataset, max_pixels)
        # The unused bits of a gray image are dropped later: padding may lie in them.
        is_gray = str(dataset.get("PhotometricInterpretation")).startswith("MONOCHROME")
        options = {"decoding_plugin": choose_decoder(dataset), "correct_unused_bits": not is_gray}
        return _render(pixel_array(dataset, **options), dataset)
    except Exception as error:
        # A damaged file makes pydicom and its decoders raise anything, bare Exception included.
        raise BadData(f"the DICOM image {path} cannot be decoded: {error}") from error


def _inflate_file(file: BinaryIO) -> BinaryIO:
    """Return a deflated file decompressed; other files are returned as they are, unread."""
    is_deflated = DeflatedExplicitVRLittleEndian.encode() in file.read(SYNTAX_SEARCH_BYTES)
    file.seek(0)
    return io.BytesIO(inflate(file.read())) if is_deflated else file


def _check_geometry(dataset: pydicom.Dataset, max_pixels: int) -> None:
    """BadData unless the size in the header is within bounds and there is one frame."""
    height, width = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if "PixelData" not in dataset and "FloatPixelData" not in dataset:
        raise BadData("it holds no pixels")
    if height < 1 or width < 1 or height * width > max_pixels:
        raise BadData(
            f"it claims {height} x {width} pixels; "
            f"g2dbench reads 1 to {max_pixels // 1_000_000} million"
        )
    if (frames := int(dataset.get("NumberOfFrames") or 1)) != 1:
        raise BadData(f"it holds {frames} frames; a radiograph has one")


def _render(pixels: NDArray[Any], dataset: pydicom.Dataset) -> NDArray[Any]:
    """Convert decoded pixels, (H, W) or (H, W, 3), to (H, W) gray values."""
    if str(dataset.get("PhotometricInterpretation")) == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, dataset)
    if pixels.ndim == 2:
        return to_displayed_levels(pixels, dataset)
    # Not a matrix product: the order in which BLAS adds depends on the processor.
    red, green, blue = (pixels[..., i] * weight for i, weight in enumerate(LUMA_WEIGHTS))
    luma: NDArray[Any] = red + green + blue
    return np.rint(luma).astype(np.uint8) if pixels.dtype == np.uint8 else luma
