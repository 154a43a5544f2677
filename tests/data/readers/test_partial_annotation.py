"""Partial annotation of official data sets: unknown parts are None, with a note."""

from pathlib import Path

import pytest
from support.releases import records, save_image, write_table

from g2dbench.data.readers import nih_cxr14, object_cxr, siim, vinbigdata, vindr
from g2dbench.errors import Misuse
from g2dbench.sample import Box


def test_one_broken_object_of_several_costs_boxes_and_masks_alone(tmp_path: Path) -> None:
    save_image(tmp_path / "train/1.jpg")
    save_image(tmp_path / "train/2.jpg")
    first = {"image_name": "1.jpg", "annotation": "0 1 2 3 4;2 1 1"}
    write_table(tmp_path / "train.csv", first, {"image_name": "2.jpg", "annotation": ""})
    partial, empty = records(object_cxr.read(tmp_path))
    assert (partial.labels, partial.boxes, partial.masks) == ({"Foreign Object": 1}, None, None)
    assert partial.notes == (object_cxr.BROKEN,)
    assert (empty.labels, empty.boxes, empty.notes) == ({"Foreign Object": 0}, (), ())


def test_a_finding_without_corners_costs_the_boxes_alone(tmp_path: Path) -> None:
    row = {"image_id": "a", "class_name": "Cardiomegaly", "class_id": "3", "rad_id": "R1"}
    corners = {"x_min": "1", "y_min": "2", "x_max": "9", "y_max": "8"}
    blank = dict.fromkeys(corners, "")
    save_image(tmp_path / "train/a.png")
    for cells, boxes in ((corners, (Box("Cardiomegaly", 1, 2, 9, 8),)), (blank, None)):
        size = {"width": "32", "height": "32"}
        rows = [{**row, **cells, "rad_id": reader, **size} for reader in ("R1", "R2", "R3")]
        write_table(tmp_path / "train.csv", *rows)
        (found,) = records(vinbigdata.read(tmp_path))
        assert (found.labels["Cardiomegaly"], found.boxes) == (1, boxes)


def test_a_minoritys_box_without_corners_costs_nothing(tmp_path: Path) -> None:
    row = {"image_id": "a", "class_name": "No finding", "class_id": "14", "rad_id": "R1",
           "x_min": "", "y_min": "", "x_max": "", "y_max": ""}  # fmt: skip
    alone = {**row, "class_name": "Cardiomegaly", "class_id": "3", "rad_id": "R9"}
    write_table(tmp_path / "train.csv", row, {**row, "rad_id": "R2"}, alone)
    save_image(tmp_path / "train/a.png")
    (found,) = records(vinbigdata.read(tmp_path))
    assert (found.labels["Cardiomegaly"], found.boxes, found.notes) == (0, (), ())


def test_vindr_reports_boxes_of_images_without_labels(tmp_path: Path) -> None:
    labels = {"image_id": "a", "rad_id": "R1", **dict.fromkeys(vindr.CARD.findings, "0")}
    write_table(tmp_path / "annotations/image_labels_train.csv", labels)
    box = {"image_id": "z", "rad_id": "R1", "class_name": "Cardiomegaly",
           "x_min": "1", "y_min": "2", "x_max": "9", "y_max": "8"}  # fmt: skip
    write_table(tmp_path / "annotations/annotations_train.csv", box)
    save_image(tmp_path / "train/a.png")
    note, _ = vindr.read(tmp_path)
    assert "boxes of 1 images that image_labels_train.csv lacks" in note.text


def test_a_box_of_nih_without_corners_costs_the_boxes_alone(tmp_path: Path) -> None:
    entry = {"Image Index": "00000001_000.png", "Finding Labels": "Mass", "Patient ID": "1"}
    write_table(tmp_path / nih_cxr14.TABLES[0], entry)
    save_image(tmp_path / "images/00000001_000.png")
    head = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
    (tmp_path / nih_cxr14.BOXES).write_text(f"{head}\n00000001_000.png,Mass,,,,,,,\n")
    (found,) = records(nih_cxr14.read(tmp_path))
    assert (found.labels["Mass"], found.boxes, found.frame) == (1, None, None)


def test_a_positive_image_without_its_mask_file_keeps_its_label(tmp_path: Path) -> None:
    save_image(tmp_path / "png_images/1_train_1_.png")
    save_image(tmp_path / "png_masks/2_train_0_.png")
    row = {"new_filename": "1_train_1_.png", "ImageId": "a", "has_pneumo": "1"}
    write_table(tmp_path / "stage_1_train_images.csv", row)
    (found,) = records(siim.read(tmp_path))
    assert (found.labels, found.masks, len(found.notes)) == ({"Pneumothorax": 1}, None, 1)


# -- copies of other proportions


def test_stretched_copies_are_refused_until_they_are_said_to_be(tmp_path: Path) -> None:
    row = {"image_id": "a", "class_name": "Cardiomegaly", "class_id": "3", "rad_id": "R1",
           "x_min": "100", "y_min": "300", "x_max": "500", "y_max": "600",
           "width": "1000", "height": "3000"}  # fmt: skip
    write_table(tmp_path / "train.csv", row)
    save_image(tmp_path / "train/a.png", 100, 100)
    (refused,) = vinbigdata.read(tmp_path)
    assert "3000 x 1000" in refused.reason
    assert "100 x 100" in refused.reason
    (found,) = records(vinbigdata.read(tmp_path, {"copies": "stretched"}))
    assert (found.boxes, found.frame) == ((Box("Cardiomegaly", 10, 10, 50, 20),), (100, 100))
    with pytest.raises(Misuse, match="the only value is stretched"):
        list(vinbigdata.read(tmp_path, {"copies": "padded"}))
