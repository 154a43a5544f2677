"""Variants of releases: optional columns, other official names, Windows paths."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from support.releases import PATH, RELEASES, records, save_image, write_table

from g2dbench.data.readers import (
    chexpert,
    covidx,
    nih_cxr14,
    object_cxr,
    open_i,
    rsna,
    siim,
    tbx11k,
)
from g2dbench.data.tables.records import Missing, Note
from g2dbench.sample import Box

DECORATION = [(name, column) for name, one in RELEASES.items() for column in one.decoration]


@pytest.mark.parametrize(("name", "column"), DECORATION)
def test_a_column_that_only_decorates_may_be_lacking(
    tmp_path: Path, name: str, column: str
) -> None:
    release = RELEASES[name]
    (whole,) = records(release.reader.read(release.make(tmp_path / "whole")))
    row = {key: cell for key, cell in release.row.items() if key != column}
    (found,) = records(release.reader.read(release.make(tmp_path / "less", row)))
    assert (found.id, found.labels, found.boxes) == (whole.id, whole.labels, whole.boxes)


@pytest.mark.parametrize("word", ["", "nan", "NaN", "NA", "None", "<NA>", "?", "-7", "9" * 400])
@pytest.mark.parametrize(
    ("name", "column"), [(n, c) for n, c in DECORATION if "Age" in c or "Sex" in c or "Birth" in c]
)
def test_a_decorating_cell_without_sense_costs_nothing(
    tmp_path: Path, name: str, column: str, word: str
) -> None:
    release = RELEASES[name]
    (found,) = records(release.reader.read(release.make(tmp_path, {**release.row, column: word})))
    assert found.labels is not None
    assert found.age is None or found.sex is None


@pytest.mark.parametrize("name", RELEASES)
def test_columns_are_known_whatever_their_case_and_punctuation(tmp_path: Path, name: str) -> None:
    release = RELEASES[name]
    (whole,) = records(release.reader.read(release.make(tmp_path / "whole")))
    row = {key.lower().replace(" ", "_"): cell for key, cell in release.row.items()}
    (found,) = records(release.reader.read(release.make(tmp_path / "other", row)))
    for field in ("id", "patient", "study", "view", "sex", "age", "split", "labels", "boxes"):
        assert getattr(found, field) == getattr(whole, field)


def test_the_sex_of_nih_is_known_by_both_names(tmp_path: Path) -> None:
    release = RELEASES["nih_cxr14"]
    row = {key.replace("Gender", "Sex"): cell for key, cell in release.row.items()}
    (found,) = records(nih_cxr14.read(release.make(tmp_path, row)))
    assert (found.sex, found.age, found.view) == ("F", 61, "AP")


def test_missing_optional_columns_give_a_note(tmp_path: Path) -> None:
    release = RELEASES["chexpert"]
    row = {key: cell for key, cell in release.row.items() if key != "Age"}
    notes = [item for item in chexpert.read(release.make(tmp_path, row)) if isinstance(item, Note)]
    assert notes == [Note("train.csv has no column Age, which is not needed")]


OTHER_NAMES = [
    ("nih_cxr14", "Data_Entry_2017.csv"),
    ("nih_cxr14", "data_entry_2017_V2020.CSV"),
    ("padchest", "PADCHEST_chest_x_ray_images_labels_160K.csv"),
    ("ms_cxr", "MS_CXR_Local_Alignment_v1.0.0.csv"),
    ("ms_cxr", "MS_CXR_Local_Alignment_v1.2.0.csv"),
]


@pytest.mark.parametrize(("name", "table"), OTHER_NAMES)
def test_a_table_is_read_by_its_other_official_names(tmp_path: Path, name: str, table: str) -> None:
    release = RELEASES[name]
    root = release.make(tmp_path / "a", table=table)
    assert len(records(release.reader.read(root))) == 1
    packed = root / f"{table}.gz"
    packed.write_bytes(gzip.compress((root / table).read_bytes()))
    (root / table).unlink()
    assert len(records(release.reader.read(root))) == 1


@pytest.mark.parametrize("stage", ["stage_1", "stage_2"])
def test_rsna_is_read_by_the_names_of_either_stage(tmp_path: Path, stage: str) -> None:
    row = {"patientId": "a", "x": "8", "y": "8", "width": "4", "height": "4", "Target": "1"}
    write_table(tmp_path / f"{stage}_train_labels.csv", row)
    save_image(tmp_path / f"{stage}_train_images/a.png")
    (found,) = records(rsna.read(tmp_path))
    assert found.boxes == (Box("Pneumonia", 8, 8, 12, 12),)


def test_nihs_lists_are_read_by_both_names(tmp_path: Path) -> None:
    root = RELEASES["nih_cxr14"].make(tmp_path)
    (root / "train_val_list_NIH.txt").write_text("00000009_000.png\n")
    (root / "test_list_NIH.txt").write_text("00000001_000.png\r\n")
    (found,) = records(nih_cxr14.read(root))
    assert found.split == "test"


def test_tbx11k_is_read_from_the_file_of_both_parts(tmp_path: Path) -> None:
    save_image(tmp_path / "imgs/health/h1.png")
    image = {"id": 1, "file_name": "health\\h1.png", "height": 32, "width": 32}
    content = {"images": [image], "annotations": [], "categories": []}
    home = tmp_path / "annotations/json"
    home.mkdir(parents=True)
    (home / "TBX11K_trainval.json").write_text(json.dumps(content))
    (found,) = records(tbx11k.read(tmp_path))
    assert found.labels["Healthy"] == 1


def siim_root(root: Path, *names: str) -> Path:
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian

    found = pydicom.Dataset()
    found.SOPClassUID, found.SOPInstanceUID, found.PatientID = "1.2.3", "1.2.4", "p"
    found.file_meta = pydicom.dataset.FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    (root / "dicom-images-train").mkdir(parents=True)
    found.save_as(root / "dicom-images-train/a.dcm", enforce_file_format=True)
    for name in names:
        header = "ImageId, EncodedPixels" if name == siim.TABLE else "ImageId,EncodedPixels"
        (root / name).write_text(f"{header}\na,2048 3\n")
    return root


@pytest.mark.parametrize("name", siim.TABLES)
def test_siim_is_read_by_both_names(tmp_path: Path, name: str) -> None:
    (found,) = records(siim.read(siim_root(tmp_path, name)))
    mask = found.masks["Pneumothorax"]
    # A gap of two columns of 1024, then three pixels down the third.
    assert np.argwhere(mask).tolist() == [[0, 2], [1, 2], [2, 2]]


def test_a_second_table_of_the_same_rows_gives_a_note(tmp_path: Path) -> None:
    note, found = siim.read(siim_root(tmp_path, *siim.TABLES))
    assert note == Note("stage_2_train.csv is read, train-rle.csv beside it is not")
    assert found.labels == {"Pneumothorax": 1}


# -- paths written on Windows


@pytest.mark.parametrize(
    ("name", "column", "cell"),
    [
        ("chexpert", "Path", r"CheXpert-v1.0\train\patient00001\study1\view1_frontal.jpg"),
        ("chexpert", "Path", r"D:\x\CheXpert-v1.0\train\patient00001\study1\view1_frontal.JPG"),
        ("nih_cxr14", "Image Index", r"images_001\images\00000001_000.PNG"),
        ("padchest", "ImageID", r"0\a.png"),
        ("padchest", "ImageID", "a.PNG"),
        ("open_i", "filename", r"images_normalized\1_IM-1.dcm.png"),
        ("open_i", "filename", "1_IM-1.dcm.PNG"),
        ("tbx11k", "fname", r"images\h1.PNG"),
        ("ms_cxr", "path", "C:\\mimic\\" + PATH.replace("/", "\\") + ".jpg"),
    ],
)
def test_paths_of_windows_find_their_image(
    tmp_path: Path, name: str, column: str, cell: str
) -> None:
    release = RELEASES[name]
    (whole,) = records(release.reader.read(release.make(tmp_path / "whole")))
    row = {**release.row, column: cell}
    (found,) = records(release.reader.read(release.make(tmp_path / "other", row)))
    assert (found.id, found.path.name) == (whole.id, whole.path.name)


def test_covidx_and_object_cxr_take_paths_of_windows(tmp_path: Path) -> None:
    for part in ("train", "test"):
        save_image(tmp_path / f"{part}/sub/a.b.png")
        (tmp_path / f"{part}.txt").write_text(f"{part} sub\\a.b.PNG normal x\n")
    found = records(covidx.read(tmp_path, {}))
    assert [item.id for item in found] == ["sub/a.b.PNG"] * 2
    root = tmp_path / "object"
    save_image(root / "test/9.jpg")
    write_table(root / "test.csv", {"image_path": r"test\9.JPG", "annotation": ""})
    (shown,) = records(object_cxr.read(root))
    assert shown.path == root / "test/9.jpg"


def test_an_image_that_nobody_has_is_missing_under_its_name(tmp_path: Path) -> None:
    release = RELEASES["open_i"]
    root = release.make(tmp_path, {**release.row, "filename": r"sub\2.png"})
    (found,) = open_i.read(root)
    assert isinstance(found, Missing)
