"""CheXpert and CheXlocalize: invented rows in the official layout, with their pitfalls."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from g2dbench.data.prepare import prepare
from g2dbench.data.readers import chexpert
from g2dbench.data.store.decode import DecodeSettings, decode
from g2dbench.data.tables.files import trusted_roots
from g2dbench.data.tables.records import Missing, Rejected
from g2dbench.errors import BadData
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.sample import Record

LABELS = (
    "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,"
    "Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,"
    "Support Devices"
)
TURNED = LABELS.replace("Lung Opacity,Lung Lesion", "Lung Lesion,Lung Opacity")
TRAIN = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{LABELS}"
OFFICIAL = {
    "CheXpert-v1.0-small/train.csv": TRAIN,
    "CheXpert-v1.0-small/valid.csv": TRAIN,
    "CheXpert-test-500/groundtruth.csv": f"Study,{LABELS}",
    "CheXpert-test-500/bc4.csv": f"Study,{TURNED}",
}
SIZE = (120, 100)


def write(path: Path, *lines: str) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


def add_image(root: Path, name: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(SIZE, 90, np.uint8)).save(path)


ONE = "train/patient00001/study1/view1_frontal.jpg"
TWO = "train/patient00001/study1/view2_lateral.jpg"
THREE = "valid/patient64541/study1/view1_frontal.jpg"
FOUR = "test/patient64741/study1/view1_frontal.jpg"
FIVE = "test/patient64741/study1/view2_lateral.jpg"
UNCERTAIN = ",,,-1.0,1.0,,-1.0,0.0,,,,,,"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """CheXpert small with the test set as Stanford's bundle of 500 studies lists it."""
    for name in (ONE, TWO, THREE, FOUR, FIVE):
        add_image(tmp_path, name)
    write(
        tmp_path / "train.csv",
        TRAIN,
        f"CheXpert-v1.0-small/{ONE},Female,87,Frontal,AP,{UNCERTAIN}",
        f"CheXpert-v1.0-small/{TWO},Female,87,Lateral,,{UNCERTAIN}",
    )
    zeros = ",".join(["0.0"] * 13)
    write(
        tmp_path / "valid.csv", TRAIN, f"CheXpert-v1.0-small/{THREE},Male,60,Frontal,PA,1.0,{zeros}"
    )
    ones = "1," + ",".join(["0"] * 13)
    write(
        tmp_path / "groundtruth.csv",
        f"Study,{LABELS}",
        f"CheXpert-v1.0/test/patient64741/study1,{ones}",
    )
    return tmp_path


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_fixtures_have_the_official_headers(real_data: Path, name: str) -> None:
    assert (real_data / "official_rows" / name).read_text().splitlines()[0] == OFFICIAL[name]


def test_images_of_all_three_sets_are_read(root: Path) -> None:
    found = {item.id: item for item in chexpert.read(root)}
    assert all(isinstance(item, Record) for item in found.values())
    first = found["patient00001_study1_view1_frontal"]
    assert first.path == root / ONE
    assert (first.patient, first.study) == ("patient00001", "patient00001/study1")
    assert (first.view, first.sex, first.age, first.split) == ("AP", "F", 87, "train")
    assert found["patient00001_study1_view2_lateral"].view == "lateral"
    assert found["patient64541_study1_view1_frontal"].split == "valid"
    assert found["patient64541_study1_view1_frontal"].labels["No Finding"] == 1
    assert first.masks is None


def test_uncertain_and_blank_labels_stay_apart(root: Path) -> None:
    first = next(iter(chexpert.read(root)))
    assert first.labels == {
        "Lung Opacity": -1,
        "Lung Lesion": 1,
        "Consolidation": -1,
        "Pneumonia": 0,
    }


def test_a_study_of_the_test_set_labels_all_its_images(root: Path) -> None:
    found = [item for item in chexpert.read(root) if item.split == "test"]
    assert [item.path for item in found] == [root / FOUR, root / FIVE]
    assert [item.view for item in found] == ["frontal", "lateral"]
    assert [sum(item.labels.values()) for item in found] == [1, 1]


def test_columns_are_taken_by_name(root: Path) -> None:
    cells = dict.fromkeys(LABELS.split(","), "0") | {"Lung Lesion": "1"}
    row = ",".join(cells[name] for name in TURNED.split(","))
    write(
        root / "groundtruth.csv", f"Study,{TURNED}", f"CheXpert-v1.0/test/patient64741/study1,{row}"
    )
    found = [item for item in chexpert.read(root) if item.split == "test"]
    assert [name for name, value in found[0].labels.items() if value] == ["Lung Lesion"]


def test_full_size_tables_and_gzip_fit_any_copy(root: Path) -> None:
    before = list(chexpert.read(root))
    text = (root / "train.csv").read_text().replace("CheXpert-v1.0-small/", "CheXpert-v1.0/")
    (root / "train.csv.gz").write_bytes(gzip.compress(text.encode()))
    (root / "train.csv").unlink()
    assert list(chexpert.read(root)) == before


def test_a_store_keeps_the_official_split(root: Path, tmp_path: Path) -> None:
    store = prepare(
        "chexpert", root, tmp_path / "store", progress=quiet, registry=Registry(), size=32
    )
    assert store.manifest.summary.splits == {"train": 2, "valid": 1, "test": 2}


