"""Image decoding: what becomes of each kind of file, and of files made to do harm."""

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from g2dbench.data.dicom import parse_age, read_header
from g2dbench.data.image import MAX_PIXELS, read_image, shrink
from g2dbench.errors import BadData

RAMP = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def write_dicom(path: Path, pixels: np.ndarray, *, bits: int | None = None, **fields) -> Path:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    found = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
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
    syntax = fields.pop("syntax", None)
    if syntax in (RLELossless, JPEGLSLossless):
        found.compress(syntax)
    elif syntax == JPEG2000Lossless:
        found.PixelData = encapsulate([jpeg2000_bytes(pixels)])
        found["PixelData"].VR, meta.TransferSyntaxUID = "OB", syntax
    elif syntax is not None:
        meta.TransferSyntaxUID = syntax
    for name, value in fields.items():
        setattr(found, name, value)
    found.save_as(path, enforce_file_format=True)
    return path


def jpeg2000_bytes(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG2000", irreversible=False, no_jp2=True)
    return buffer.getvalue()


def write_png(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path)
    return path


def stretched(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    return np.rint((values - low) / (high - low) * 255).astype(np.uint8)


@pytest.mark.parametrize("name", ["a.png", "a.dcm"])
def test_eight_bits_pass_unchanged_in_full_size(tmp_path: Path, name: str) -> None:
    write = write_png if name.endswith("png") else write_dicom
    pixels, original = read_image(write(tmp_path / name, RAMP))
    assert original == (6, 8)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, RAMP)


@pytest.mark.parametrize("bits", [10, 12, 15, 16])
def test_deeper_images_reach_255_at_their_maximum_and_never_wrap(tmp_path: Path, bits: int) -> None:
    values = np.linspace(7, 2**bits - 1, 48).astype(np.uint16).reshape(6, 8)
    pixels, _ = read_image(write_dicom(tmp_path / "a.dcm", values, bits=bits))
    np.testing.assert_array_equal(pixels, stretched(values))
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert (np.diff(pixels.ravel().astype(int)) >= 0).all()


def test_sixteen_bit_png_is_stretched(tmp_path: Path) -> None:
    values = np.linspace(100, 60000, 48).astype(np.uint16).reshape(6, 8)
    np.testing.assert_array_equal(
        read_image(write_png(tmp_path / "a.png", values))[0], stretched(values)
    )


def test_monochrome1_is_inverted_at_8_and_at_12_bits(tmp_path: Path) -> None:
    eight = write_dicom(tmp_path / "8.dcm", RAMP, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_image(eight)[0], 255 - RAMP)
    values = RAMP.astype(np.uint16) * 16
    twelve = write_dicom(
        tmp_path / "12.dcm", values, bits=12, PhotometricInterpretation="MONOCHROME1"
    )
    np.testing.assert_array_equal(read_image(twelve)[0], stretched(-values.astype(int)))


def test_bits_above_bits_stored_are_dropped_and_signs_kept(tmp_path: Path) -> None:
    values = RAMP.astype(np.uint16) * 16
    overlay = values | np.where(np.eye(6, 8) > 0, 0xF000, 0).astype(np.uint16)
    np.testing.assert_array_equal(
        read_image(write_dicom(tmp_path / "u.dcm", overlay, bits=12))[0], stretched(values)
    )
    signed = values.astype(np.int16) - 2000
    np.testing.assert_array_equal(
        read_image(write_dicom(tmp_path / "s.dcm", signed, bits=13))[0], stretched(signed)
    )


def test_rescale_and_window_are_applied_before_stretching(tmp_path: Path) -> None:
    values = np.arange(48, dtype=np.uint16).reshape(6, 8) * 20
    fields = {"RescaleSlope": 2, "RescaleIntercept": -100}
    path = write_dicom(
        tmp_path / "a.dcm", values, bits=10, WindowCenter=500, WindowWidth=401, **fields
    )
    # PS3.3 C.11.2.1.2: LINEAR runs from centre - 0.5 -/+ (width - 1) / 2.
    shown = np.clip(values * 2.0 - 100, 299.5, 699.5)
    np.testing.assert_allclose(read_image(path)[0].astype(int), stretched(shown), atol=1)


def test_negative_slope_turns_the_image_around(tmp_path: Path) -> None:
    path = write_dicom(
        tmp_path / "a.dcm", RAMP.astype(np.uint16), RescaleSlope=-1, RescaleIntercept=300
    )
    np.testing.assert_array_equal(read_image(path)[0], stretched(300.0 - RAMP))


def test_a_voi_table_is_looked_up(tmp_path: Path) -> None:
    values = np.tile(np.array([0, 1, 2, 3], np.uint16), (4, 2))
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4, 0, 16], [0, 100, 100, 1000]
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    path = write_dicom(tmp_path / "a.dcm", values, bits=12, VOILUTSequence=[table])
    assert np.unique(read_image(path)[0]).tolist() == [0, 26, 255]


def test_padding_does_not_set_the_range(tmp_path: Path) -> None:
    values = np.linspace(1000, 2000, 48).astype(np.uint16).reshape(6, 8)
    values[0, 0] = 65535
    path = write_dicom(tmp_path / "a.dcm", values)
    found = pydicom.dcmread(path)
    found.add_new("PixelPaddingValue", "US", 65535)
    found.save_as(path)
    pixels, _ = read_image(path)
    assert pixels[0, 0] == 0
    assert pixels[5, 7] == 255


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_lossless_compression_gives_the_same_pixels(tmp_path: Path, syntax: str) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (64, 48), dtype=np.uint16)
    plain = read_image(write_dicom(tmp_path / "p.dcm", values, bits=12))[0]
    packed = read_image(write_dicom(tmp_path / "c.dcm", values, bits=12, syntax=syntax))[0]
    np.testing.assert_array_equal(plain, packed)


