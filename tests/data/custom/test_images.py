"""The reader of a user's annotated images: labels, mask files and names."""

from collections import Counter
from pathlib import Path

import pytest
from support.data.custom_data import save_image, write_images

from g2dbench.data.custom import images
from g2dbench.data.tables.records import Missing, Note
from g2dbench.errors import BadData, Misuse
from g2dbench.sample import Record


def test_label_columns_are_found_and_others_ignored(tmp_path: Path) -> None:
    rows = (
        "file,Edema,Nodule,week,sex\na.0,1,0,3,M\na.1.png,,-1,4,F\nimages/a.2.png,,,5,\nq,1,1,1,\n"
    )
    root = write_images(tmp_path, rows)
    card = images.describe(root, {})
    assert (card.offers, card.findings) == (("labels",), ("Edema", "Nodule"))
    note, *found = images.read(root, {})
    assert "week ('3' in line 2 of labels.csv is no label)" in note.text
    assert [getattr(item, "labels", "") for item in found] == [
        {"Edema": 1, "Nodule": 0}, {"Nodule": -1}, None, "",
    ]  # fmt: skip
    assert [item.path.name for item in found[:3]] == ["a.0.png", "a.1.png", "a.2.png"]
    assert isinstance(found[3], Missing)
    assert images.describe(root, {"findings": "Nodule"}).findings == ("Nodule",)
    with pytest.raises(Misuse, match="no columns Mass"):
        images.describe(root, {"findings": "Nodule,Mass"})


def test_a_column_of_class_names_is_read(tmp_path: Path) -> None:
    root = write_images(tmp_path, "image,class\na.0,Flu|Cold\na.1,Cold\na.2,\n")
    first, second, third = images.read(root, {})
    assert first.labels == {"Cold": 1, "Flu": 1}
    assert second.labels == {"Cold": 1, "Flu": 0}
    assert third.labels is None


def test_malformed_labels_and_ambiguous_names_are_rejected(tmp_path: Path) -> None:
    root = write_images(tmp_path, "image,x\na.0,1\na.1,2\na.3,1\n")
    save_image(root / "more/a.3.png")
    good, label, twice = images.read(root, {"findings": "x"})
    assert isinstance(good, Record)
    assert label.reason == "line 3 of labels.csv: the label of 'x' is '2', not 1, 0 or -1"
    assert "2 files are called 'a.3'" in twice.reason


def test_mask_folders_are_read(tmp_path: Path) -> None:
    root = write_images(tmp_path, "image\na.0\na.1\na.2\n")
    for name, value in (("left/a.0", 255), ("right/a.0", 1), ("left/a.1", 7)):
        save_image(root / f"masks/{name}.png", value)
    card = images.describe(root, {})
    assert (card.offers, card.findings) == (("masks",), ("left", "right"))
    first, second, third = images.read(root, {})
    assert [first.masks[side].sum() for side in ("left", "right")] == [40 * 32 - 1] * 2
    assert third.masks is None
    with pytest.raises(BadData, match="not black and white"):
        second.masks["left"]


def test_masks_outside_the_root_are_refused(tmp_path: Path) -> None:
    root = write_images(tmp_path / "root", "image\na.0\n")
    save_image(tmp_path / "secret.png", 255)
    (root / "masks").mkdir()
    (root / "masks/a.0.png").symlink_to(tmp_path / "secret.png")
    (found,) = images.read(root, {})
    with pytest.raises(BadData, match="outside"):
        found.masks["Foreground"]


def test_excerpts_of_real_data_sets_are_read(real_data: Path) -> None:
    """Actualmed, Figure1 and the COVID segmentation set, none of which has a reader."""
    root = real_data / "real/actualmed_covid"
    found = list(images.read(root, {"table": "metadata.csv"}))
    assert Counter(type(item) for item in found) == {Record: 44, Note: 1}
    assert set(found[1].labels) == {"COVID-19", "No finding"}
    root = real_data / "real/figure1_covid"
    asked = {"table": "metadata.csv", "image": "patientid", "text": "notes"}
    found = list(images.read(root, asked))
    assert Counter(type(item) for item in found) == {Record: 55, Note: 1}
    assert sum(item.labels is not None and item.labels["COVID-19"] for item in found[1:]) == 35
    root = real_data / "real/covid_cxr_segmentation"
    found = list(images.read(root, {"table": "manifest.csv", "text": "report"}))
    assert Counter(type(item) for item in found) == {Record: 44, Note: 1}
    assert all(item.masks["left_lung"].any() for item in found[1:] if "left_lung" in item.masks)
