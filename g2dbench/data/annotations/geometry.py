"""The mapping from the pixels of a file to stored pixels: a window is cropped and then scaled.

Images, boxes and masks share one convention, which Pillow's resampling follows too: pixel i covers
the coordinates from i to i + 1. Scaling multiplies edges, so that nothing shifts by half a pixel.
"""

import math
from dataclasses import dataclass

from g2dbench.data.annotations.masks import Mask, resize
from g2dbench.data.images.border import Window
from g2dbench.errors import BadData
from g2dbench.sample import Box

BOX_TOLERANCE = 1.0
"""Pixels by which a rounded box may extend beyond its frame; the box is clipped."""

SIDE_TOLERANCE = 1.0
"""Pixels by which the sides of a copy may deviate from the proportions of its original."""

Shape = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """A crop and a scale.

    file: (H, W) of the file; window: the part that is kept; stored: (H, W) to which the window is
    scaled. An annotation has its own frame (H, W), which covers the whole file.
    """

    file: Shape
    window: Window
    stored: Shape

    def box(self, box: Box, frame: Shape) -> Box:
        """Map a box of the frame to stored pixels.

        BadData: a corner is not finite, the box has no area, it extends more than BOX_TOLERANCE
        pixels beyond the frame, or it lies completely outside the window.
        """
        if not all(map(math.isfinite, box[1:])):
            raise BadData(f"the box {box} has corners that are not numbers")
        height, width = frame
        if (
            min(box.x0, box.y0) < -BOX_TOLERANCE
            or box.x1 > width + BOX_TOLERANCE
            or box.y1 > height + BOX_TOLERANCE
        ):
            raise BadData(f"the box {box} lies outside its {height} x {width} frame")
        if _overlap(box.x0, box.x1, 0, width) <= 0 or _overlap(box.y0, box.y1, 0, height) <= 0:
            raise BadData(f"the box {box} has no area")
        top, left, bottom, right = self._window_in_frame(frame)
        x0, x1 = max(box.x0, left), min(box.x1, right)
        y0, y1 = max(box.y0, top), min(box.y1, bottom)
        if x0 >= x1 or y0 >= y1:
            raise BadData(f"the box {box} lies in the border that is cut off: use --border keep")
        across, down = self.stored[1] / (right - left), self.stored[0] / (bottom - top)
        return Box(
            box.finding,
            (x0 - left) * across,
            (y0 - top) * down,
            (x1 - left) * across,
            (y1 - top) * down,
        )

    def mask(self, mask: Mask, frame: Shape) -> Mask:
        """Map an (H, W) mask of the frame to the stored size.

        BadData: the shape is not that of the frame, or all of the finding lies outside the window.
        """
        if mask.shape != frame:
            raise BadData(f"a mask has the shape {mask.shape}, its frame is {frame}")
        top, left, bottom, right = self._window_in_frame(frame)
        small = resize(mask, *self.stored, within=(left, top, right, bottom))
        if mask.any() and not small.any():
            raise BadData("a mask lies in the border that is cut off: use --border keep")
        return small

    def _window_in_frame(self, frame: Shape) -> tuple[float, float, float, float]:
        """The window (top, left, bottom, right) in coordinates of the frame."""
        (height, width), (rows, columns) = frame, self.file
        top, left, bottom, right = self.window
        return (
            top * height / rows,
            left * width / columns,
            bottom * height / rows,
            right * width / columns,
        )


def check_frame(frame: Shape, file: Shape) -> None:
    """BadData unless a file (H, W) can be a resized copy of the annotated picture `frame` (H, W).

    A copy has the same proportions, up to SIDE_TOLERANCE pixels of the smaller picture.
    """
    if _has_same_proportions(frame, file):
        return
    sizes = (
        f"its annotation is of a picture of {frame[0]} x {frame[1]} pixels (height x width), the "
        f"image file has {file[0]} x {file[1]} as it is shown"
    )
    if _has_same_proportions(frame, (file[1], file[0])):
        raise BadData(
            f"{sizes}: height and width are exchanged; write the sizes of the picture as it is "
            "shown, after the turn that its EXIF data ask for"
        )
    raise BadData(f"{sizes}: a copy must keep the proportions, or boxes lie elsewhere in it")


def _has_same_proportions(frame: Shape, file: Shape) -> bool:
    """Whether one scale maps both sides of a picture to the other, up to SIDE_TOLERANCE."""
    small, large = sorted((frame, file), key=math.prod)
    sides = list(zip(small, large, strict=True))
    least = max((side - SIDE_TOLERANCE) / full for side, full in sides)
    return least <= min((side + SIDE_TOLERANCE) / full for side, full in sides)


def _overlap(low: float, high: float, start: float, stop: float) -> float:
    """The length that two intervals share; negative if they are apart."""
    return min(high, stop) - max(low, start)
