"""Decoding of every kind of image file, and of malicious files."""

import contextlib
import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image
from pydicom.uid import JPEGLSLossless, RLELossless
from support.data.radiographs import RAMP, png_claiming, stretched, write_dicom

from g2dbench.data.images.image_file import MAX_PIXELS, picture_size, read_image, shrink
from g2dbench.errors import BadData

NOISE = np.random.default_rng(0).integers(0, 256, (40, 48), dtype=np.uint8)
COLOR = np.random.default_rng(1).integers(0, 256, (40, 48, 3), dtype=np.uint8)


def write_png(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.dcm"])
def test_eight_bits_pass_unchanged_in_full_size(tmp_path: Path, name: str) -> None:
    write = write_png if name.endswith("png") else write_dicom
    pixels, original = read_image(write(tmp_path / name, RAMP))
    assert original == (6, 8)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, RAMP)


def test_sixteen_bit_png_is_stretched(tmp_path: Path) -> None:
    values = np.linspace(100, 60000, 48).astype(np.uint16).reshape(6, 8)
    np.testing.assert_array_equal(
        read_image(write_png(tmp_path / "a.png", values))[0], stretched(values)
    )


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA"])
def test_gray_in_any_png_mode_stays_the_same_gray(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(RAMP).convert(mode).save(path)
    np.testing.assert_array_equal(read_image(path)[0], RAMP)


def read_with_opencv(path: Path) -> np.ndarray:
    """The 8-bit gray levels of a file as OpenCV reads them."""
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(int)


def test_transparent_palettes_show_their_colors(tmp_path: Path) -> None:
    picture = Image.fromarray(COLOR).quantize(16)
    picture.save(tmp_path / "a.png", transparency=bytes(range(0, 160, 10)))
    found = read_image(tmp_path / "a.png")[0]
    np.testing.assert_allclose(found.astype(int), read_with_opencv(tmp_path / "a.png"), atol=1)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bits_equal_those_of_opencv_in_either_byte_order(
    tmp_path: Path, suffix: str, order: str
) -> None:
    values = np.random.default_rng(2).integers(0, 65536, (40, 48)).astype(order)
    Image.fromarray(values).save(tmp_path / f"a{suffix}")
    seen = cv2.imread(str(tmp_path / f"a{suffix}"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}")[0], stretched(seen))


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_deep_tiff_is_stretched(tmp_path: Path, kind: type) -> None:
    values = (RAMP.astype(np.float64) * 7.3 - 300).astype(kind)
    Image.fromarray(values).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0], stretched(values))


def tiff(values: np.ndarray, white_is_zero: int) -> bytes:
    """A little-endian TIFF of one strip, tag by tag."""
    height, width = values.shape
    data, bits = values.tobytes(), values.dtype.itemsize * 8
    tags = [
        (256, width), (257, height), (258, bits), (259, 1), (262, 1 - white_is_zero),
        (273, 8), (277, 1), (278, height), (279, len(data)),
    ]  # fmt: skip
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    table = struct.pack("<H", len(tags)) + body + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + table


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("white_is_zero", [0, 1])
def test_tiff_whose_zero_is_white_is_inverted(
    tmp_path: Path, white_is_zero: int, kind: type
) -> None:
    values = (RAMP.astype(kind) * 17 + 3).astype(kind)
    (tmp_path / "a.tif").write_bytes(tiff(values, white_is_zero))
    found = read_image(tmp_path / "a.tif")[0]
    expected = -values.astype(int) if white_is_zero else values.astype(int)
    if kind is np.uint8:
        np.testing.assert_array_equal(found, expected + 255 * white_is_zero)
    else:
        np.testing.assert_array_equal(found, stretched(expected))
    assert np.corrcoef(found.ravel(), read_with_opencv(tmp_path / "a.tif").ravel())[0, 1] > 0.99


def test_cmyk_jpeg_equals_that_of_opencv(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(40), np.arange(48)).astype(np.uint8) * 2
    Image.fromarray(smooth).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    found = read_image(tmp_path / "a.jpg")[0].astype(int)
    np.testing.assert_allclose(found, read_with_opencv(tmp_path / "a.jpg"), atol=2)
    np.testing.assert_allclose(found, smooth, atol=4)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_made_upright_as_exif_says(
    tmp_path: Path, orientation: int, suffix: str
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"a{suffix}"
    smooth = np.add.outer(np.arange(0, 160, 4), np.arange(48)).astype(np.uint8)
    Image.fromarray(smooth).save(path, exif=exif)
    upright = {
        1: smooth, 2: smooth[:, ::-1], 3: smooth[::-1, ::-1], 4: smooth[::-1], 5: smooth.T,
        6: smooth[::-1].T, 7: smooth[::-1, ::-1].T, 8: smooth.T[::-1],
    }[orientation]  # fmt: skip
    found, shape = read_image(path)
    assert shape == upright.shape == picture_size(path)
    np.testing.assert_allclose(found.astype(int), upright.astype(int), atol=6)
    if suffix == ".jpg":
        np.testing.assert_allclose(found.astype(int), read_with_opencv(path), atol=1)


@pytest.mark.parametrize("block", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\xff\xff", b"Exif\0\0noise"])
def test_a_damaged_exif_block_is_ignored(tmp_path: Path, block: bytes) -> None:
    Image.fromarray(NOISE).save(tmp_path / "a.jpg", exif=block)
    assert read_image(tmp_path / "a.jpg")[1] == picture_size(tmp_path / "a.jpg") == (40, 48)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_one_bit_pictures_are_black_and_white(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(RAMP > 100).save(path)
    np.testing.assert_array_equal(read_image(path)[0], np.where(RAMP > 100, 255, 0))


def test_the_short_side_is_reduced_and_small_images_are_not_enlarged(tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png", np.zeros((100, 250), np.uint8))
    assert read_image(path, 40)[0].shape == (40, 100)
    assert read_image(path, 40)[1] == (100, 250)
    assert read_image(path, 200)[0].shape == (100, 250)


def test_shrinking_averages_and_never_wraps() -> None:
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    assert abs(int(shrink(checks, 8)[4, 4]) - 127) <= 1
    edge = np.where(np.arange(64) < 32, 0, 255).astype(np.uint8)[None].repeat(64, 0)
    small = shrink(edge, 16)
    assert (np.diff(small[8].astype(int)) >= 0).all()


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
