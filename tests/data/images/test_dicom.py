"""DICOM files: headers, transfer syntaxes, color, and malicious files."""

import contextlib
import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.pixels import apply_color_lut, convert_color_space, pixel_array
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from support.data.radiographs import RAMP, jpeg_bytes, lossless_jpeg, lut, stretched, write_dicom

from g2dbench.data.images import dicom_transfer_syntax
from g2dbench.data.images.dicom import read_header
from g2dbench.data.images.image_file import read_image
from g2dbench.data.tables.demographics import parse_age
from g2dbench.errors import BadData

OFFICIAL = Path(pydicom.__file__).parent / "data/test_files"
"""Files of other writers, which are part of the pydicom package."""

DEEP = np.random.default_rng(0).integers(0, 4096, (64, 48), dtype=np.uint16)

KINDS = (np.uint8, np.uint16, np.int16)


def read(path: Path) -> np.ndarray:
    return read_image(path)[0]


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
@pytest.mark.parametrize("kind", KINDS)
def test_uncompressed_syntaxes_give_the_same_pixels(
    tmp_path: Path, syntax: pydicom.uid.UID, kind: type
) -> None:
    values, entries = DEEP.astype(kind), np.arange(0, 60_000, 20)
    entry_bytes = entries.astype(">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes()
    table = lut(entries.tolist(), 50)
    fields = {"PatientID": "p", "VOILUTSequence": [table]}
    plain = write_dicom(tmp_path / "p.dcm", values, **fields)
    table.add_new("LUTData", "OW", entry_bytes)
    other = write_dicom(tmp_path / "o.dcm", values, syntax=syntax, **fields)
    np.testing.assert_array_equal(read(other), read(plain))
    assert read_header(other) == read_header(plain)


@pytest.mark.parametrize(
    ("syntax", "kind"),
    [
        *((syntax, kind) for syntax in (RLELossless, JPEG2000Lossless) for kind in KINDS),
        *((JPEGLSLossless, kind) for kind in (np.uint8, np.uint16)),  # pydicom writes no signed
    ],
)
def test_lossless_compression_gives_the_same_pixels(
    tmp_path: Path, syntax: pydicom.uid.UID, kind: type
) -> None:
    values = DEEP.astype(kind)
    values = values - np.int16(2000) if kind is np.int16 else values
    bits = 8 * values.dtype.itemsize if kind is np.uint8 else 13
    plain = read(write_dicom(tmp_path / "p.dcm", values, bits=bits))
    packed = read(write_dicom(tmp_path / "c.dcm", values, bits=bits, syntax=syntax))
    np.testing.assert_array_equal(plain, packed)


def test_lossless_jpeg_gives_the_same_pixels(tmp_path: Path) -> None:
    pytest.importorskip("gdcm")
    path = write_dicom(
        tmp_path / "a.dcm", DEEP, bits=12, syntax=JPEGLosslessSV1, coded=lossless_jpeg(DEEP)
    )
    np.testing.assert_array_equal(read(path), stretched(DEEP))
    other = read(OFFICIAL / "SC_rgb_jpeg_gdcm.dcm")
    np.testing.assert_array_equal(other, read(OFFICIAL / "SC_rgb_rle.dcm"))


def test_the_error_of_lossless_jpeg_names_the_missing_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom_transfer_syntax, "find_spec", lambda name: None)
    path = write_dicom(
        tmp_path / "a.dcm", DEEP, bits=12, syntax=JPEGLosslessSV1, coded=lossless_jpeg(DEEP)
    )
    with pytest.raises(BadData, match=r"g2dbench\[dicom\]"):
        read(path)


@pytest.mark.parametrize("syntax", [JPEG2000, JPEGLSNearLossless])
def test_lossy_compression_is_close_to_the_original(
    tmp_path: Path, syntax: pydicom.uid.UID
) -> None:
    smooth = np.add.outer(np.arange(64), np.arange(48)).astype(np.uint16) * 30
    path = write_dicom(tmp_path / "a.dcm", smooth, bits=12, syntax=syntax)
    np.testing.assert_allclose(read(path).astype(int), stretched(smooth).astype(int), atol=2)


