"""VinDr-CXR: consensus of radiologists, rescaled copies, damaged rows."""

from pathlib import Path

import pytest
from support.data.official_layouts import official_header, place_image, write

from g2dbench.data.readers import (
    vindr,
)
from g2dbench.data.readers.vindr.consensus import majority_labels, merge_boxes
from g2dbench.data.store.decode import load
from g2dbench.data.tables.records import Rejected
from g2dbench.errors import BadData
from g2dbench.sample import Box, Record


def test_majority_and_fusion_by_hand() -> None:
    votes = [{"a": 1, "b": 1}, {"a": 1, "b": 0}, {"a": 0, "b": 0}]
    assert majority_labels(votes) == {"a": 1, "b": 0}
    assert majority_labels([{"a": 1}, {"a": 0}]) == {"a": 0}
    near = [Box("a", 0, 0, 10, 10), Box("a", 2, 0, 12, 10), Box("a", 4, 0, 14, 10)]
    # Neighbours overlap by 80 / 120, the outer two by 60 / 140: linked through the middle one.
    other = [Box("a", 100, 0, 110, 10), Box("b", 0, 0, 10, 10)]
    expected = (Box("a", 2, 0, 12, 10), *other)
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1], [2, 0, 1, 4, 3]):
        assert merge_boxes([(near + other)[place] for place in order]) == expected
    assert len(merge_boxes([Box("a", 0, 0, 10, 10), Box("a", 5, 0, 15, 10)])) == 2


def vindr_root(root: Path, real_data: Path, train: dict, boxes: list[str], suffix: str) -> Path:
    """train: image -> findings that each reader marks; the test image has Cardiomegaly."""
    header = official_header(real_data, "VinDr-CXR/annotations/image_labels_train.csv")
    names = header.split(",")[2:]
    rows = [
        ",".join([image, f"R{reader}", *(str(int(name in marked)) for name in names)])
        for image, readers in train.items()
        for reader, marked in enumerate(readers)
    ]
    write(root / "annotations/image_labels_train.csv", header, *rows)
    of_boxes = official_header(real_data, "VinDr-CXR/annotations/annotations_train.csv")
    write(root / "annotations/annotations_train.csv", of_boxes, *boxes)
    header = official_header(real_data, "VinDr-CXR/annotations/image_labels_test.csv")
    marked = ("Cardiomegaly", "Other disease")
    row = ["t", *(str(int(name in marked)) for name in header.split(",")[1:])]
    write(root / "annotations/image_labels_test.csv", header, ",".join(row))
    of_boxes = official_header(real_data, "VinDr-CXR/annotations/annotations_test.csv")
    write(root / "annotations/annotations_test.csv", of_boxes, "t,Cardiomegaly,1,2,30,40")
    for part, images in (("train", train), ("test", ["t"])):
        for image in images:
            place_image(root / part / f"{image}{suffix}", real_data)
    return root


READERS = {
    "a": [{"Cardiomegaly", "Other diseases"}, {"Cardiomegaly", "Other diseases"}, {"ILD"}],
    "b": [{"No finding"}, {"No finding"}, {"ILD"}],
}


BOXES = [
    "a,R0,Cardiomegaly,100,200,300,400", "a,R1,Cardiomegaly,110,200,310,400",
    "a,R2,ILD,1,1,50,50", "b,R0,No finding,,,,", "b,R1,No finding,,,,", "b,R2,ILD,1,1,50,50",
]  # fmt: skip


def test_vindr_readers_agree_by_majority(tmp_path: Path, real_data: Path) -> None:
    root = vindr_root(tmp_path, real_data, READERS, BOXES, ".dicom")
    first, second, test = vindr.read(root)
    assert {name for name, value in first.labels.items() if value} == {
        "Cardiomegaly", "Other disease",
    }  # fmt: skip
    assert set(first.labels) == set(vindr.CARD.findings)
    assert first.boxes == (Box("Cardiomegaly", 105, 200, 305, 400),)
    assert (first.split, first.frame, first.path.suffix) == (None, None, ".dicom")
    assert [name for name, value in second.labels.items() if value] == ["No finding"]
    assert second.boxes == ()
    assert {name for name, value in test.labels.items() if value} == {
        "Cardiomegaly", "Other disease",
    }  # fmt: skip
    assert (test.split, test.boxes) == ("test", (Box("Cardiomegaly", 1, 2, 30, 40),))


def test_vindr_copies_need_the_originals_size(tmp_path: Path, real_data: Path) -> None:
    root = vindr_root(tmp_path, real_data, READERS, BOXES, ".png")
    first, second, test = vindr.read(root)
    assert "train_meta.csv (image_id,dim0,dim1" in first.reason
    assert isinstance(second, Record)
    assert isinstance(test, Rejected)
    write(root / "train_meta.csv", "image_id,dim0,dim1", "a,2048,1024")
    (found, *_) = vindr.read(root)
    assert "2048 x 1024" in found.reason
    assert "--option copies=stretched" in found.reason
    (found, *_) = vindr.read(root, {"copies": "stretched"})
    sample = load(found, found.path.read_bytes(), 512)
    # 2,048 rows and 1,024 columns squeezed to 512 x 512.
    assert sample.boxes == (Box("Cardiomegaly", 52.5, 50, 152.5, 100),)


def test_vindr_reports_invalid_rows(tmp_path: Path, real_data: Path) -> None:
    boxes = ["a,R0,Cardiomegaly,1,2,x,4", "b,R0,Aorta,1,2,3,4"]
    root = vindr_root(tmp_path, real_data, READERS, boxes, ".dicom")
    first, second, _ = vindr.read(root)
    assert "line 2 of annotations_train.csv: x_max is 'x'" in first.reason
    assert "line 3 of annotations_train.csv: 'Aorta' is not a finding" in second.reason
    labels = root / "annotations/image_labels_train.csv"
    text = labels.read_text()
    labels.write_text(text.replace("Other diseases", "Else"))
    with pytest.raises(BadData, match=r"lacks the columns \['Other disease'\]"):
        list(vindr.read(root))
    labels.write_text(text.replace("a,R0,0", "a,R0,2"))
    assert "is 2, not 0 or 1" in next(vindr.read(root)).reason
