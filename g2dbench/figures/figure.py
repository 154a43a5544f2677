"""A figure of what a model makes of given images: its own maps, and where it finds given texts.

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
from g2dbench.figures.contact_sheet import Row, Subject
from g2dbench.model import Locates, Model, Shows
from g2dbench.registry import unknown_name
from g2dbench.system.files import replace_file

FORMATS = (".png", ".jpg", ".jpeg")
FIRST = 6
"""Images that are shown where none were named."""

_SHORT_SIDE = 1024  # enough for any model's input; a detector's full 4000 pixels only cost time


def named(dataset: Dataset, ids: Sequence[str]) -> list[Subject]:
    """The samples of these ids, in this order; without ids the first few.

    Raises Misuse for an id that the data set does not have.
    """
    known = [str(name) for name in dataset.table["id"]]
    place = {name: row for row, name in enumerate(known)}
    for name in ids:
        if name not in place:
            some = f"{known[0]}, {known[1]}, ..." if len(known) > 1 else ", ".join(known)
            raise Misuse(f"data set {dataset.card.name!r} has no image {name!r}; it has {some}")
    chosen = [place[name] for name in ids] or range(min(FIRST, len(known)))
    samples = [dataset[row] for row in chosen]
    return [Subject(each.id, each.image, clean_report(each.report)) for each in samples]


def read(files: Sequence[Path]) -> list[Subject]:
    """Image files: DICOM, PNG or JPEG; BadData for what is none."""
    return [Subject(file.name, read_image(file, _SHORT_SIDE)[0]) for file in files]


def rows(model: Model, subjects: Sequence[Subject], texts: Sequence[str]) -> list[Row]:
    """A row per image: the maps that the model shows, then one map per text that it locates.

    Raises Misuse where there is nothing to draw, or too much of it.
    """
    if not 1 <= len(subjects) <= contact_sheet.MOST:
        raise Misuse(f"a figure shows 1 to {contact_sheet.MOST} images, not {len(subjects)}")
    label = model.identity.label
    if not isinstance(model, Shows) and not texts:
        hint = "--text TEXT draws where it finds a text" if isinstance(model, Locates) else ""
        raise Misuse(
            f"{label} makes no attention or masks that could be drawn"
            + (f"; {hint}" if hint else ", nor does it locate texts")
        )
    if texts and not isinstance(model, Locates):
        raise Misuse(f"{label} does not locate texts: leave --text out")
    with torch.no_grad():
        found = (
            contact_sheet.rows(model, subjects)
            if isinstance(model, Shows)
            else [Row(subject.caption, subject.image, {}) for subject in subjects]
        )
        return _located(model, found, texts)


def _located(model: Model, found: list[Row], texts: Sequence[str]) -> list[Row]:
    """The rows with a map per text; a text's maps share one scale, which its heading tells."""
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
    """Write the picture, whole or not at all."""
    replace_file(out, picture.save)


def check_out(out: Path) -> None:
    """Misuse unless the name says which kind of picture to write."""
    if out.suffix.lower() not in FORMATS:
        raise Misuse(f"--out {out}: " + unknown_name("picture format", out.suffix, list(FORMATS)))
