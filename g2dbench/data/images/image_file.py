"""Read a DICOM, PNG, JPEG, TIFF or GIF file as an (H, W) uint8 gray image; dense is bright.

8-bit files are not changed; deeper ones are stretched from their own minimum and maximum to 0 and
255. (G2D's `ext_data.py` scales the maximum to 256, which wraps to 0.) 16-bit color is reduced to
its upper 8 bits; alpha is ignored. A picture is rotated or mirrored to be upright, as its EXIF
orientation says and as viewers and OpenCV do; sizes are those of the upright picture. An EXIF block
that cannot be read is ignored.

Every failure is a BadData that names the file: truncated, too large, empty, not finite, or not an
image. One fault is not detected: a truncated JPEG that has an end marker, because the decoder fills
in the missing part.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from g2dbench.data.images import dicom, png_check
from g2dbench.data.tables.files import read_bytes
from g2dbench.errors import BadData

MAX_PIXELS = 100_000_000
"""Largest image, checked before decoding: a larger size is a decompression bomb or a mistake."""

FORMATS = ("PNG", "JPEG", "TIFF", "GIF")
"""Picture formats, by their names in Pillow; the first frame or page of a file is read."""

EXTENSIONS = (".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif")
"""Extensions that `read_image` reads, in order of preference if an image has several files."""

GrayImage = NDArray[np.uint8]


def read_image(path: Path, side: int | None = None) -> tuple[GrayImage, tuple[int, int]]:
    """Return the pixels, (H, W) uint8, and the (H, W) of the file itself.

    side: the length in pixels to which the short side is reduced, with antialiasing; the aspect
    ratio is preserved. Smaller images are not enlarged, since that adds no information.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise BadData(f"the image {path} cannot be read: {error.strerror}") from error
    return decode_image(data, path, side)


def decode_image(data: bytes, path: Path, side: int | None) -> tuple[GrayImage, tuple[int, int]]:
    """Do the same as `read_image` with bytes in memory; `path` only names the file in errors."""
    if data[128:132] == b"DICM":
        gray = to_gray_image(dicom.decode(data, path, MAX_PIXELS), path)
    else:
        gray = _decode_picture(data, path)
    original = (gray.shape[0], gray.shape[1])
    return (gray if side is None else shrink(gray, side)), original


def to_gray_image(pixels: NDArray[np.generic], path: Path) -> GrayImage:
    """Convert (H, W) numbers to uint8: other types are stretched from minimum to maximum.

    BadData if there are no pixels, not all are finite, or all have the same value.
    """
    if pixels.ndim != 2 or 0 in pixels.shape:
        raise BadData(f"the image {path} has the shape {pixels.shape}: no pixels to read")
    if pixels.dtype == np.uint8:
        return np.asarray(pixels, dtype=np.uint8)
    values = pixels.astype(np.float64)
    if not np.isfinite(values).all():
        raise BadData(f"the image {path} holds values that are not finite")
    low, high = values.min(), values.max()
    if low == high:
        raise BadData(f"the image {path} is blank: every pixel has the value {low:g}")
    stretched: GrayImage = np.rint((values - low) / (high - low) * 255).astype(np.uint8)
    return stretched


def shrink(gray: GrayImage, side: int) -> GrayImage:
    """Reduce the short side of an image to `side`, antialiased; smaller images stay unchanged."""
    height, width = gray.shape
    target = shrunk_shape(height, width, side)
    if target == (height, width):
        return gray
    small = Image.fromarray(gray).resize(target[::-1], Image.Resampling.BICUBIC)
    return np.asarray(small, dtype=np.uint8)


def shrunk_shape(height: int, width: int, side: int) -> tuple[int, int]:
    """The (height, width) that `shrink` gives an image."""
    short = min(height, width)
    if short <= side:
        return height, width
    return round(height * side / short), round(width * side / short)


def _decode_picture(data: bytes, path: Path) -> GrayImage:
    """Decode a picture of any depth; alpha is ignored, color is converted to ITU-R 601 luma."""
    return to_gray_image(picture_levels(data, path), path)


def picture_levels(data: bytes, path: Path) -> NDArray[np.generic]:
    """The (H, W) gray levels of a picture, bright is high: uint8, or deeper as in the file."""
    with _open(data, path) as picture:
        check_size(picture.height, picture.width, path)
        if picture.format == "PNG":
            png_check.check_rows(data, path)
        transpose = _upright_transpose(picture)
        upright = picture if transpose is None else picture.transpose(transpose)
        if upright.mode.startswith(("I", "F")):
            levels = np.asarray(upright)
            return -levels.astype(np.float64) if _is_white_zero(picture) else levels
        colored = upright.convert("RGBA") if upright.mode in ("P", "PA") else upright
        return np.asarray(colored.convert("L"))


def picture_size(path: Path) -> tuple[int, int]:
    """Read a picture's (height, width) from its header; BadData if the file is not a picture."""
    try:
        with path.open("rb") as file, _open(file, path) as picture:
            check_size(picture.height, picture.width, path)
            swaps_sides = _upright_transpose(picture) in QUARTER_TURNS
            return picture.size if swaps_sides else (picture.height, picture.width)
    except OSError as error:
        raise BadData(f"the image {path} cannot be read: {error.strerror}") from error


_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that makes a picture upright, by its EXIF orientation."""

QUARTER_TURNS = tuple(_TRANSPOSES[number] for number in (5, 6, 7, 8))
"""The operations that exchange height and width."""


def _upright_transpose(picture: Image.Image) -> Image.Transpose | None:
    """Return the operation that makes a picture upright, from the EXIF block before its pixels.

    `getexif` is not used: it loads the pixels of a PNG and thereby hides that they are damaged.
    None for TIFF, which Pillow makes upright itself.
    """
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return None
    block = Image.Exif()
    try:
        block.load(picture.info.get("exif", b""))
        return _TRANSPOSES.get(int(block.get(ExifTags.Base.Orientation, 1)))
    except Exception:  # Pillow does not document what a damaged block makes it raise
        return None


def _is_white_zero(picture: Image.Image) -> bool:
    """Whether 0 means white in a TIFF of more than 8 bits; Pillow inverts only 8-bit TIFF."""
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return False
    return picture.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0


@contextmanager
def _open(source: bytes | BinaryIO, path: Path) -> Iterator[Image.Image]:
    """Open a picture without decoding its pixels; any failure inside the block becomes BadData."""
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with Image.open(file, formats=FORMATS) as picture:
            yield picture
    except UnidentifiedImageError as error:
        raise BadData(f"{path} is no image: neither DICOM nor {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise BadData(f"the image {path} is too large: {error}") from error
    except BadData:
        raise
    except (OSError, SyntaxError, ValueError, MemoryError, struct.error, zlib.error) as error:
        raise BadData(f"the image {path} cannot be decoded: {error}") from error


def check_size(height: int, width: int, path: Path) -> None:
    """BadData unless the image has between 1 and MAX_PIXELS pixels."""
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise BadData(
            f"the image {path} claims {height} x {width} pixels; "
            f"g2dbench reads 1 to {MAX_PIXELS // 1_000_000} million"
        )
