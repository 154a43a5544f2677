"""Header values in a number format other than the pixels': padding, tables, stored bits."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from g2dbench.data.images.image_file import read_image

VALUE, LIMIT = 0x00280120, 0x00280121


def dicom(path: Path, pixels: np.ndarray, bits: int, syntax: str, **fields: Any) -> Path:
    found = pydicom.Dataset()
    found.SOPClassUID, found.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", generate_uid()
    found.file_meta = pydicom.dataset.FileMetaDataset()
    found.file_meta.TransferSyntaxUID = syntax
    found.Rows, found.Columns = pixels.shape
    found.SamplesPerPixel, found.PhotometricInterpretation = 1, "MONOCHROME2"
    found.PixelRepresentation = int(pixels.dtype.kind == "i")
    found.BitsAllocated, found.BitsStored = pixels.dtype.itemsize * 8, bits
    found.HighBit = bits - 1
    for name, value in fields.items():
        if isinstance(value, DataElement):
            found.add(value)
        else:
            setattr(found, name, value)
    found.PixelData = pixels.tobytes()
    found["PixelData"].VR = "OW"
    found.save_as(path, enforce_file_format=True)
    return path


def displayed(path: Path) -> list[int]:
    return read_image(path)[0].ravel().tolist()


def stretched(levels: list[float]) -> list[int]:
    """Values scaled to 8 bits: the smallest becomes 0, the largest 255."""
    values = np.array(levels, float)
    return np.rint((values - values.min()) / (values.max() - values.min()) * 255).tolist()


SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
PADDED = [
    # pixels, bits stored, (VR, value) of the padding, (VR, value) of its limit, padded pixels
    ([-2000, -900, 0, 900], 16, ("SS", -2000), None, 1),
    ([-2000, -900, 0, 900], 16, ("US", 63536), None, 1),
    ([-2000, -900, 0, 900], 12, ("US", 63536), None, 1),
    ([-2000, -900, 0, 900], 12, ("US", 2096), None, 1),
    ([-2000, -1990, -900, 900], 16, ("US", 63536), ("SS", -1990), 2),
    ([-2000, -1990, -900, 900], 16, ("SS", -2000), ("US", 63546), 2),
    ([-32768, -900, 0, 900], 16, ("US", 32768), None, 1),
    ([0, 900, 1000, 4095], 12, ("US", 0), None, 1),
]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(("pixels", "bits", "value", "limit", "count"), PADDED)
def test_padding_is_the_same_number_in_either_format(
    tmp_path: Path, syntax: str, pixels: list[int], bits: int, value: Any, limit: Any, count: int
) -> None:
    kind = np.int16 if min(pixels) < 0 else np.uint16
    stored = np.array([pixels], kind) & np.array((1 << bits) - 1).astype(kind)
    fields = {"PixelPaddingValue": DataElement(VALUE, *value)}
    if limit is not None:
        fields["PixelPaddingRangeLimit"] = DataElement(LIMIT, *limit)
    path = dicom(tmp_path / "a.dcm", stored, bits, syntax, **fields)
    rest = stretched([float(pixel) for pixel in pixels[count:]])
    assert displayed(path) == [0] * count + rest


@pytest.mark.parametrize("value", [("US", 65534), ("SS", -2)])
def test_unsigned_padding_written_as_signed(tmp_path: Path, value: Any) -> None:
    pixels = np.array([[65534, 100, 200, 300]], np.uint16)
    element = DataElement(VALUE, *value)
    path = dicom(tmp_path / "a.dcm", pixels, 16, ExplicitVRLittleEndian, PixelPaddingValue=element)
    assert displayed(path) == [0, *stretched([100, 200, 300])]


def test_padding_beyond_the_stored_bits_is_no_real_level(tmp_path: Path) -> None:
    # 65535 reduced to 12 bits is 4095, the level of an overexposed pixel.
    pixels = np.array([[65535, 4095, 0, 2000]], np.uint16)
    element = DataElement(VALUE, "US", 65535)
    path = dicom(tmp_path / "a.dcm", pixels, 12, ExplicitVRLittleEndian, PixelPaddingValue=element)
    assert displayed(path) == [0, *stretched([4095, 0, 2000])]


def test_padding_as_bytes_of_unknown_format(tmp_path: Path) -> None:
    pixels = np.array([[-2000, -900, 0, 900]], np.int16)
    element = DataElement(VALUE, "UN", (63536).to_bytes(2, "little"))
    path = dicom(tmp_path / "a.dcm", pixels, 16, ExplicitVRLittleEndian, PixelPaddingValue=element)
    assert displayed(path) == [0, *stretched([-900, 0, 900])]


def table(first: int, entries: list[int], form: str) -> pydicom.Dataset:
    found = pydicom.Dataset()
    found.add(DataElement(0x00283002, form, [len(entries), first, 16]))
    found.add(DataElement(0x00283006, "US", entries))
    return found


FIRST = [
    # signed pixels?, intercept, VR and first input of the table
    (True, None, "SS", -3), (True, None, "US", 65533), (False, -103, "US", 65533),
    (False, -103, "SS", -3), (False, None, "US", 100), (False, None, "SS", 100),
]  # fmt: skip


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(("signed", "intercept", "form", "first"), FIRST)
def test_a_tables_first_input_is_the_same_number_in_either_format(
    tmp_path: Path, syntax: str, signed: bool, intercept: int | None, form: str, first: int
) -> None:
    start = -3 if signed else 100
    pixels = np.array([[start + step for step in (-9, 0, 1, 2, 3, 9)]])
    pixels = (pixels.astype(np.int16) & 0xFFF) if signed else pixels.astype(np.uint16)
    rescale = {} if intercept is None else {"RescaleSlope": 1, "RescaleIntercept": intercept}
    lut = table(first, [10, 70, 20, 60], form)
    path = dicom(tmp_path / "a.dcm", pixels, 12, syntax, VOILUTSequence=[lut], **rescale)
    assert displayed(path) == stretched([10, 10, 70, 20, 60, 60])


def test_high_unsigned_inputs_of_a_table_are_not_taken_for_negative_ones(tmp_path: Path) -> None:
    pixels = np.array([[39999, 40000, 40001, 40002, 50000]], np.uint16)
    lut = table(40000, [10, 70, 20], "US")
    path = dicom(tmp_path / "a.dcm", pixels, 16, ExplicitVRLittleEndian, VOILUTSequence=[lut])
    assert displayed(path) == stretched([10, 10, 70, 20, 20])


def test_signed_entries_of_a_table_are_unsigned(tmp_path: Path) -> None:
    lut = pydicom.Dataset()
    lut.add(DataElement(0x00283002, "US", [3, 0, 16]))
    lut.add(DataElement(0x00283006, "SS", [0, 32767, -1]))
    pixels = np.array([[0, 1, 2]], np.uint16)
    path = dicom(tmp_path / "a.dcm", pixels, 12, ExplicitVRLittleEndian, VOILUTSequence=[lut])
    assert displayed(path) == [0, 127, 255]


def test_bits_at_the_upper_end_of_a_word(tmp_path: Path) -> None:
    values = np.array([[0, 1000, 4095]], np.uint16)
    noise = np.array([[3, 15, 7]], np.uint16)  # an overlay below the stored bits
    path = dicom(
        tmp_path / "a.dcm", (values << 4) | noise, 12, ExplicitVRLittleEndian, HighBit=15,
        WindowCenter=2048, WindowWidth=4096,
    )  # fmt: skip
    assert displayed(path) == stretched([0, 1000, 4095])
