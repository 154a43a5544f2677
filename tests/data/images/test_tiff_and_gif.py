"""TIFF and GIF files: first frame, damaged files, size limits."""

import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.data.official_layouts import save_image

from g2dbench.data.annotations.mask_files import read_mask
from g2dbench.errors import BadData


@pytest.mark.parametrize("name", ["a.tif", "a.gif"])
def test_tiff_and_gif_are_read_first_frame_only(tmp_path: Path, name: str) -> None:
    from g2dbench.data.images.image_file import picture_size, read_image

    grey = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
    frames = [Image.fromarray(grey), Image.fromarray(255 - grey)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    image, shape = read_image(tmp_path / name)
    np.testing.assert_array_equal(image, grey)
    assert shape == picture_size(tmp_path / name) == (6, 8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ["tif", "gif"])
def test_broken_tiff_and_gif_are_bad_data_or_an_image(tmp_path: Path, suffix: str) -> None:
    """400 files with some bytes changed or cut off: none ends in another error."""
    from g2dbench.data.images.image_file import decode_image

    generator = np.random.default_rng(0)
    path = tmp_path / f"a.{suffix}"
    save_image(path, (40, 30))
    whole, outcomes = path.read_bytes(), Counter()
    for _ in range(400):
        data = bytearray(whole[: int(generator.integers(1, len(whole) + 1))])
        for place in generator.integers(0, min(len(data), 200), 4):
            data[place] = int(generator.integers(256))
        try:
            decode_image(bytes(data), path, None)
            outcomes["read"] += 1
        except BadData:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 50


def test_huge_tiffs_and_gifs_are_refused_by_their_header(tmp_path: Path) -> None:
    save_image(tmp_path / "a.gif", (8, 8))
    data = bytearray((tmp_path / "a.gif").read_bytes())
    data[6:10] = b"\xff\xff\xff\xff"
    (tmp_path / "a.gif").write_bytes(data)
    # Width and height in a TIFF are two directory entries of 12 bytes: tag, type, count, value.
    entries = ((256, 60_000), (257, 60_000), (258, 8), (259, 1), (262, 1), (273, 8), (279, 8))
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    (tmp_path / "a.tif").write_bytes(head + directory + b"\0" * 4)
    for name in ("a.gif", "a.tif"):
        with pytest.raises(BadData, match=r"claims|too large"):
            read_mask(tmp_path / name)
