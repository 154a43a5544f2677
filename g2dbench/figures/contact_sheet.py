"""A contact sheet: one row per image, one column per map that the model computes from it.

Shapes: B images, S side of the model's input, H W of an image, h w of a map.
A map covers its whole image, at the image's aspect ratio; what the model's crop leaves out is
hatched. Values range from 0, black, to 1, pale yellow, with rising brightness, so that a sheet
printed in grey stays readable.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from g2dbench.data.images.image_file import GrayImage
from g2dbench.model import Model, Shows
from g2dbench.preprocess import Preprocess

PANEL_SIDE = 144
"""Longer side of a panel in pixels."""

MAX_ROWS = 64
"""Maximum number of rows of a sheet."""

_GAP, _MARGIN, _LINE, _TEXT, _SMALL = 8, 14, 19, 14, 12
_INK, _PALE, _PAPER = (20, 20, 20), (90, 90, 90), (255, 255, 255)
_HATCH = ((170, 170, 170), (205, 205, 205))
_BATCH = 16

# Nine points of matplotlib's colormap "inferno" (CC0), interpolated linearly.
_POINTS = (
    (0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (186, 54, 85),
    (227, 89, 51), (249, 140, 10), (249, 201, 50), (252, 255, 164),
)  # fmt: skip

Map = NDArray[np.float32]


@dataclass(frozen=True)
class CaptionedImage:
    """An image to show, with its caption and, if it has one, its report."""

    caption: str
    image: GrayImage
    report: str | None = None


@dataclass(frozen=True)
class SheetRow:
    """One image and its maps by name, each (h, w) in [0, 1] over the model's input square."""

    caption: str
    image: GrayImage
    maps: Mapping[str, Map]


def make_rows(model: Model, images: Sequence[CaptionedImage]) -> list[SheetRow]:
    """A row per image, from a model that `Shows`; the caller sets eval mode and no_grad.

    Reports are used only if every image has one, so that all rows have the same maps.
    """
    texts = [image.report or "" for image in images]
    reports = texts if all(texts) else None
    rows: list[SheetRow] = []
    for at in range(0, len(images), _BATCH):
        part = slice(at, at + _BATCH)
        rows += _rows(model, images[part], None if reports is None else reports[part])
    return rows


def _rows(
    model: Model, images: Sequence[CaptionedImage], reports: Sequence[str] | None
) -> list[SheetRow]:
    assert isinstance(model, Shows)
    device = next(model.parameters()).device
    inputs = model.preprocess.batch([image.image for image in images]).to(device)
    maps = {
        name: panel.float().cpu().numpy() for name, panel in model.panels(inputs, reports).items()
    }
    return [
        SheetRow(image.caption, image.image, {name: each[at] for name, each in maps.items()})
        for at, image in enumerate(images)
    ]


def to_colors(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """(...) in [0, 1], without NaN -> (..., 3) colors."""
    points = np.array(_POINTS, dtype=np.float64)
    at = np.linspace(0, 1, len(points))
    planes = [np.interp(values, at, points[:, plane]) for plane in range(3)]
    return np.stack(planes, axis=-1).round().astype(np.uint8)


def draw_sheet(title: str, shown: Sequence[SheetRow], preprocess: Preprocess) -> Image.Image:
    """Draw the sheet; all rows have the same maps. The mean of a map is written below it."""
    names = ["input", *shown[0].maps]
    panels = [_resized(row.image) for row in shown]
    width = 2 * _MARGIN + len(names) * PANEL_SIDE + (len(names) - 1) * _GAP
    lines = max(name.count("\n") + 1 for name in names)
    top = _MARGIN + 2 * _LINE + lines * _LINE + 2 * _GAP
    height = top + sum(_height(panel) for panel in panels) + _MARGIN
    picture = Image.new("RGB", (width, height), _PAPER)
    pen = Pen(picture)
    pen.write(_MARGIN, _MARGIN, title, width - 2 * _MARGIN, _TEXT, _INK)
    legend = "black 0, bright 1; mean below each map; hatched: not seen by the model"
    pen.write(_MARGIN, _MARGIN + _LINE, legend, width - 2 * _MARGIN, _SMALL, _PALE)
    for column, name in enumerate(names):
        for line, text in enumerate(name.split("\n")):
            y = _MARGIN + 2 * _LINE + _GAP // 2 + line * _LINE
            pen.write(_left(column), y, text, PANEL_SIDE, _SMALL if line else _TEXT, _INK)
    for row, panel in zip(shown, panels, strict=True):
        pen.write(_MARGIN, top, row.caption, width - 2 * _MARGIN, _SMALL, _PALE)
        _draw_row(picture, pen, row, panel, top + _LINE, preprocess)
        top += _height(panel)
    return picture


class Pen:
    """Writes text of limited width: longer text is shortened with an ellipsis."""

    def __init__(self, picture: Image.Image) -> None:
        self._draw = ImageDraw.Draw(picture)

    def write(
        self, x: int, y: int, text: str, width: int, size: int, ink: tuple[int, int, int]
    ) -> None:
        """One line from (x, y), at most `width` pixels wide."""
        font = ImageFont.load_default(size)
        self._draw.text((x, y), shortened(text, width, font), fill=ink, font=font)


def shortened(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, or as much of its start and end as fits into the width, with "…" between them."""
    if font.getlength(text) <= width:
        return text
    for length in range(len(text) - 1, 0, -1):
        cut = f"{text[: (length + 1) // 2]}…{text[len(text) - length // 2 :]}"
        if font.getlength(cut) <= width:
            return cut
    return ""


def _draw_row(
    picture: Image.Image,
    pen: Pen,
    row: SheetRow,
    panel: GrayImage,
    top: int,
    preprocess: Preprocess,
) -> None:
    view = preprocess.geometry(*panel.shape)
    picture.paste(Image.fromarray(panel).convert("RGB"), (_left(0), top))
    for column, values in enumerate(row.maps.values(), 1):
        over = view.map_to_image(values, "nearest")
        picture.paste(_color_map(over), (_left(column), top))
        below = top + panel.shape[0] + 1
        pen.write(_left(column), below, f"mean {values.mean():.2f}", PANEL_SIDE, _SMALL, _PALE)


def _color_map(values: Map) -> Image.Image:
    y, x = np.indices(values.shape)
    hatch = np.array(_HATCH, dtype=np.uint8)[(x + y) // 4 % 2]
    seen = to_colors(np.nan_to_num(values).clip(0, 1))
    return Image.fromarray(np.where(np.isnan(values)[..., None], hatch, seen))


def _resized(image: GrayImage) -> GrayImage:
    """The image scaled to a longer side of `PANEL_SIDE` pixels, at its own aspect ratio."""
    scale = PANEL_SIDE / max(image.shape)
    height, width = (max(1, round(side * scale)) for side in image.shape)
    small = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(small, dtype=np.uint8)


def _height(panel: GrayImage) -> int:
    """Height of a row: caption, panels, the line of means, a gap."""
    return int(panel.shape[0]) + 2 * _LINE + _GAP


def _left(column: int) -> int:
    return _MARGIN + column * (PANEL_SIDE + _GAP)
