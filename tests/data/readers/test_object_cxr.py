"""Object-CXR: objects of three shapes, in three tables."""

import csv
from pathlib import Path

import numpy as np
import pytest
from support.data.official_layouts import official_header, save_image

from g2dbench.data.readers import (
    object_cxr,
)
from g2dbench.data.store.decode import load
from g2dbench.sample import Box, Record


def object_root(root: Path, real_data: Path, **rows: list[tuple[str, str]]) -> Path:
    for part, found in rows.items():
        header = official_header(real_data, f"Object-CXR/{part}.csv").split(",")
        with (root / f"{part}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([header, *found])
        (root / part).mkdir()
        for name, _ in found:
            save_image(root / part / Path(name).name, (60, 50))
    return root


def test_object_cxr_reads_all_three_shapes_and_parts(tmp_path: Path, real_data: Path) -> None:
    root = object_root(
        tmp_path, real_data,
        train=[("00001.jpg", "0 1 2 11 22;1 20 10 40 30"), ("00002.jpg", "")],
        dev=[("08001.jpg", "2 1 1 20 1 20 20")],
        test=[("test/09001.jpg", "0 30 40 10 20")],
    )  # fmt: skip
    first, empty, dev, test = object_cxr.read(root)
    name = "Foreign Object"
    assert first.boxes == (Box(name, 1, 2, 11, 22), Box(name, 20, 10, 40, 30))
    assert (first.labels, first.frame) == ({name: 1}, (50, 60))
    assert abs(first.masks[name].sum() - (200 + np.pi * 100)) < 8
    assert (empty.labels, empty.boxes, len(empty.masks)) == ({name: 0}, (), 0)
    assert (dev.id, dev.split, dev.boxes[0]) == ("08001", "valid", Box(name, 1, 1, 20, 20))
    assert 150 < dev.masks[name].sum() < 200
    assert (test.id, test.split) == ("09001", "test")
    assert test.boxes == (Box(name, 10, 20, 30, 40),)
    assert load(first, first.path.read_bytes(), 25).masks[name].shape == (25, 30)


@pytest.mark.parametrize(
    "annotation",
    ["3 1 2 3 4", "0 1 2 3", "2 1 1 2 2", "2 1 1 2 2 3 3 4", "0 a 1 2 3", "0 nan 1 2 3"],
)
def test_object_cxr_reports_invalid_shapes_with_their_line(
    tmp_path: Path, real_data: Path, annotation: str
) -> None:
    root = object_root(tmp_path, real_data, train=[("1.jpg", "0 1 1 5 5"), ("2.jpg", annotation)])
    good, bad = object_cxr.read(root)
    assert isinstance(good, Record)
    assert "line 3 of train.csv" in bad.reason
