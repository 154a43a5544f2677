"""Masks of polygons, rectangles and ellipses, compared with OpenCV and Pillow."""

import numpy as np
from PIL import Image, ImageDraw

from g2dbench.data.annotations.masks import BoxMasks
from g2dbench.data.annotations.shapes import Ellipse, Polygon, Rectangle, ShapeMasks
from g2dbench.sample import Box


def by_hand(corners: tuple, height: int, width: int) -> np.ndarray:
    """Even-odd rule, one pixel centre and one edge at a time."""
    mask = np.zeros((height, width), bool)
    for row in range(height):
        for column in range(width):
            x, y, inside = column + 0.5, row + 0.5, False
            for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
                if (y0 > y) != (y1 > y) and x >= x0 + (y - y0) * (x1 - x0) / (y1 - y0):
                    inside = not inside
            mask[row, column] = inside
    return mask


def test_polygons_agree_with_the_even_odd_rule_and_with_opencv() -> None:
    import cv2

    generator = np.random.default_rng(0)
    for count in (3, 4, 7, 12):
        points = generator.uniform(-4, 44, (count, 2)).round(int(generator.integers(0, 3)))
        corners = tuple(map(tuple, points.tolist()))
        mask = ShapeMasks([Polygon("x", corners)], (36, 40))["x"]
        np.testing.assert_array_equal(mask, by_hand(corners, 36, 40))
    star = ((20.3, 2.1), (26.7, 33.2), (3.4, 12.9), (37.2, 13.1), (12.6, 33.8))
    mask = ShapeMasks([Polygon("x", star)], (36, 40))["x"]
    # OpenCV fills the border too, so that ours lies within and differs at the border alone.
    filled = np.zeros((36, 40), np.uint8)
    fixed = np.round((np.array(star) - 0.5) * 256).astype(np.int32)
    cv2.fillPoly(filled, [fixed], 1, shift=8)
    assert not (mask & (filled == 0)).any()
    border = np.zeros((36, 40), np.uint8)
    cv2.polylines(border, [fixed], True, 1, thickness=2, shift=8)
    assert not ((filled == 1) & ~mask & (border == 0)).any()


def test_rectangles_agree_with_boxes_and_with_the_same_polygon() -> None:
    box = Box("x", 3.2, 4.5, 17.5, 20.49)
    mask = ShapeMasks([Rectangle(box)], (24, 30))["x"]
    np.testing.assert_array_equal(mask, BoxMasks([box], (24, 30))["x"])
    corners = ((3.2, 4.5), (17.5, 4.5), (17.5, 20.49), (3.2, 20.49))
    np.testing.assert_array_equal(mask, ShapeMasks([Polygon("x", corners)], (24, 30))["x"])


def test_ellipses_agree_with_their_equation_and_with_pillow() -> None:
    mask = ShapeMasks([Ellipse(Box("x", 5, 3, 35, 21))], (24, 40))["x"]
    y, x = np.mgrid[:24, :40] + 0.5
    np.testing.assert_array_equal(mask, ((x - 20) / 15) ** 2 + ((y - 12) / 9) ** 2 <= 1)
    drawn = Image.new("1", (40, 24))
    ImageDraw.Draw(drawn).ellipse((5, 3, 34, 20), fill=1)
    assert (np.asarray(drawn) != mask).sum() <= 8
    assert abs(mask.sum() - np.pi * 15 * 9) < 6
    assert not ShapeMasks([Ellipse(Box("x", 5, 3, 5, 21))], (24, 40))["x"].any()
