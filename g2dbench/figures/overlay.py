"""Ground truth and prediction drawn over images, as a sheet of many panels.

Shapes: H W pixels of an image; boxes are (x0, y0, x1, y1) in them. Ground truth is a solid blue
line, a prediction a dashed orange one (Okabe & Ito 2008: distinguishable with every kind of color
vision, and in gray by the dashes).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from g2dbench.data.images.image_file import GrayImage
from g2dbench.figures.contact_sheet import Pen, to_colors

Boxes = tuple[tuple[float, float, float, float], ...]
Points = NDArray[np.float64]

TRUTH_COLOR, PREDICTION_COLOR = (86, 180, 233), (230, 159, 0)
PANEL_SIDE, PER_ROW = 220, 5
_GAP, _MARGIN, _LINE, _TEXT, _SMALL = 10, 14, 18, 15, 12
_INK, _PALE, _PAPER = (20, 20, 20), (90, 90, 90), (255, 255, 255)
_DASH = 5.0
_HEAT_SHARE = 0.5
_BAR_HEIGHT = 8


@dataclass(frozen=True)
class Overlay:
    """Ground truth and prediction of one image; what is absent is empty or None.

    heat: (H, W) map in [0, 1], NaN where the model sees nothing; heat_range: the values that 0 and
    1 stand for.
    """

    truth_boxes: Boxes = ()
    truth_mask: NDArray[np.bool_] | None = None
    predicted_boxes: Boxes = ()
    confidences: tuple[float, ...] = ()
    predicted_mask: NDArray[np.bool_] | None = None
    heat: NDArray[np.float32] | None = None
    heat_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Panel:
    """One image of a sheet, with what is drawn over it and two lines of text."""

    image: GrayImage
    overlay: Overlay
    heading: str
    caption: str


def outlines(mask: NDArray[np.bool_] | None) -> list[Points]:
    """The borders of a mask, each (P, 2) x, y of pixel centers; none without a mask."""
    if mask is None or not mask.any():
        return []
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [contour[:, 0].astype(np.float64) + 0.5 for contour in found]


def draw_overlays(title: str, panels: Sequence[Panel]) -> Image.Image:
    """The sheet: the title, a legend, and the panels in rows of `PER_ROW`."""
    columns = max(3, min(PER_ROW, len(panels)))  # room for the legend
    height = PANEL_SIDE + 2 * _LINE + _BAR_HEIGHT + _LINE + _GAP
    top = _MARGIN + 2 * _LINE + _GAP
    rows = -(-len(panels) // columns)
    width = 2 * _MARGIN + columns * PANEL_SIDE + (columns - 1) * _GAP
    picture = Image.new("RGB", (width, top + rows * height), _PAPER)
    pen = Pen(picture)
    pen.write(_MARGIN, _MARGIN, title, width - 2 * _MARGIN, _TEXT, _INK)
    legend = "blue, solid: ground truth; orange, dashed: prediction; the bar: values of a heat map"
    pen.write(_MARGIN, _MARGIN + _LINE, legend, width - 2 * _MARGIN, _SMALL, _PALE)
    for at, panel in enumerate(panels):
        row, column = divmod(at, columns)
        left = _MARGIN + column * (PANEL_SIDE + _GAP)
        _draw_panel(picture, pen, panel, left, top + row * height)
    return picture


def _draw_panel(picture: Image.Image, pen: Pen, panel: Panel, left: int, top: int) -> None:
    pen.write(left, top, panel.heading, PANEL_SIDE, _SMALL, _INK)
    pen.write(left, top + _LINE, panel.caption, PANEL_SIDE, _SMALL, _PALE)
    over = draw_overlay(panel.image, panel.overlay, PANEL_SIDE)
    top += 2 * _LINE
    picture.paste(over, (left, top))
    if panel.overlay.heat_range is not None:
        top += over.height + 3
        bar = to_colors(np.tile(np.linspace(0, 1, over.width), (_BAR_HEIGHT, 1)))
        picture.paste(Image.fromarray(bar), (left, top))
        low, high = panel.overlay.heat_range
        text = f"{low:.3g} to {high:.3g}"
        pen.write(left, top + _BAR_HEIGHT, text, PANEL_SIDE, _SMALL, _PALE)


def draw_overlay(image: GrayImage, overlay: Overlay, side: int) -> Image.Image:
    """The image at a longer side of `side` pixels, with its overlay."""
    scale = side / max(image.shape)
    height, width = (max(1, round(each * scale)) for each in image.shape)
    size = (width, height)
    picture = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS).convert("RGB")
    if overlay.heat is not None:
        picture = _blend(picture, overlay.heat)
    pen = ImageDraw.Draw(picture)
    for points in (*map(_corners, overlay.truth_boxes), *outlines(overlay.truth_mask)):
        _draw_line(pen, points * scale, TRUTH_COLOR, dashed=False)
    for points in (*map(_corners, overlay.predicted_boxes), *outlines(overlay.predicted_mask)):
        _draw_line(pen, points * scale, PREDICTION_COLOR, dashed=True)
    return picture


def _blend(picture: Image.Image, heat: NDArray[np.float32]) -> Image.Image:
    values = cv2.resize(np.nan_to_num(heat), picture.size, interpolation=cv2.INTER_LINEAR)
    seen = cv2.resize((~np.isnan(heat)).astype(np.float32), picture.size)
    share = (_HEAT_SHARE * seen)[..., None]
    mixed = np.asarray(picture) * (1 - share) + to_colors(values.clip(0, 1)) * share
    return Image.fromarray(mixed.round().astype(np.uint8))


def _corners(box: tuple[float, float, float, float]) -> Points:
    x0, y0, x1, y1 = box
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float64)


def _draw_line(
    pen: ImageDraw.ImageDraw, points: Points, color: tuple[int, int, int], *, dashed: bool
) -> None:
    """A closed line through the points; dashes have `_DASH` pixels along it."""
    closed = np.vstack([points, points[:1]])
    if not dashed:
        pen.line([(float(x), float(y)) for x, y in closed], fill=color, width=2)
        return
    way = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    for start in np.arange(0.0, way[-1], 2 * _DASH):
        at = np.linspace(start, min(start + _DASH, float(way[-1])), 4)
        x, y = np.interp(at, way, closed[:, 0]), np.interp(at, way, closed[:, 1])
        pen.line([(float(a), float(b)) for a, b in zip(x, y, strict=True)], fill=color, width=2)