def test_baseline_jpeg_is_decoded_as_by_pillow(tmp_path: Path) -> None:
    coded = jpeg_bytes(DEEP.astype(np.uint8), quality=90)
    path = write_dicom(
        tmp_path / "a.dcm", DEEP.astype(np.uint8), syntax=JPEGBaseline8Bit, coded=coded
    )
    (tmp_path / "a.jpg").write_bytes(coded)
    np.testing.assert_array_equal(read(path), read(tmp_path / "a.jpg"))


MR_SMALL_ENCODINGS = ("RLE", "bigendian", "expb", "implicit", "jp2klossless", "jpeg_ls_lossless")


@pytest.mark.parametrize("name", MR_SMALL_ENCODINGS)
def test_official_files_of_one_image_are_the_same(name: str) -> None:
    expected = read(OFFICIAL / "MR_small.dcm")
    np.testing.assert_array_equal(read(OFFICIAL / f"MR_small_{name}.dcm"), expected)


def test_an_official_deflated_file_is_read_as_by_pydicom() -> None:
    path = OFFICIAL / "image_dfl.dcm"
    np.testing.assert_array_equal(read(path), pydicom.dcmread(path).pixel_array)


@pytest.mark.parametrize("name", ["JPEG-lossy", "JPGExtended"])
def test_twelve_bit_jpeg_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(BadData, match="JPEG of 12 bits"):
        read(OFFICIAL / f"{name}.dcm")


def test_a_deflated_bomb_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_transfer_syntax, "MAX_INFLATED", 10_000)
    path = write_dicom(
        tmp_path / "a.dcm", np.zeros((200, 200), np.uint8), syntax=DeflatedExplicitVRLittleEndian
    )
    for act in (read, read_header):
        with pytest.raises(BadData, match=r"a\.dcm.*inflates to more than"):
            act(path)


def luma(color: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(color).convert("L")).astype(int)


@pytest.mark.parametrize("kind", ["RGB", "YBR_FULL"])
@pytest.mark.parametrize("planar", [0, 1])
def test_colour_becomes_luma(tmp_path: Path, planar: int, kind: str) -> None:
    color = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    path = write_dicom(tmp_path / "a.dcm", color)
    found = pydicom.dcmread(path)
    found.PlanarConfiguration, found.PhotometricInterpretation = planar, kind
    found.PixelData = (color.transpose(2, 0, 1) if planar else color).tobytes()
    found.save_as(path)
    if kind != "RGB":
        color = convert_color_space(color, kind, "RGB")
    np.testing.assert_allclose(read(path).astype(int), luma(color), atol=1)


RGB_FILES = (
    "SC_rgb_rle", "SC_rgb_rle_16bit", "SC_ybr_full_422_uncompressed", "SC_rgb_gdcm_KY",
    "SC_rgb_dcmtk_+eb+cr", "SC_rgb_dcmtk_+eb+cy+np", "SC_rgb_jls_lossy_line",
    "SC_rgb_small_odd", "SC_rgb_small_odd_big_endian", "SC_rgb_small_odd_jpeg",
)  # fmt: skip


@pytest.mark.parametrize("name", RGB_FILES)
def test_official_colour_files_become_luma(name: str) -> None:
    path = OFFICIAL / f"{name}.dcm"
    found = pydicom.dcmread(path)
    color = pixel_array(found)
    if color.dtype == np.uint16:
        color = (color >> 8).astype(np.uint8)
    np.testing.assert_allclose(read(path).astype(int), luma(color), atol=1)


