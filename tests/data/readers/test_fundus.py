"""DRIVE and CHASE_DB1: photographs with vessel masks."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from g2dbench.data.prepare import prepare
from g2dbench.data.readers import (
    fundus,
)
from g2dbench.data.store.decode import load
from g2dbench.data.tables.records import Missing
from g2dbench.errors import BadData
from g2dbench.progress import quiet
from g2dbench.registry import Registry


def test_fundus_official_layout_is_prepared(tmp_path: Path, real_data: Path) -> None:
    """DRIVE with .tif images throughout, as its owners distribute it; CHASE_DB1 beside it."""
    source = real_data / "real/retina_drive_chase"
    root = tmp_path / "retina"
    for part, count in (("training", 4), ("test", 2)):
        for path in sorted((source / "DRIVE" / part / "images").iterdir())[:count]:
            target = root / "DRIVE" / part / "images" / f"{path.stem}.tif"
            target.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(path) as picture:
                picture.save(target, compression="tiff_lzw")
        shutil.copytree(
            source / "DRIVE" / part / "1st_manual", root / "DRIVE" / part / "1st_manual"
        )
        shutil.copytree(source / "DRIVE" / part / "mask", root / "DRIVE" / part / "mask")
    (root / "CHASEDB1").mkdir()
    for path in (source / "CHASEDB1").glob("Image_01*"):
        shutil.copy(path, root / "CHASEDB1")
    store = prepare("fundus", root, tmp_path / "s", progress=quiet, registry=Registry(), size=128)
    assert len(store) == 8
    assert store.table["split"].value_counts()["test"] == 2
    eyes = store.table[store.table["id"].str.startswith("chase")]
    assert (eyes["patient"].nunique(), eyes["split"].nunique()) == (1, 1)
    assert all(0.03 < sample.masks["Vessel"].mean() < 0.25 for sample in store)


def test_fundus_excerpt_masks_are_the_files(real_data: Path) -> None:
    root = real_data / "real/retina_drive_chase"
    found = {item.id: item for item in fundus.read(root)}
    assert Counter((name[:5], item.split) for name, item in found.items()) == {
        ("drive", None): 19, ("drive", "test"): 10, ("chase", None): 14,
    }  # fmt: skip
    with Image.open(root / "DRIVE/training/1st_manual/21_manual1.gif") as picture:
        expected = np.asarray(picture.convert("L")) > 100
    np.testing.assert_array_equal(found["drive_21"].masks["Vessel"], expected)
    sample = load(found["drive_21"], found["drive_21"].path.read_bytes(), 10_000)
    # Vessels are darker than what surrounds them: mask and image lie on each other.
    inside = sample.image[sample.masks["Vessel"]].mean()
    assert inside < sample.image[~sample.masks["Vessel"] & (sample.image > 40)].mean()


def test_fundus_needs_either_set_and_its_masks(tmp_path: Path, real_data: Path) -> None:
    with pytest.raises(BadData, match="neither DRIVE"):
        list(fundus.read(tmp_path))
    shutil.copy(real_data / "real/retina_drive_chase/CHASEDB1/Image_01L.jpg", tmp_path)
    (found,) = fundus.read(tmp_path)
    assert isinstance(found, Missing)
