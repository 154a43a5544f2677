"""A figure of a model's maps for given images: its own maps, and where it locates given texts.

Shapes: B images, S side of the model's input, T texts, h w of a map.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from g2dbench.data.images.image_file import read_image
from g2dbench.data.reports.tidy import clean_report
from g2dbench.dataset import Dataset
from g2dbench.errors import Misuse
from g2dbench.figures import contact_sheet
from g2dbench.figures.contact_sheet import CaptionedImage, SheetRow
from g2dbench.model import Locates, Model, Shows
from g2dbench.registry import unknown_name
from g2dbench.system.files import replace_file

FORMATS = (".png", ".jpg", ".jpeg")
DEFAULT_IMAGES = 6
"""Number of images that are shown if none are selected."""

_SHORT_SIDE = 1024  # enough for any model's input, and faster than a detector's full 4000 pixels


def select_images(dataset: Dataset, ids: Sequence[str]) -> list[CaptionedImage]:
    """The samples with these ids, in this order; without ids the first few.

    Raises Misuse for an id that the data set does not have.
    """
    known = [str(name) for name in dataset.table["id"]]
    row_by_id = {name: row for row, name in enumerate(known)}
    for name in ids:
        if name not in row_by_id:
            some = f"{known[0]}, {known[1]}, ..." if len(known) > 1 else ", ".join(known)
            raise Misuse(f"data set {dataset.card.name!r} has no image {name!r}; it has {some}")
    chosen = [row_by_id[name] for name in ids] or range(min(DEFAULT_IMAGES, len(known)))
    samples = [dataset[row] for row in chosen]
    return [CaptionedImage(each.id, each.image, clean_report(each.report)) for each in samples]


def read_images(files: Sequence[Path]) -> list[CaptionedImage]:
    """Read image files: DICOM, PNG or JPEG; raises BadData for other files."""
    return [CaptionedImage(file.name, read_image(file, _SHORT_SIDE)[0]) for file in files]


def make_rows(
    model: Model, images: Sequence[CaptionedImage], texts: Sequence[str]
) -> list[SheetRow]:
    """A row per image: the maps that the model shows, then one map per text that it locates.

    Raises Misuse if there is nothing to draw, or too many images.
    """
    if not 1 <= len(images) <= contact_sheet.MAX_ROWS:
        raise Misuse(f"a figure shows 1 to {contact_sheet.MAX_ROWS} images, not {len(images)}")
    label = model.identity.label
    if not isinstance(model, Shows) and not texts:
        hint = "--text TEXT draws where it locates a text" if isinstance(model, Locates) else ""
        raise Misuse(
            f"{label} has no attention maps or masks to draw"
            + (f"; {hint}" if hint else ", and does not locate texts")
        )
    if texts and not isinstance(model, Locates):
        raise Misuse(f"{label} does not locate texts: leave --text out")
    with torch.no_grad():
        found = (
            contact_sheet.make_rows(model, images)
            if isinstance(model, Shows)
            else [SheetRow(image.caption, image.image, {}) for image in images]
        )
        return _located(model, found, texts)


def _located(model: Model, found: list[SheetRow], texts: Sequence[str]) -> list[SheetRow]:
    """The rows with a map per text; all maps of a text share the scale given in its heading."""
    if not texts:
        return found
    assert isinstance(model, Locates)
    device = next(model.parameters()).device
    maps = torch.cat(
        [model.locate(model.preprocess(row.image)[None].to(device), texts) for row in found]
    )
    planes = maps.float().cpu().numpy()
    for column, text in enumerate(texts):
        plane = planes[:, column]
        low, high = float(plane.min()), float(plane.max())
        scaled = (plane - low) / (high - low or 1.0)
        heading = f"{text}\n{low:.2f} to {high:.2f}"
        found = [
            replace(row, maps={**row.maps, heading: scaled[at]}) for at, row in enumerate(found)
        ]
    return found


def save(picture: Image.Image, out: Path) -> None:
    """Write the picture atomically."""
    replace_file(out, picture.save)


def check_format(out: Path) -> None:
    """Raise Misuse unless the file name ends with a known picture format."""
    if out.suffix.lower() not in FORMATS:
        raise Misuse(f"--out {out}: " + unknown_name("picture format", out.suffix, list(FORMATS)))