def test_an_official_palette_becomes_luma() -> None:
    path = OFFICIAL / "examples_palette.dcm"
    found = pydicom.dcmread(path)
    color = apply_color_lut(found.pixel_array, found).astype(np.float64)
    expected = stretched(color @ np.array([0.299, 0.587, 0.114]))
    np.testing.assert_array_equal(read(path), expected)


def test_several_frames_are_refused() -> None:
    with pytest.raises(BadData, match="holds 30 frames; a radiograph has one"):
        read(OFFICIAL / "examples_ybr_color.dcm")


def test_no_file_of_pydicom_raises_another_error() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in sorted(OFFICIAL.glob("*.dcm")):
            if path.stat().st_size < 200_000:
                with contextlib.suppress(BadData):
                    assert read(path).dtype == np.uint8
                with contextlib.suppress(BadData):
                    read_header(path)


BROKEN_DICOM = {
    "rows": {"Rows": 0},
    "bomb": {"Rows": 60000, "Columns": 60000},
    "more": {"Rows": 7},
    "frames": {"NumberOfFrames": 3},
    "depth": {"BitsStored": None},
    "deflated": {"syntax": JPEG2000Lossless, "coded": zlib.compress(bytes(99))},
    "empty": {"syntax": JPEGBaseline8Bit, "coded": b"\xff\xd8\xff\xd9"},
}


@pytest.mark.parametrize("name", BROKEN_DICOM)
def test_broken_dicom_is_bad_data_that_names_it(tmp_path: Path, name: str) -> None:
    path = write_dicom(tmp_path / f"{name}.dcm", RAMP.astype(np.uint16), **BROKEN_DICOM[name])
    with pytest.raises(BadData, match=f"{name}.dcm"):
        read(path)


def test_a_compressed_image_larger_than_its_header_is_refused(tmp_path: Path) -> None:
    for syntax in (JPEG2000Lossless, JPEGLSLossless):
        path = write_dicom(tmp_path / "b.dcm", DEEP, bits=12, syntax=syntax, Rows=8, Columns=8)
        with pytest.raises(BadData, match="compressed image 64 x 48"):
            read(path)
    coded = lossless_jpeg(DEEP)
    path = write_dicom(tmp_path / "b.dcm", DEEP[:8], bits=12, syntax=JPEGLosslessSV1, coded=coded)
    with pytest.raises(BadData, match="compressed image 64 x 48"):
        read(path)


def test_pixels_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "nan.dcm", RAMP.astype(np.uint16))
    found = pydicom.dcmread(path)
    values = RAMP.astype(np.float32)
    values[1, 1] = np.nan
    del found.PixelData
    found.FloatPixelData, found.BitsAllocated = values.tobytes(), 32
    found.save_as(path)
    with pytest.raises(BadData, match="not finite"):
        read(path)


@pytest.mark.parametrize(
    ("text", "years"),
    [("051Y", 51), ("51", 51), ("018M", 1.5), ("", None), ("x", None), ("000Y", 0)],
)
def test_ages_in_every_spelling(text: str, years: float | None) -> None:
    assert parse_age(text) == years


def test_a_header_is_read_without_its_pixels(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP, PatientID="p", PatientSex="F", ViewPosition="PA")
    header = read_header(path)
    assert (header.patient, header.sex, header.view, header.study) == ("p", "F", "PA", None)


def test_real_dicom_files_show_the_lungs_darker_than_the_spine(real_data: Path) -> None:
    files = sorted((real_data / "real/dicom").glob("*.dcm"))
    assert len(files) == 2
    for file in files:
        pixels, original = read_image(file, 256)
        height, width = pixels.shape
        assert min(height, width) == 256
        assert original in ((1024, 1024), (1955, 1841))
        row = pixels[int(height * 0.35) : int(height * 0.5)]
        lungs = [row[:, int(width * at) : int(width * (at + 0.1))].mean() for at in (0.25, 0.65)]
        spine = row[:, int(width * 0.45) : int(width * 0.52)].mean()
        assert spine > max(lungs) + 20
