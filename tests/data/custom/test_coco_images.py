"""The reader of a user's annotated images with a COCO file."""

from pathlib import Path

import numpy as np
import pytest
from support.data.custom_data import write_coco, write_images

from g2dbench.data.custom import images
from g2dbench.data.tables.records import Rejected
from g2dbench.errors import BadData
from g2dbench.sample import Box, Record


def test_coco_boxes_and_masks_equal_those_of_pycocotools(tmp_path: Path) -> None:
    from pycocotools import mask as coco

    root = write_images(tmp_path)
    polygon = [[4.0, 4.0, 20.0, 4.0, 20.0, 20.0, 4.0, 20.0]]
    runs = {"counts": [5, 10, 1265], "size": [32, 40]}
    write_coco(root, [
        {"image_id": 0, "category_id": 7, "bbox": [4, 4, 16, 16], "segmentation": polygon},
        {"image_id": 0, "category_id": 9, "bbox": [0, 5, 1, 10], "segmentation": runs},
    ])  # fmt: skip
    card = images.describe(root, {})
    assert (card.offers, card.findings) == (("boxes", "masks"), ("Nodule", "Mass"))
    first, second, *_ = images.read(root, {})
    assert first.boxes == (Box("Nodule", 4, 4, 20, 20), Box("Mass", 0, 5, 1, 15))
    expected = coco.decode(coco.frPyObjects(polygon, 32, 40))[:, :, 0]
    np.testing.assert_array_equal(first.masks["Nodule"], expected)
    np.testing.assert_array_equal(first.masks["Mass"], coco.decode(coco.frPyObjects(runs, 32, 40)))
    assert (second.boxes, dict(second.masks)) == ((), {})


BAD_ANNOTATIONS = [
    {"image_id": 0, "category_id": 1, "bbox": [1, 1, 2, 2]},
    {"image_id": 0, "category_id": 7, "bbox": [1, 1, 2]},
    {"image_id": 0, "category_id": 7, "bbox": [1, 1, "x", 2]},
]
BAD_OUTLINES = [
    {"image_id": 0, "category_id": 7, "bbox": [1, 1, 2, 2], "segmentation": [[1, 2]]},
    {"image_id": 0, "category_id": 7, "bbox": [1, 1, 2, 2],
     "segmentation": {"counts": "abc", "size": [32, 40]}},
    {"image_id": 0, "category_id": 7, "bbox": [1, 1, 2, 2],
     "segmentation": {"counts": [1], "size": [9, 9]}},
]  # fmt: skip


@pytest.mark.parametrize("annotation", BAD_ANNOTATIONS)
def test_a_malformed_annotation_rejects_only_its_image(tmp_path: Path, annotation: dict) -> None:
    root = write_images(tmp_path)
    write_coco(root, [annotation])
    first, *others = images.read(root, {})
    assert isinstance(first, Rejected)
    assert "coco.json, images/a.0.png: " in first.reason
    assert [type(other) for other in others] == [Record] * 3


@pytest.mark.parametrize("annotation", BAD_OUTLINES)
def test_a_malformed_outline_makes_the_masks_of_its_image_unknown(
    tmp_path: Path, annotation: dict
) -> None:
    root = write_images(tmp_path)
    write_coco(root, [annotation])
    first, second, *_ = images.read(root, {})
    assert (first.boxes, first.masks) == ((Box("Nodule", 1, 1, 3, 3),), None)
    assert first.notes[0].endswith("so that the image's masks are not known")
    assert (second.boxes, dict(second.masks), second.notes) == ((), {}, ())


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"images": [1], "annotations": [], "categories": []}', "[" * 100_000]
)
def test_the_error_names_a_file_that_is_not_coco(tmp_path: Path, text: str) -> None:
    root = write_images(tmp_path)
    (root / "coco.json").write_text(text)
    with pytest.raises(BadData, match=r"coco\.json"):
        list(images.read(root, {}))
