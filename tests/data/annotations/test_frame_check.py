"""A file counts as a copy of the annotated picture if it has the same proportions."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from g2dbench.data.annotations.geometry import check_frame
from g2dbench.data.store.decode import load
from g2dbench.errors import BadData
from g2dbench.sample import Box, Record


def test_a_resized_copy_is_accepted_however_it_was_rounded() -> None:
    random = np.random.default_rng(0)
    for rounding in (np.ceil, np.floor, np.rint):
        for _ in range(300):
            height, width = (int(side) for side in random.integers(300, 4000, 2))
            scale = random.uniform(0.05, 1)
            copy = (int(rounding(height * scale)), int(rounding(width * scale)))
            check_frame((height, width), copy)
            check_frame(copy, (height, width))


def test_exchanged_sides_are_reported_unless_they_are_nearly_equal() -> None:
    random = np.random.default_rng(1)
    for _ in range(300):
        height, width = (int(side) for side in random.integers(50, 4000, 2))
        if abs(height - width) < 5:
            continue
        with pytest.raises(BadData, match="exchanged") as refused:
            check_frame((height, width), (width, height))
        assert f"{height} x {width}" in str(refused.value)
        assert f"{width} x {height}" in str(refused.value)


@pytest.mark.parametrize(
    ("frame", "file"),
    [((1024, 1024), (512, 512)), ((2828, 2320), (390, 320)), ((3056, 2544), (307, 256)),
     ((512, 512), (1024, 1024)), ((7, 5), (7, 5)), ((1024, 1024), (16, 16))],
)  # fmt: skip
def test_copies_of_real_data_sets_are_accepted(
    frame: tuple[int, int], file: tuple[int, int]
) -> None:
    check_frame(frame, file)


@pytest.mark.parametrize(
    ("frame", "file"),
    [((3000, 2500), (512, 512)), ((1024, 1024), (1024, 1000)), ((100, 60), (100, 70))],
)
def test_cropped_and_stretched_copies_are_refused(
    frame: tuple[int, int], file: tuple[int, int]
) -> None:
    with pytest.raises(BadData, match="keep the proportions"):
        check_frame(frame, file)


def write_rotated(path: Path) -> bytes:
    """A 60 x 100 picture, stored rotated, with a bright block at (20, 10, 50, 30) when upright."""
    upright = np.full((60, 100), 40, np.uint8)
    upright[10:30, 20:50] = 220
    block = Image.Exif()
    block[0x0112] = 6
    rotated = Image.fromarray(np.ascontiguousarray(np.rot90(upright)))
    rotated.save(path, quality=98, exif=block.tobytes())
    return path.read_bytes()


def test_boxes_of_a_rotated_picture_need_its_upright_size(tmp_path: Path) -> None:
    data = write_rotated(tmp_path / "a.jpg")
    box = Box("x", 20, 10, 50, 30)
    record = Record(id="a", path=tmp_path / "a.jpg", patient="p", boxes=(box,), frame=(60, 100))
    sample = load(record, data, 60)
    assert sample.boxes == (box,)
    assert (sample.image[10:30, 20:50] > 128).mean() > 0.95
    stored = Record(id="a", path=record.path, patient="p", boxes=(box,), frame=(100, 60))
    with pytest.raises(BadData, match=r"100 x 60 .* 60 x 100 .*exchanged"):
        load(stored, data, 60)
