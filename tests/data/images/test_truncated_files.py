"""Truncated pictures are refused unless all their pixels can be read."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.data.radiographs import png_claiming

from g2dbench.data.images.image_file import read_image
from g2dbench.errors import BadData

NOISE = np.random.default_rng(0).integers(0, 256, (40, 48), dtype=np.uint8)
COLOR = np.random.default_rng(1).integers(0, 256, (40, 48, 3), dtype=np.uint8)


def encoded(array: np.ndarray, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, form, **options)
    return buffer.getvalue()


SMOOTH = np.add.outer(np.arange(40), np.arange(48)).astype(np.uint8) + NOISE // 16
WHOLE_FILES = {
    "a.png": encoded(SMOOTH, "PNG"),
    "color.png": encoded(COLOR, "PNG"),
    "deep.png": encoded(SMOOTH.astype(np.uint16) * 300, "PNG"),
    "bits.png": encoded(NOISE > 100, "PNG"),
    "a.jpg": encoded(SMOOTH, "JPEG"),
    "progressive.jpg": encoded(SMOOTH, "JPEG", progressive=True),
    "color.jpg": encoded(COLOR, "JPEG"),
    "a.gif": encoded(SMOOTH, "GIF"),
}


@pytest.mark.parametrize("name", WHOLE_FILES)
def test_a_truncated_picture_is_read_whole_or_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(WHOLE_FILES[name])
    whole, refused = read_image(path)[0], 0
    for end in range(0, len(WHOLE_FILES[name]), 7):
        path.write_bytes(WHOLE_FILES[name][:end])
        try:
            found = read_image(path)[0]
        except BadData:
            refused += 1
            continue
        np.testing.assert_array_equal(found, whole)
    assert refused > 0.9 * len(range(0, len(WHOLE_FILES[name]), 7))


def png_of_rows(pixels: np.ndarray, rows: int, extra: bytes = b"") -> bytes:
    """A PNG whose compressed data end correctly after `rows` rows, and `extra` bytes."""
    raw = b"".join(b"\0" + row.tobytes() for row in pixels[:rows]) + extra
    return png_claiming(pixels.shape[1], pixels.shape[0], raw)


def test_a_png_with_too_few_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.png"
    for rows in (0, 1, 20, 39):
        path.write_bytes(png_of_rows(NOISE, rows))
        with pytest.raises(BadData, match=r"short\.png"):
            read_image(path)
    path.write_bytes(png_of_rows(NOISE, 39, b"\0" + bytes(47)))
    with pytest.raises(BadData, match="lack 1 bytes"):
        read_image(path)
    path.write_bytes(png_of_rows(NOISE, 40, b"more"))
    np.testing.assert_array_equal(read_image(path)[0], NOISE)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 2), (8, 8), (40, 48), (5, 1), (1, 5)])
@pytest.mark.parametrize(("bits", "color"), [(1, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 6)])
def test_interlaced_png_is_read_and_one_with_a_byte_less_is_refused(
    tmp_path: Path, height: int, width: int, bits: int, color: int
) -> None:
    # The sizes of Adam7's passes, counted pixel by pixel from the PNG specification.
    grid = np.add.outer(np.zeros(height, int), np.zeros(width, int))
    pattern = (
        "16462646" "77777777" "56565656" "77777777" "36463646" "77777777" "56565656" "77777777"
    )  # fmt: skip
    for y, x in np.ndindex(height, width):
        grid[y, x] = int(pattern[(y % 8) * 8 + x % 8])
    samples = {0: 1, 2: 3, 6: 4}[color]
    size = 0
    for number in range(1, 8):
        rows = [int((row == number).sum()) for row in grid]
        size += sum(1 + (count * samples * bits + 7) // 8 for count in rows if count)
    path = tmp_path / "a.png"
    path.write_bytes(png_claiming(width, height, bytes(size - 1), bits, color, 1))
    with pytest.raises(BadData, match=r"a\.png"):
        read_image(path)
    path.write_bytes(png_claiming(width, height, bytes(size), bits, color, 1))
    if bits == 16 and color == 0:
        with pytest.raises(BadData, match="blank"):
            read_image(path)
    else:
        assert read_image(path)[0].tolist() == [[0] * width] * height
