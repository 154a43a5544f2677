"""RSNA: boxes of the label table, class table, DICOM files and copies."""

import shutil
from collections import Counter
from pathlib import Path

from support.data.official_layouts import rsna_root, save_image

from g2dbench.data.readers import rsna
from g2dbench.data.store.decode import DecodeSettings, decode
from g2dbench.data.tables.files import trusted_roots
from g2dbench.data.tables.records import Missing, Rejected
from g2dbench.sample import Box, Record


def test_rsna_rows_of_one_patient_are_one_record(tmp_path: Path) -> None:
    root = rsna_root(tmp_path, "a,10,20,30,40,1\nb,,,,,0\na,100,200,50.5,60,1\n")
    first, second = rsna.read(root)
    assert isinstance(first, Record)
    assert first.boxes == (
        Box("Pneumonia", 10, 20, 40, 60),
        Box("Pneumonia", 100, 200, 150.5, 260),
    )
    assert (first.labels, first.frame) == ({"Pneumonia": 1}, (1024, 1024))
    assert first.masks["Pneumonia"].sum() == 30 * 40 + 50 * 60
    assert isinstance(second, Record)
    assert (second.labels, second.boxes, len(second.masks)) == ({"Pneumonia": 0}, (), 0)


def test_rsna_distinguishes_missing_images_from_invalid_rows(tmp_path: Path) -> None:
    rows = "a,1,2,nan,4,1\nb,1,2,x,4,1\nc,,,,,2\nd,,,,,0\nd,1,2,3,4,1\nz,,,,,0\ne,,,,,1\n"
    found = list(rsna.read(rsna_root(tmp_path, rows)))
    assert [type(item) for item in found] == [Record, *[Rejected] * 3, Missing, Record]
    assert [(item.labels, item.boxes, item.masks) for item in (found[0], found[5])] == [
        ({"Pneumonia": 1}, None, None)
    ] * 2
    assert "line 3 of stage_2_train_labels.csv: width is 'x'" in found[1].reason
    assert "Target must be 0 or 1" in found[2].reason


def test_rsna_class_table_is_deduplicated_and_checked(tmp_path: Path) -> None:
    root = rsna_root(tmp_path, "a,1,2,3,4,1\na,1,2,3,4,1\nb,,,,,0\n")
    classes = "patientId,class\na,Lung Opacity\na,Lung Opacity\nb,Lung Opacity\n"
    (root / rsna.CLASSES).write_text(classes)
    found = list(rsna.read(root))
    assert isinstance(found[0], Record)
    assert "contradicts the class" in found[1].reason


def test_rsna_prefers_dicom_and_takes_images_folders(tmp_path: Path, real_data: Path) -> None:
    source = next((real_data / "real/dicom").glob("1.2*.dcm"))
    root = rsna_root(tmp_path, "a,,,,,0\nq,,,,,0\n")
    shutil.copy(source, root / "stage_2_train_images/a.dcm")
    save_image(root / "images/q.jpg")
    first, second = rsna.read(root)
    assert (first.path.suffix, first.sex, first.age, first.view) == (".dcm", "M", 62, "PA")
    assert second.path == root / "images/q.jpg"


def test_rsna_excerpt_has_its_official_boxes_in_stored_pixels(real_data: Path) -> None:
    root = real_data / "real/rsna_pneumonia_from_nih"
    found = list(rsna.read(root))
    assert Counter(type(item) for item in found) == {Record: 120}
    assert sum(item.labels["Pneumonia"] for item in found) == 60
    assert sum(item.path.suffix == ".dcm" for item in found) == 12
    frame = DecodeSettings(root, tuple(trusted_roots(root)), 512)
    one = next(item for item in found if item.id.startswith("06893030"))
    row = decode(one, frame)
    assert row["boxes"].startswith('[["Pneumonia",317.0,157.0,427.0,311.5]')
    assert (row["height"], row["width"]) == (512, 512)