@pytest.mark.parametrize("planar", [0, 1])
def test_dicom_colour_becomes_luma(tmp_path: Path, planar: int) -> None:
    colour = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    path = write_dicom(tmp_path / "a.dcm", colour)
    found = pydicom.dcmread(path)
    found.PlanarConfiguration = planar
    found.PixelData = (colour.transpose(2, 0, 1) if planar else colour).tobytes()
    found.save_as(path)
    expected = np.asarray(Image.fromarray(colour).convert("L")).astype(int)
    np.testing.assert_allclose(read_image(path)[0].astype(int), expected, atol=1)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA"])
def test_grey_in_any_png_mode_stays_the_same_grey(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(RAMP).convert(mode).save(path)
    np.testing.assert_array_equal(read_image(path)[0], RAMP)


def test_one_bit_png_is_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(RAMP > 100).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0], np.where(RAMP > 100, 255, 0))


def test_the_short_side_is_reduced_and_small_images_stay(tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png", np.zeros((100, 250), np.uint8))
    assert read_image(path, 40)[0].shape == (40, 100)
    assert read_image(path, 40)[1] == (100, 250)
    assert read_image(path, 200)[0].shape == (100, 250)


def test_reducing_averages_and_never_wraps() -> None:
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    assert abs(int(shrink(checks, 8)[4, 4]) - 127) <= 1
    edge = np.where(np.arange(64) < 32, 0, 255).astype(np.uint8)[None].repeat(64, 0)
    small = shrink(edge, 16)
    assert (np.diff(small[8].astype(int)) >= 0).all()


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def jpeg_bytes() -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()


HOSTILE = {
    "empty.png": b"",
    "text.png": b"patientId,x,y\n",
    "cut.jpg": jpeg_bytes()[:900],
    "bomb.png": png_claiming(100_000, 100_000),
    "large.png": png_claiming(MAX_PIXELS // 1000 + 1, 1000),
    "none.png": png_claiming(0, 10),
    "short.png": png_claiming(5000, 5000),
    "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "head.dcm": b"\0" * 128 + b"DICM",
    "noise.dcm": b"\0" * 128 + b"DICM" + bytes(range(256)) * 4,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_bad_data_that_names_them(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(HOSTILE[name])
    with pytest.raises(BadData, match=name):
        read_image(tmp_path / name, 256)


BROKEN_DICOM = {
    "rows": {"Rows": 0},
    "bomb": {"Rows": 60000, "Columns": 60000},
    "more": {"Rows": 7},
    "frames": {"NumberOfFrames": 3},
    "window": {"WindowCenter": 10, "WindowWidth": 0},
    "depth": {"BitsStored": None},
    "deflated": {"syntax": DeflatedExplicitVRLittleEndian},
}


@pytest.mark.parametrize("name", BROKEN_DICOM)
def test_broken_dicom_is_bad_data_that_names_it(tmp_path: Path, name: str) -> None:
    path = write_dicom(tmp_path / f"{name}.dcm", RAMP.astype(np.uint16), **BROKEN_DICOM[name])
    with pytest.raises(BadData, match=f"{name}.dcm"):
        read_image(path)


def test_a_compressed_image_larger_than_its_header_is_refused(tmp_path: Path) -> None:
    for syntax in (JPEG2000Lossless, JPEGLSLossless):
        big = np.random.default_rng(0).integers(0, 4096, (64, 64), dtype=np.uint16)
        path = write_dicom(tmp_path / "b.dcm", big, bits=12, syntax=syntax, Rows=8, Columns=8)
        with pytest.raises(BadData, match="compressed image 64 x 64"):
            read_image(path)


def test_pixels_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "nan.dcm", RAMP.astype(np.uint16))
    found = pydicom.dcmread(path)
    values = RAMP.astype(np.float32)
    values[1, 1] = np.nan
    del found.PixelData
    found.FloatPixelData, found.BitsAllocated = values.tobytes(), 32
    found.save_as(path)
    with pytest.raises(BadData, match="not finite"):
        read_image(path)


def test_a_blank_deep_image_is_refused(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "blank.dcm", np.full((6, 8), 900, np.uint16))
    with pytest.raises(BadData, match="blank"):
        read_image(path)


def test_missing_files_and_folders_are_bad_data(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.png", tmp_path):
        with pytest.raises(BadData, match="cannot be read"):
            read_image(path)


def test_damaged_bytes_never_raise_anything_but_bad_data(tmp_path: Path) -> None:
    generator = np.random.default_rng(7)
    values = generator.integers(0, 4096, (32, 32), dtype=np.uint16)
    good = [
        write_dicom(tmp_path / "plain.dcm", values, bits=12),
        write_dicom(tmp_path / "rle.dcm", values, bits=12, syntax=RLELossless),
        write_dicom(tmp_path / "jls.dcm", values, bits=12, syntax=JPEGLSLossless),
        write_png(tmp_path / "a.png", values.astype(np.uint8)),
    ]
    for file in good:
        data = file.read_bytes()
        for _ in range(60):
            damaged = bytearray(data)
            for place in generator.integers(0, len(data), 4):
                damaged[place] = generator.integers(256)
            damaged = damaged[: generator.integers(1, len(data) + 1)]
            bad = tmp_path / f"bad{file.suffix}"
            bad.write_bytes(damaged)
            # Any other exception than BadData fails the test here.
            with contextlib.suppress(BadData):
                assert read_image(bad, 16)[0].dtype == np.uint8


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
