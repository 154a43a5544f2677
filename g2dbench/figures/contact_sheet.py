"""A contact sheet: a row per image, a column per map that the model makes of it.

Shapes: B images, S side of the model's input, H W of an image, h w of a map.
Maps are laid over the image that they belong to, at its own aspect; what the model's crop did not
show is hatched. Values run from 0, black, to 1, pale yellow; brightness rises all the way, so that
a sheet printed in grey says the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from g2dbench.data.images.image_file import Grey
from g2dbench.model import Model, Shows
from g2dbench.preprocess import Preprocess

CELL = 144
"""Longer side of a panel in pixels."""

MOST = 64
"""Rows of a sheet at most."""

_GAP, _MARGIN, _LINE, _TEXT, _SMALL = 8, 14, 19, 14, 12
_INK, _PALE, _PAPER = (20, 20, 20), (90, 90, 90), (255, 255, 255)
_UNSEEN = ((170, 170, 170), (205, 205, 205))
_BATCH = 16

# Nine points of matplotlib's "inferno" (CC0), straight lines between them.
_POINTS = (
    (0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (186, 54, 85),
    (227, 89, 51), (249, 140, 10), (249, 201, 50), (252, 255, 164),
)  # fmt: skip

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Subject:
    """An image that is to be shown, and its report where it has one."""

    caption: str
    image: Grey
    report: str | None = None


@dataclass(frozen=True)
class Row:
    """One image and its maps by name, each (h, w) in [0, 1] over the model's input square."""

    caption: str
    image: Grey
    maps: Mapping[str, Map]


def rows(model: Model, subjects: Sequence[Subject]) -> list[Row]:
    """What the model, which `Shows`, makes of these images; the caller holds eval and no_grad.

    Reports are used where every image has one, so that all rows have the same maps.
    """
    starts = range(0, len(subjects), _BATCH)
    whole = all(subject.report for subject in subjects)
    return [row for at in starts for row in _rows(model, subjects[at : at + _BATCH], whole)]


def _rows(model: Model, subjects: Sequence[Subject], with_reports: bool) -> list[Row]:
    assert isinstance(model, Shows)
    device = next(model.parameters()).device
    images = model.preprocess.batch([subject.image for subject in subjects]).to(device)
    reports = [subject.report or "" for subject in subjects] if with_reports else None
    panels = model.panels(images, reports)
    numbers = {name: map_.float().cpu().numpy() for name, map_ in panels.items()}
    return [
        Row(subject.caption, subject.image, {name: each[at] for name, each in numbers.items()})
        for at, subject in enumerate(subjects)
    ]


def colours(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """(...) in [0, 1] -> (..., 3); NaN is drawn by `draw`, not here."""
    points = np.array(_POINTS, dtype=np.float64)
    at = np.linspace(0, 1, len(points))
    planes = [np.interp(values, at, points[:, plane]) for plane in range(3)]
    return np.stack(planes, axis=-1).round().astype(np.uint8)


def draw(title: str, shown: Sequence[Row], preprocess: Preprocess) -> Image.Image:
    """The sheet; all rows have the maps of the first. A map's mean stands under it."""
    names = ["input", *shown[0].maps]
    thumbs = [_thumb(row.image) for row in shown]
    width = 2 * _MARGIN + len(names) * CELL + (len(names) - 1) * _GAP
    lines = max(name.count("\n") + 1 for name in names)
    top = _MARGIN + 2 * _LINE + lines * _LINE + 2 * _GAP
    height = top + sum(_height(thumb) for thumb in thumbs) + _MARGIN
    picture = Image.new("RGB", (width, height), _PAPER)
    pen = Pen(picture)
    pen.write(_MARGIN, _MARGIN, title, width - 2 * _MARGIN, _TEXT, _INK)
    legend = "black 0, bright 1; under a map its mean; hatched: not seen by the model"
    pen.write(_MARGIN, _MARGIN + _LINE, legend, width - 2 * _MARGIN, _SMALL, _PALE)
    for column, name in enumerate(names):
        for line, text in enumerate(name.split("\n")):
            y = _MARGIN + 2 * _LINE + _GAP // 2 + line * _LINE
            pen.write(_left(column), y, text, CELL, _SMALL if line else _TEXT, _INK)
    for row, thumb in zip(shown, thumbs, strict=True):
        pen.write(_MARGIN, top, row.caption, width - 2 * _MARGIN, _SMALL, _PALE)
        _draw_row(picture, pen, row, thumb, top + _LINE, preprocess)
        top += _height(thumb)
    return picture


class Pen:
    """Writes text that never leaves its place: what is too long ends in an ellipsis."""

    def __init__(self, picture: Image.Image) -> None:
        self._draw = ImageDraw.Draw(picture)

    def write(
        self, x: int, y: int, text: str, width: int, size: int, ink: tuple[int, int, int]
    ) -> None:
        """One line from (x, y), at most `width` pixels wide."""
        font = ImageFont.load_default(size)
        self._draw.text((x, y), fitted(text, width, font), fill=ink, font=font)


def fitted(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, or as much of its start and its end as the width holds, "…" between them."""
    if font.getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, 0, -1):
        cut = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
        if font.getlength(cut) <= width:
            return cut
    return ""


def _draw_row(
    picture: Image.Image, pen: Pen, row: Row, thumb: Grey, top: int, preprocess: Preprocess
) -> None:
    view = preprocess.geometry(*thumb.shape)
    picture.paste(Image.fromarray(thumb).convert("RGB"), (_left(0), top))
    for column, values in enumerate(row.maps.values(), 1):
        over = view.map_to_image(values, "nearest")
        picture.paste(_coloured(over), (_left(column), top))
        below = top + thumb.shape[0] + 1
        pen.write(_left(column), below, f"mean {values.mean():.2f}", CELL, _SMALL, _PALE)


def _coloured(values: Map) -> Image.Image:
    y, x = np.indices(values.shape)
    hatch = np.array(_UNSEEN, dtype=np.uint8)[(x + y) // 4 % 2]
    seen = colours(np.nan_to_num(values).clip(0, 1))
    return Image.fromarray(np.where(np.isnan(values)[..., None], hatch, seen))


def _thumb(image: Grey) -> Grey:
    """The image with its longer side CELL pixels long, larger or smaller, at its own aspect."""
    scale = CELL / max(image.shape)
    height, width = (max(1, round(side * scale)) for side in image.shape)
    small = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(small, dtype=np.uint8)


def _height(thumb: Grey) -> int:
    """Of a row: caption, panels, the line of means, a gap."""
    return int(thumb.shape[0]) + 2 * _LINE + _GAP


def _left(column: int) -> int:
    return _MARGIN + column * (CELL + _GAP)
