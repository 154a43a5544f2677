"""One image file to (H, W) uint8 grey, bright is dense: DICOM, PNG, JPEG, TIFF and GIF.

8-bit files pass unchanged; deeper ones are stretched from their own minimum to maximum. The
maximum becomes 255 (G2D's `ext_data.py` scales to 256, which wraps to 0; we differ). Colour of
16 bits keeps its upper 8, alpha is ignored. A picture that its EXIF block says lies on its side is
turned upright, as viewers and OpenCV do, and sizes are those of the upright picture; an EXIF block
that cannot be read says nothing.

Every failure is BadData naming the file: truncated, oversized, empty, not finite, or no image at
all. One goes unnoticed: a JPEG that ends early with an end mark, whose rest its decoder guesses.
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
"""Checked before decoding: a larger header is a bomb or a mistake."""

FORMATS = ("PNG", "JPEG", "TIFF", "GIF")
"""Pictures, in Pillow's names; of several frames or pages the first one counts."""

EXTENSIONS = (".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif")
"""What `read_image` reads, in order of preference where one image has several files."""

Grey = NDArray[np.uint8]


def read_image(path: Path, side: int | None = None) -> tuple[Grey, tuple[int, int]]:
    """The pixels, (H, W) uint8, and the file's own (H, W).

    side: the short side is reduced to this many pixels with antialiasing, the aspect is kept;
    images that are smaller stay as they are, for enlarging adds nothing that a store needs.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise BadData(f"the image {path} cannot be read: {error.strerror}") from error
    return decode_image(data, path, side)


def decode_image(data: bytes, path: Path, side: int | None) -> tuple[Grey, tuple[int, int]]:
    """`read_image` of bytes already in memory; `path` only names them in errors."""
    if data[128:132] == b"DICM":
        grey = as_grey(dicom.decode(data, path, MAX_PIXELS), path)
    else:
        grey = _decode_picture(data, path)
    original = (grey.shape[0], grey.shape[1])
    return (grey if side is None else shrink(grey, side)), original


def as_grey(pixels: NDArray[np.generic], path: Path) -> Grey:
    """(H, W) numbers as uint8: uint8 unchanged, all else stretched from minimum to maximum."""
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
    stretched: Grey = np.rint((values - low) / (high - low) * 255).astype(np.uint8)
    return stretched


def shrink(grey: Grey, side: int) -> Grey:
    """The image with its short side reduced to `side`, antialiased; a smaller one unchanged."""
    height, width = grey.shape
    target = shrunk_shape(height, width, side)
    if target == (height, width):
        return grey
    small = Image.fromarray(grey).resize(target[::-1], Image.Resampling.BICUBIC)
    return np.asarray(small, dtype=np.uint8)


def shrunk_shape(height: int, width: int, side: int) -> tuple[int, int]:
    """The (height, width) that `shrink` gives an image."""
    short = min(height, width)
    if short <= side:
        return height, width
    return round(height * side / short), round(width * side / short)


def _decode_picture(data: bytes, path: Path) -> Grey:
    """A picture of any depth; alpha is ignored, colour becomes ITU-R 601 luma."""
    return as_grey(picture_levels(data, path), path)


def picture_levels(data: bytes, path: Path) -> NDArray[np.generic]:
    """The grey levels of a picture, bright is high, (H, W): uint8, or deeper where the file is."""
    with _open(data, path) as picture:
        check_size(picture.height, picture.width, path)
        if picture.format == "PNG":
            png_check.check_rows(data, path)
        turn = _turn(picture)
        upright = picture if turn is None else picture.transpose(turn)
        if upright.mode.startswith(("I", "F")):
            levels = np.asarray(upright)
            return -levels.astype(np.float64) if _is_white_zero(picture) else levels
        coloured = upright.convert("RGBA") if upright.mode in ("P", "PA") else upright
        return np.asarray(coloured.convert("L"))


def picture_size(path: Path) -> tuple[int, int]:
    """A picture's (height, width) from its header alone; BadData if it is none."""
    try:
        with path.open("rb") as file, _open(file, path) as picture:
            check_size(picture.height, picture.width, path)
            is_turned = _turn(picture) in SIDEWAYS
            return picture.size if is_turned else (picture.height, picture.width)
    except OSError as error:
        raise BadData(f"the image {path} cannot be read: {error.strerror}") from error


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture upright, by EXIF's number of its orientation."""

SIDEWAYS = tuple(_TURNS[number] for number in (5, 6, 7, 8))
"""Those that exchange height and width."""


def _turn(picture: Image.Image) -> Image.Transpose | None:
    """What a picture lacks to be upright, from the EXIF block before its pixels.

    Not by `getexif`, which loads a PNG's pixels and so hides that they are damaged. Pillow turns
    TIFF itself.
    """
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return None
    block = Image.Exif()
    try:
        block.load(picture.info.get("exif", b""))
        return _TURNS.get(int(block.get(ExifTags.Base.Orientation, 1)))
    except Exception:  # what a damaged block makes Pillow raise is not documented
        return None


def _is_white_zero(picture: Image.Image) -> bool:
    """Whether 0 is white in a deep TIFF; Pillow inverts only those of 8 bits."""
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return False
    return picture.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0


@contextmanager
def _open(source: bytes | BinaryIO, path: Path) -> Iterator[Image.Image]:
    """A picture whose pixels are not yet decoded; whatever goes wrong with it is BadData."""
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
