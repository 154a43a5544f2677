"""Boxes and masks in stored pixels, and run lengths, compared with pycocotools."""

import numpy as np
import pytest

from g2dbench.data.annotations.geometry import Geometry
from g2dbench.data.annotations.masks import BoxMasks, resize
from g2dbench.data.annotations.rle import from_runs as decode_runs
from g2dbench.data.annotations.rle import to_runs as encode
from g2dbench.errors import BadData
from g2dbench.sample import Box


def test_boxes_are_scaled_and_clipped_by_rounding_only() -> None:
    way = Geometry((1024, 1024), (0, 0, 1024, 1024), (256, 512))
    assert way.box(Box("x", -0.5, 0, 1024.5, 512), (1024, 1024)) == Box("x", 0, 0, 512, 128)


def test_runs_agree_with_pycocotools() -> None:
    from pycocotools import mask as coco

    generator = np.random.default_rng(0)
    shapes = [(1, 1), (7, 5), (64, 48)]
    masks = [generator.random(shape) > 0.6 for shape in shapes]
    masks += [np.zeros((5, 4), bool), np.ones((5, 4), bool)]
    for mask in masks:
        runs = encode(mask)
        height, width = mask.shape
        packed = coco.frPyObjects({"counts": runs, "size": [height, width]}, height, width)
        np.testing.assert_array_equal(coco.decode(packed).astype(bool), mask)
        np.testing.assert_array_equal(decode_runs(runs, height, width), mask)


def test_runs_that_leave_the_image_are_bad_data() -> None:
    for runs in ([10, 7], [-1, 3]):
        with pytest.raises(BadData):
            decode_runs(runs, 4, 4)


def test_a_mask_smaller_than_a_pixel_survives_reducing() -> None:
    mask = np.zeros((64, 64), bool)
    mask[10, 20] = True
    small = resize(mask, 8, 8)
    assert small.sum() == 1
    assert small[1, 2]
    assert not resize(np.zeros((64, 64), bool), 8, 8).any()
    np.testing.assert_array_equal(resize(np.kron(np.eye(4), np.ones((8, 8))) > 0, 4, 4), np.eye(4))


def test_box_masks_cover_the_pixels_whose_centre_they_hold() -> None:
    masks = BoxMasks((Box("a", 1, 0, 3, 1), Box("a", 3.5, 2.5, 5, 4), Box("b", 0, 0, 9, 9)), (4, 6))
    expected = np.zeros((4, 6), bool)
    expected[0, 1:3] = True
    expected[2:4, 3:5] = True
    np.testing.assert_array_equal(masks["a"], expected)
    assert list(masks) == ["a", "b"]
    assert masks["b"].all()
