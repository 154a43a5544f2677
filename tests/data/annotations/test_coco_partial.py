"""Partially annotated COCO files: the known part is used, and notes say what is unknown."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from g2dbench.data.annotations.coco import CocoImage, has_masks, note_unlisted, read_coco
from g2dbench.errors import BadData
from g2dbench.sample import Box

OUTLINE = [[1, 1, 9, 1, 9, 9, 1, 9]]


def write(path: Path, *annotations: dict[str, Any], images: int = 2) -> Path:
    listed = [{"id": n, "file_name": f"{n}.png", "height": 20, "width": 30} for n in range(images)]
    names = [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}]
    content = {"images": listed, "annotations": list(annotations), "categories": names}
    path.write_text(json.dumps(content))
    return path


def annotation(image: int, category: int = 0, **others: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": [1, 1, 8, 8], **others}


def read(path: Path) -> list[CocoImage]:
    return list(read_coco(path))


BOX = Box("a", 1, 1, 9, 9)


@pytest.mark.parametrize("outline", [[], None, {}, "absent"])
def test_a_box_without_an_outline_keeps_its_box(tmp_path: Path, outline: object) -> None:
    without_outline = annotation(0, segmentation=outline)
    if outline == "absent":
        del without_outline["segmentation"]
    first, second = read(
        write(tmp_path / "c.json", without_outline, annotation(1, segmentation=OUTLINE))
    )
    assert (first.boxes, first.masks) == ((BOX,), None)
    assert first.notes == (
        "an annotation of 'a' has no outline, so that the image's masks are not known",
    )
    assert (second.boxes, second.notes, second.masks["a"].sum()) == ((BOX,), (), 64)


@pytest.mark.parametrize("broken", [[[1, 2]], [[1, 1, "x", 2, 3, 3]], "text", {"counts": [1]}])
def test_one_bad_outline_makes_only_the_masks_of_its_image_unknown(
    tmp_path: Path, broken: object
) -> None:
    path = write(
        tmp_path / "c.json", annotation(0, segmentation=OUTLINE),
        annotation(0, 1, segmentation=broken),
        annotation(1, segmentation=OUTLINE),
    )  # fmt: skip
    first, second = read(path)
    assert (first.boxes, first.masks) == ((BOX, BOX._replace(finding="b")), None)
    assert len(first.notes) == 1
    assert second.masks["a"].sum() == 64


@pytest.mark.parametrize("compressed", [True, False])
def test_a_crowd_has_a_mask_but_no_known_boxes(tmp_path: Path, compressed: bool) -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[3:9, 4:20] = 1
    coded = coco_mask.encode(np.asfortranarray(mask))
    runs = {"size": [20, 30], "counts": coded["counts"].decode()}
    if not compressed:
        runs["counts"] = [83, *([6, 14] * 15), 6, 211]
    path = write(tmp_path / "c.json", annotation(0, segmentation=runs, iscrowd=1))
    first, second = read(path)
    assert (first.boxes, second.boxes) == (None, ())
    np.testing.assert_array_equal(first.masks["a"], mask)
    assert first.notes == ("an annotation is a crowd, so that single boxes are not known",)


@pytest.mark.parametrize("bbox", [None, []])
def test_an_outline_without_a_box_has_a_mask(tmp_path: Path, bbox: object) -> None:
    first, _ = read(write(tmp_path / "c.json", annotation(0, segmentation=OUTLINE, bbox=bbox)))
    assert (first.boxes, first.masks["a"].sum(), len(first.notes)) == (None, 64, 1)


def test_annotations_of_unlisted_images_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", annotation(0), annotation(7), annotation(8))
    assert not has_masks(path)
    assert [len(image.boxes or ()) for image in read(path)] == [1, 0]
    (note,) = note_unlisted(path)
    assert note.text.startswith("2 annotations of c.json are of images that it does not list")
    assert list(note_unlisted(write(path, annotation(0)))) == []


@pytest.mark.parametrize("image_id", [None, "0", 0.0])
def test_an_image_id_of_another_type_is_refused(tmp_path: Path, image_id: object) -> None:
    with pytest.raises(BadData, match="no id of an image"):
        read(write(tmp_path / "c.json", {**annotation(0), "image_id": image_id}))
