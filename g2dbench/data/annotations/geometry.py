"""The way from a file's pixels to stored ones: a window is cut out, then scaled.

One convention for images, boxes and masks: pixel i covers the coordinates from i to i + 1, so that
a scale multiplies edges and nothing is shifted by half a pixel. Pillow's resampling keeps to it.
"""

import math
from dataclasses import dataclass

from g2dbench.data.annotations.masks import Mask, resize
from g2dbench.data.images.border import Window
from g2dbench.errors import BadData
from g2dbench.sample import Box

SLACK = 1.0
"""Pixels by which a box may leave its frame, for rounding; it is clipped."""

ROUNDING = 1.0
"""Pixels by which a copy's sides may differ from its original's proportions."""

Shape = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """file: (H, W) of the file; window: what is kept of it; stored: (H, W) of that when scaled.

    Annotation comes in a frame (H, W) of its own, which covers the whole file.
    """

    file: Shape
    window: Window
    stored: Shape

    def box(self, box: Box, frame: Shape) -> Box:
        """A box of the frame in stored pixels.

        BadData: not finite, empty or turned around, more than SLACK pixels outside the frame, or
        wholly in what is cut off.
        """
        if not all(map(math.isfinite, box[1:])):
            raise BadData(f"the box {box} has corners that are not numbers")
        height, width = frame
        if min(box.x0, box.y0) < -SLACK or box.x1 > width + SLACK or box.y1 > height + SLACK:
            raise BadData(f"the box {box} lies outside its {height} x {width} frame")
        if _overlap(box.x0, box.x1, 0, width) <= 0 or _overlap(box.y0, box.y1, 0, height) <= 0:
            raise BadData(f"the box {box} has no area")
        top, left, bottom, right = self._kept(frame)
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
        """A mask of the frame at the stored size.

        BadData: it has another shape, or all of it is cut off.
        """
        if mask.shape != frame:
            raise BadData(f"a mask has the shape {mask.shape}, its frame is {frame}")
        top, left, bottom, right = self._kept(frame)
        small = resize(mask, *self.stored, within=(left, top, right, bottom))
        if mask.any() and not small.any():
            raise BadData("a mask lies in the border that is cut off: use --border keep")
        return small

    def _kept(self, frame: Shape) -> tuple[float, float, float, float]:
        """The window in the frame's coordinates."""
        (height, width), (rows, columns) = frame, self.file
        top, left, bottom, right = self.window
        return (
            top * height / rows,
            left * width / columns,
            bottom * height / rows,
            right * width / columns,
        )


def check_frame(frame: Shape, file: Shape) -> None:
    """BadData unless a file (H, W) can be a copy of the picture that was annotated, (H, W) `frame`.

    A copy has the same proportions; ROUNDING pixels of the smaller one may be missing or too many.
    """
    if _is_copy(frame, file):
        return
    told = (
        f"its annotation is of a picture of {frame[0]} x {frame[1]} pixels (height x width), the "
        f"image file has {file[0]} x {file[1]} as it is shown"
    )
    if _is_copy(frame, (file[1], file[0])):
        raise BadData(
            f"{told}: height and width are exchanged; write the sizes of the picture as it is "
            "shown, after the turn that its EXIF data ask for"
        )
    raise BadData(f"{told}: a copy must keep the proportions, or boxes lie elsewhere in it")


def _is_copy(frame: Shape, file: Shape) -> bool:
    """Whether one scale explains both sides, but for ROUNDING."""
    small, large = sorted((frame, file), key=math.prod)
    sides = list(zip(small, large, strict=True))
    least = max((side - ROUNDING) / full for side, full in sides)
    return least <= min((side + ROUNDING) / full for side, full in sides)


def _overlap(low: float, high: float, start: float, stop: float) -> float:
    return min(high, stop) - max(low, start)