# -- CheXlocalize


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    packed = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(packed["size"]), "counts": packed["counts"].decode()}


def chexlocalize_root(tmp_path: Path, masks: dict[str, Any]) -> Path:
    """CheXlocalize's folders: val/ and test/ with tables by image, masks beside."""
    root = tmp_path / "CheXpert"
    names = {"val": "patient64541", "test": "patient64741"}
    for part, patient in names.items():
        name = f"{part}/{patient}/study1/view1_frontal.jpg"
        add_image(root, name)
        zeros = ",".join(["0.0"] * 14)
        write(root / f"{part}_labels.csv", f"Path,{LABELS}", f"CheXpert/{name},{zeros}")
    (tmp_path / "CheXlocalize").mkdir()
    for part in names:
        file = tmp_path / f"CheXlocalize/gt_segmentations_{part}.json"
        file.write_text(json.dumps(masks if part == "test" else {}))
    return root


IMAGE = "patient64741_study1_view1_frontal"


def test_segmentations_become_masks_of_the_full_image(tmp_path: Path) -> None:
    opacity = np.zeros((480, 400), bool)
    opacity[40:200, 80:160] = True
    masks = {
        "Airspace Opacity": run_lengths(opacity),
        "Edema": run_lengths(np.zeros_like(opacity)),
    }
    root = chexlocalize_root(tmp_path, {IMAGE: masks})
    valid, test = chexpert.read(root)
    assert valid.masks is None
    assert (valid.split, test.split) == ("valid", "test")
    assert list(test.masks) == ["Lung Opacity"]
    np.testing.assert_array_equal(test.masks["Lung Opacity"], opacity)
    row = decode(test, DecodeSettings(root, tuple(trusted_roots(root)), 100))
    # The copy has a quarter of the full size: the mask starts in column 20, row 10.
    assert json.loads(row["masks"])["Lung Opacity"][:3] == [20 * 120 + 10, 40, 80]


@pytest.mark.parametrize(
    "masks",
    [
        [],
        {"Edema": {"size": [4, 4], "counts": "\x7f"}},
        {"Edema": {"size": [4], "counts": "0"}},
        {"Edema": {"counts": "0"}},
        {"Edema": {"size": [10**9, 10**9], "counts": "0"}},
        {"Edema": {"size": [4, 4], "counts": "R1"}},
        {},
        {"Edema": run_lengths(np.eye(4)), "Fracture": run_lengths(np.eye(5))},
    ],
)
def test_broken_segmentations_cost_the_masks_alone(tmp_path: Path, masks: Any) -> None:
    root = chexlocalize_root(tmp_path, {IMAGE: masks})
    valid, test = chexpert.read(root)
    assert (valid.notes, test.masks, test.frame) == ((), None, None)
    assert test.labels is not None
    (note,) = test.notes
    assert "gt_segmentations_test.json" in note


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_files_that_are_no_segmentations_are_named(tmp_path: Path, text: str) -> None:
    root = chexlocalize_root(tmp_path, {})
    (tmp_path / "CheXlocalize/gt_segmentations_val.json").write_text(text)
    with pytest.raises(BadData, match=r"gt_segmentations_val\.json"):
        list(chexpert.read(root))


# -- what is broken


def test_invalid_rows_do_not_affect_other_rows(root: Path) -> None:
    rows = [
        f"CheXpert-v1.0-small/train/../../x.jpg,Female,1,Frontal,AP,{UNCERTAIN}",
        f"/etc/passwd,Female,1,Frontal,AP,{UNCERTAIN}",
        f"CheXpert-v1.0-small/{ONE.replace('00001', '00002')},Female,1,Frontal,AP,{UNCERTAIN}",
        f"CheXpert-v1.0-small/{TWO},Female,old,Lateral,,{UNCERTAIN}",
        f"CheXpert-v1.0-small/{ONE},Female,1,Frontal,AP,7{UNCERTAIN}",
        f"CheXpert-v1.0-small/{ONE},Unknown,0,Frontal,AP,{UNCERTAIN}",
    ]
    write(root / "train.csv", TRAIN, *rows)
    found = [item for item in chexpert.read(root) if getattr(item, "split", "train") == "train"]
    assert [type(item) for item in found] == [
        Rejected, Rejected, Missing, Record, Rejected, Record,
    ]  # fmt: skip
    assert "line 2 of train.csv" in found[0].reason
    assert found[3].age is None
    assert "No Finding is '7'" in found[4].reason
    assert (found[5].sex, found[5].age) == (None, 0)


def test_a_study_without_images_is_missing(root: Path) -> None:
    (root / FOUR).unlink()
    (root / FIVE).unlink()
    found = Counter(type(item) for item in chexpert.read(root))
    assert found == {Record: 3, Missing: 1}


def test_a_folder_without_tables_and_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"no table .*train\.csv"):
        list(chexpert.read(tmp_path))
    write(tmp_path / "train.csv", "Path,Sex", "a,b")
    with pytest.raises(BadData, match=r"train\.csv lacks the columns .*'Edema'"):
        list(chexpert.read(tmp_path))
