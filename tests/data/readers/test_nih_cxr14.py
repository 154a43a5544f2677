"""NIH ChestX-ray14: official rows, both editions, the lists, and the real excerpts."""

import gzip
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from g2dbench.data.prepare import prepare
from g2dbench.data.readers import nih_cxr14
from g2dbench.data.store.decode import DecodeSettings, decode
from g2dbench.data.tables.files import trusted_roots
from g2dbench.data.tables.records import Missing, Rejected
from g2dbench.errors import BadData
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.sample import Box, Record

ENTRY = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
BOXES = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
NEW, OLD = nih_cxr14.TABLES


def write(path: Path, *lines: str) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


def add_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((64, 64), 90, np.uint8)).save(path)


def row(name: str, labels: str = "No Finding", age: str = "58", tail: str = "") -> str:
    patient = int(name[:8])
    return f"{name}.png,{labels},1,{patient},{age},M,PA,2894,2729,0.143,0.143{tail}"


def small_root(root: Path, *rows: str, images: str = "images") -> Path:
    write(root / NEW, ENTRY, *rows)
    for line in rows:
        add_image(root / images / line.split(",", 1)[0])
    return root


@pytest.mark.parametrize(("name", "header"), [(NEW, ENTRY), (nih_cxr14.BOXES, BOXES)])
def test_the_fixtures_have_the_official_headers(real_data: Path, name: str, header: str) -> None:
    official = real_data / "official_rows/NIH_ChestX-ray14" / name
    assert official.read_text().splitlines()[0] == header


def test_labels_patient_and_view_are_read(tmp_path: Path) -> None:
    root = small_root(tmp_path, row("00000001_001", "Cardiomegaly|Emphysema"), row("00000002_000"))
    first, second = nih_cxr14.read(root)
    assert {name for name, value in first.labels.items() if value} == {"Cardiomegaly", "Emphysema"}
    assert list(first.labels) == list(nih_cxr14.CARD.findings)
    assert sum(second.labels.values()) == 0
    assert (first.id, first.patient, first.view) == ("00000001_001", "1", "PA")
    assert (first.sex, first.age, first.boxes, first.frame) == ("M", 58, None, None)


def test_the_first_edition_is_read(tmp_path: Path) -> None:
    names = ("00000001_000", "00000002_000", "00000003_000")
    small_root(tmp_path, *(row(name) for name in names))
    (tmp_path / NEW).unlink()
    ages = ("058Y", "011M", "412")
    rows = [row(name, age=age, tail=",") for name, age in zip(names, ages, strict=True)]
    write(tmp_path / OLD, f"{ENTRY},", *rows)
    assert [item.age for item in nih_cxr14.read(tmp_path)] == [58, 11 / 12, None]


@pytest.mark.parametrize("images", ["images", "images_001/images", "images_012", "images/a/b"])
def test_images_lie_flat_or_in_the_twelve_folders(tmp_path: Path, images: str) -> None:
    root = small_root(tmp_path, row("00000001_000"), images=images)
    (found,) = nih_cxr14.read(root)
    assert found.path == root / images / "00000001_000.png"


def test_boxes_are_in_the_official_frame_and_infiltrate_is_infiltration(tmp_path: Path) -> None:
    root = small_root(tmp_path, row("00000001_000", "Infiltration"), row("00000002_000"))
    boxes = [
        "00000001_000.png,Infiltrate,100,200,300.5,400",
        "00000001_000.png,Mass,0,0,1024,1024",
    ]
    write(root / nih_cxr14.BOXES, BOXES, *boxes)
    first, second = nih_cxr14.read(root)
    assert first.boxes == (
        Box("Infiltration", 100, 200, 400.5, 600),
        Box("Mass", 0, 0, 1024, 1024),
    )
    assert (second.boxes, second.frame) == (None, None)
    stored = decode(first, DecodeSettings(root, tuple(trusted_roots(root)), 64))
    assert stored["boxes"].startswith('[["Infiltration",6.25,12.5,25.03125,37.5]')


