"""Gray levels of DICOM files, compared with pydicom's functions and values computed by hand."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array
from support.data.radiographs import RAMP, lut, stretched, write_dicom

from g2dbench.data.images.image_file import read_image
from g2dbench.errors import BadData

DEEP = np.random.default_rng(0).integers(0, 4096, (32, 24), dtype=np.uint16)


def read_with_pydicom(path: Path) -> np.ndarray:
    """Gray levels of a file by pydicom's functions, stretched; MONOCHROME1 is inverted."""
    found = pydicom.dcmread(path)
    values = apply_modality_lut(pixel_array(found), found)
    if np.array_equal(values, np.rint(values)):
        values = values.astype(np.int64)
    values = apply_voi_lut(values, found).astype(np.float64)
    return stretched(-values if found.PhotometricInterpretation == "MONOCHROME1" else values)


def read(path: Path) -> np.ndarray:
    return read_image(path)[0]


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_every_depth_is_stretched(tmp_path: Path, bits: int, signed: bool, inverse: bool) -> None:
    low = -(2 ** (bits - 1)) if signed else 0
    generator = np.random.default_rng(bits)
    values = generator.integers(low, low + 2**bits, (16, 12)).astype(
        np.int16 if signed else np.uint16
    )
    kind = "MONOCHROME1" if inverse else "MONOCHROME2"
    path = write_dicom(tmp_path / "a.dcm", values, bits=bits, PhotometricInterpretation=kind)
    expected = stretched(-values.astype(int) if inverse else values.astype(int))
    np.testing.assert_array_equal(read(path), expected)
    np.testing.assert_array_equal(read(path), read_with_pydicom(path))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_eight_stored_bits_are_unchanged_whatever_is_allocated(tmp_path: Path, kind: type) -> None:
    path = write_dicom(tmp_path / "a.dcm", (RAMP // 2).astype(kind), bits=8)
    np.testing.assert_array_equal(read(path), RAMP // 2)


def test_eight_bit_monochrome1_is_inverted(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read(path), 255 - RAMP)


@pytest.mark.parametrize("signed", [False, True])
def test_bits_above_bits_stored_are_dropped_and_signs_kept(tmp_path: Path, signed: bool) -> None:
    low = -2048 if signed else 0
    values = np.random.default_rng(3).integers(low, low + 4096, (6, 8))
    overlay = np.where(np.eye(6, 8) > 0, 0xF000, 0)
    hidden = ((values & 0x0FFF) | overlay).astype(np.uint16)
    path = write_dicom(tmp_path / "a.dcm", hidden.view(np.int16) if signed else hidden, bits=12)
    np.testing.assert_array_equal(read(path), stretched(values))


def test_signed_bytes_are_stretched(tmp_path: Path) -> None:
    values = (RAMP.astype(int) - 120).astype(np.int8)
    path = write_dicom(tmp_path / "a.dcm", values)
    np.testing.assert_array_equal(read(path), stretched(values.astype(int)))


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("function", [None, "", "LINEAR", "LINEAR_EXACT", "SIGMOID", "sigmoid"])
@pytest.mark.parametrize("window", [(2000, 800), (0, 5000), ([1500, 9], [1000, 9]), (2000.5, 1.5)])
def test_windows_equal_those_of_pydicom(
    tmp_path: Path, window: tuple, function: str | None, inverse: bool
) -> None:
    kind = "MONOCHROME1" if inverse else "MONOCHROME2"
    fields = {} if function is None else {"VOILUTFunction": function}
    fields |= {"PhotometricInterpretation": kind, "RescaleSlope": 1.5, "RescaleIntercept": -1000}
    path = write_dicom(
        tmp_path / "a.dcm", DEEP, bits=12,
        WindowCenter=window[0], WindowWidth=window[1], **fields,
    )  # fmt: skip
    found = read(path)
    if function == "":
        write_dicom(
            path, DEEP, bits=12,
            WindowCenter=window[0], WindowWidth=window[1], **{**fields, "VOILUTFunction": "LINEAR"},
        )  # fmt: skip
    np.testing.assert_allclose(found.astype(int), read_with_pydicom(path).astype(int), atol=1)


def test_a_negative_slope_inverts_the_image_and_a_window_keeps_it_inverted(
    tmp_path: Path,
) -> None:
    values = np.array([[0, 100, 200, 300, 400]], np.uint16)
    slope = {"RescaleSlope": -1, "RescaleIntercept": 400}
    plain = write_dicom(tmp_path / "a.dcm", values, bits=12, **slope)
    assert read(plain).tolist() == [[255, 191, 128, 64, 0]]
    # Rescaled: 400 300 200 100 0. The window 200 -/+ 100: 1, 1, 0.5, 0, 0.
    window = {"WindowCenter": 200, "WindowWidth": 200, "VOILUTFunction": "LINEAR_EXACT"}
    path = write_dicom(tmp_path / "b.dcm", values, bits=12, **slope, **window)
    assert read(path).tolist() == [[255, 255, 128, 0, 0]]


def test_a_window_of_width_one_is_a_threshold(tmp_path: Path) -> None:
    values = np.array([[99, 100, 101, 102]], np.uint16)
    path = write_dicom(tmp_path / "a.dcm", values, bits=12, WindowCenter=101, WindowWidth=1)
    assert read(path).tolist() == [[0, 0, 255, 255]]


@pytest.mark.parametrize(
    ("center", "width", "function", "stays"),
    [
        (128, 256, "LINEAR", True), (127, 255, "LINEAR", True), (127.5, 255, "LINEAR_EXACT", True),
        (500, 5000, "LINEAR", True), (128, 100, "LINEAR", False), (50, 260, "LINEAR", False),
        (128, 256, "SIGMOID", False),
    ],
)  # fmt: skip
def test_a_window_keeps_eight_bit_levels_only_if_it_covers_them(
    tmp_path: Path, center: float, width: float, function: str, stays: bool
) -> None:
    values = np.arange(20, 240, 5, dtype=np.uint8).reshape(4, 11)
    path = write_dicom(
        tmp_path / "a.dcm", values,
        WindowCenter=center, WindowWidth=width, VOILUTFunction=function,
    )  # fmt: skip
    assert np.array_equal(read(path), values) == stays
    if not stays:
        np.testing.assert_allclose(
            read(path).astype(int), read_with_pydicom(path).astype(int), atol=1
        )


@pytest.mark.parametrize("name", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize("kind", ["US", "OW"])
def test_tables_equal_those_of_pydicom(tmp_path: Path, name: str, kind: str) -> None:
    entries = np.sort(np.random.default_rng(2).integers(0, 65536, 3000)).tolist()
    fields = {name: [lut(entries, 500, kind=kind)]}
    path = write_dicom(tmp_path / "a.dcm", DEEP, bits=12, **fields)
    np.testing.assert_array_equal(read(path), read_with_pydicom(path))


def test_tables_of_signed_values_begin_below_zero(tmp_path: Path) -> None:
    values = np.array([[-100, -2, -1, 0, 1, 100]], np.int16)
    table = lut([0, 10, 30, 100], -2)
    path = write_dicom(tmp_path / "a.dcm", values, VOILUTSequence=[table])
    # -2 -> 0, -1 -> 10, 0 -> 30, 1 -> 100; the ends hold beyond.
    assert read(path).tolist() == [[0, 0, 26, 76, 255, 255]]


def test_a_table_of_eight_bit_entries_does_not_wrap(tmp_path: Path) -> None:
    values = np.array([[0, 100, 255, 256, 2000, 4095]], np.uint16)
    entries = (np.arange(4096) // 16).tolist()
    path = write_dicom(tmp_path / "a.dcm", values, bits=12, VOILUTSequence=[lut(entries, 0, 8)])
    assert read(path).tolist() == [[0, 6, 15, 16, 125, 255]]


def test_eight_bit_entries_may_be_stored_as_bytes(tmp_path: Path) -> None:
    table = lut([0], 0, 8)
    table.LUTDescriptor = [4, 0, 8]
    table.add_new("LUTData", "OW", bytes([0, 51, 102, 255]))
    values = np.array([[0, 1, 2, 3]], np.uint16)
    path = write_dicom(tmp_path / "a.dcm", values, bits=12, VOILUTSequence=[table])
    assert read(path).tolist() == [[0, 51, 102, 255]]


def test_a_full_table_counts_65536_entries_as_zero(tmp_path: Path) -> None:
    table = lut([0], 0)
    table.LUTDescriptor = [0, 0, 16]
    table.add_new("LUTData", "OW", np.arange(65536)[::-1].astype("<u2").tobytes())
    values = np.array([[0, 32768, 65535]], np.uint16)
    path = write_dicom(tmp_path / "a.dcm", values, VOILUTSequence=[table])
    assert read(path).tolist() == [[255, 127, 0]]


def test_modality_comes_before_voi_and_a_table_before_a_window(tmp_path: Path) -> None:
    values = np.array([[0, 1, 2, 3]], np.uint16)
    path = write_dicom(
        tmp_path / "a.dcm", values, bits=12, ModalityLUTSequence=[lut([10, 20, 30, 40], 0)],
        VOILUTSequence=[lut([0, 100, 200, 1000], 19)], WindowCenter=5, WindowWidth=2,
    )  # fmt: skip
    # 10 20 30 40 become 0 (below 19), 100 (20 is the second entry), 1000 and 1000 (beyond 22).
    assert read(path).tolist() == [[0, 26, 255, 255]]


def test_padding_does_not_widen_the_range_of_levels(tmp_path: Path) -> None:
    values = np.array([[5, 6, 7, 1000, 1500, 2000]], np.uint16)
    path = write_dicom(tmp_path / "a.dcm", values, bits=12)
    found = pydicom.dcmread(path)
    found.add_new("PixelPaddingValue", "US", 7)
    found.add_new("PixelPaddingRangeLimit", "US", 5)
    for kind, expected in (
        ("MONOCHROME2", [0, 0, 0, 0, 128, 255]),
        ("MONOCHROME1", [0, 0, 0, 255, 128, 0]),
    ):
        found.PhotometricInterpretation = kind
        found.save_as(path)
        assert read(path).tolist() == [expected]


def test_an_image_of_padding_alone_is_blank(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.full((4, 4), 9, np.uint16), bits=12)
    found = pydicom.dcmread(path)
    found.add_new("PixelPaddingValue", "US", 9)
    found.save_as(path)
    with pytest.raises(BadData, match="blank"):
        read(path)


REFUSED = {
    "a short table": {"VOILUTSequence": [lut([1, 2, 3], 0)], "count": 4},
    "an unknown function": {
        "WindowCenter": 9, "WindowWidth": 9, "VOILUTFunction": "LOGARITHMIC",
    },
    "no width": {"WindowCenter": 9, "WindowWidth": 0},
    "a negative width": {"WindowCenter": 9, "WindowWidth": -4, "VOILUTFunction": "SIGMOID"},
    "an infinite slope": {"RescaleSlope": "1e400", "RescaleIntercept": 0},
    "a slope of nothing": {"RescaleSlope": 0, "RescaleIntercept": 7},
    "more bits stored than allocated": {"BitsStored": 17},
    "no bits stored": {"BitsStored": 0},
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_inconsistent_headers_are_refused(tmp_path: Path, name: str) -> None:
    fields = dict(REFUSED[name])
    if count := fields.pop("count", None):
        fields["VOILUTSequence"][0].LUTDescriptor = [count, 0, 16]
    path = write_dicom(tmp_path / "a.dcm", DEEP, bits=12, **fields)
    with pytest.raises(BadData, match=r"a\.dcm"):
        read(path)