def test_the_official_lists_are_the_split_and_valid_is_split_by_patient(tmp_path: Path) -> None:
    names = [f"{patient:08}_{image:03}" for patient in range(1, 201) for image in range(2)]
    root = small_root(tmp_path, *(row(name) for name in names))
    write(root / "train_val_list.txt", *(f"{name}.png" for name in names[:300]))
    write(root / "test_list.txt", *(f"{name}.png" for name in names[300:]))
    found = {item.id: item.split for item in nih_cxr14.read(root)}
    assert [found[name] for name in names[300:]] == ["test"] * 100
    valid = {name[:8] for name in names if found[name] == "valid"}
    train = {name[:8] for name in names if found[name] == "train"}
    assert not valid & train
    assert 5 <= len(valid) <= 25
    store = prepare(
        "nih_cxr14", root, tmp_path / "store", progress=quiet, registry=Registry(), size=32
    )
    assert store.manifest.summary.splits["test"] == 100


def test_lists_that_contradict_each_other_or_lack_their_pair_are_refused(tmp_path: Path) -> None:
    root = small_root(tmp_path, row("00000001_000"))
    write(root / "test_list.txt", "00000001_000.png")
    with pytest.raises(BadData, match=r"holds test_list\.txt alone"):
        list(nih_cxr14.read(root))
    write(root / "train_val_list.txt", "00000001_000.png")
    with pytest.raises(BadData, match="is in both"):
        list(nih_cxr14.read(root))


def test_invalid_rows_do_not_affect_other_rows(tmp_path: Path) -> None:
    names = [f"0000000{number}_000" for number in range(1, 6)]
    rows = [row(name) for name in names]
    rows[1] = row(names[1], "Cardiomegaly|Gout")
    rows[2] = row(names[2], "No Finding|Mass")
    root = small_root(tmp_path, *rows)
    write(
        root / nih_cxr14.BOXES,
        BOXES,
        f"{names[3]}.png,Mass,1,2,x,4",
        f"{names[4]}.png,Gout,1,2,3,4",
    )
    (root / "images/00000001_000.png").unlink()
    found = list(nih_cxr14.read(root))
    assert [type(item) for item in found] == [Missing] + [Rejected] * 4
    assert f"line 3 of {NEW}" in found[1].reason
    assert f"line 2 of {nih_cxr14.BOXES}: w is 'x'" in found[3].reason


def test_missing_tables_columns_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=f"no table .*{NEW}"):
        list(nih_cxr14.read(tmp_path))
    write(tmp_path / NEW, "one,two", "1,2")
    with pytest.raises(BadData, match="lacks the columns"):
        list(nih_cxr14.read(tmp_path))
    write(tmp_path / NEW, ENTRY)
    with pytest.raises(BadData, match="holds no image folder images/ or images_001/"):
        list(nih_cxr14.read(tmp_path))


# -- official rows and real images


def test_official_rows_around_invented_images(real_data: Path, tmp_path: Path) -> None:
    official = real_data / "official_rows/NIH_ChestX-ray14"
    for name in (NEW, nih_cxr14.BOXES, "train_val_list.txt", "test_list.txt"):
        shutil.copy(official / name, tmp_path)
    (tmp_path / f"{NEW}.gz").write_bytes(gzip.compress((tmp_path / NEW).read_bytes()))
    (tmp_path / NEW).unlink()
    add_image(tmp_path / "images/00000001_000.png")
    found = list(nih_cxr14.read(tmp_path))
    assert Counter(type(item) for item in found) == {Record: 1, Missing: 19}
    assert found[0].split in ("train", "valid")
    assert found[0].labels["Cardiomegaly"] == 1


def test_the_real_excerpt_with_boxes(real_data: Path) -> None:
    root = real_data / "real/nih_cxr14_boxes"
    found = list(nih_cxr14.read(root))
    assert Counter(type(item) for item in found) == {Record: 47}
    boxes = [box for item in found for box in item.boxes or ()]
    lines = (root / nih_cxr14.BOXES).read_text().splitlines()
    assert len(boxes) == len(lines) - 1
    assert "Infiltration" in {box.finding for box in boxes}
    frame = DecodeSettings(root, tuple(trusted_roots(root)), 512)
    one = next(item for item in found if item.id == "00000468_017")
    stored = decode(one, frame)
    assert (stored["height"], stored["width"]) == (512, 512)
    assert stored["boxes"].startswith('[["Atelectasis",74.576')


def test_the_real_excerpt_of_small_images(real_data: Path) -> None:
    found = list(nih_cxr14.read(real_data / "real/nih_cxr14_small"))
    assert Counter(type(item) for item in found) == {Record: 180}
    assert all(item.age and item.sex in ("M", "F") for item in found)
    assert {finding for item in found for finding, value in item.labels.items() if value} >= {
        "Cardiomegaly", "Effusion", "Hernia",
    }  # fmt: skip
