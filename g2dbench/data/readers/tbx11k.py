"""TBX11K: tuberculosis with boxes, in the original layout and in Kaggle's simplified one.

    annotations/json/TBX11K_{train,val}.json    COCO, boxes x, y, width, height; or
                                                TBX11K_trainval.json, which holds both
    imgs/{health,sick,tb}/<name>.png

    data.csv    fname, bbox, tb_type, image_type, image_height and image_width (may be lacking);
                one row per box, bbox a Python dictionary or `none`
    images/<name>.png

An image shows tuberculosis, another disease, or a healthy chest. The type of a box is active or
latent ("obsolete" in the original layout); a box of another type gives no label of the type. A
tuberculosis image without any box (tb1199) counts as not annotated with boxes. The labels of the
official test images are not public; therefore the training and validation images (8,399 with labels
in BenchX) are split into 5,879 / 1,260 / 1,260.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from g2dbench.cards import DatasetCard
from g2dbench.data.annotations.coco import note_unlisted, read_coco
from g2dbench.data.images.image_file import EXTENSIONS
from g2dbench.data.splits.published import PublishedSplit
from g2dbench.data.tables.csv import Cells, by_key, is_complete, note_lacking, number, read_table
from g2dbench.data.tables.files import check_layout, folders, index_images
from g2dbench.data.tables.paths import bare_name, file_name, portable
from g2dbench.data.tables.records import Found, Missing, Rejected
from g2dbench.errors import BadData
from g2dbench.sample import Box, Record

CARD = DatasetCard(
    name="tbx11k",
    summary="TBX11K: healthy, sick and tuberculosis radiographs; boxes of active and latent TB.",
    offers=("labels", "boxes"),
    findings=(
        "Tuberculosis",
        "Active Tuberculosis",
        "Latent Tuberculosis",
        "Other Sickness",
        "Healthy",
    ),
    url="https://mmcheng.net/tb/",
    licence="CC BY-NC-SA 2.0",
    layout=("annotations/json/TBX11K_train.json", "imgs/"),
)

PUBLISHED_SPLITS = {"benchx": PublishedSplit("BenchX, its lists", (5_879, 1_260, 1_260))}

SPLIT = (0.7, 0.15, 0.15)

JSONS, BOTH = ("TBX11K_train.json", "TBX11K_val.json"), "TBX11K_trainval.json"
TABLE = "data.csv"
SIDES = ("image_height", "image_width")

CATEGORIES = {
    "ActiveTuberculosis": "Active Tuberculosis",
    "ObsoletePulmonaryTuberculosis": "Latent Tuberculosis",
    "PulmonaryTuberculosis": "Tuberculosis",
    "active_tb": "Active Tuberculosis",
    "latent_tb": "Latent Tuberculosis",
    "uncertain_tb": "Tuberculosis",
}
"""Names of box types in both layouts, and the finding that each stands for."""

KINDS = {
    "tb": "Tuberculosis",
    "sick": "Other Sickness",
    "health": "Healthy",
    "sick_but_no_tb": "Other Sickness",
    "sick_but_non-tb": "Other Sickness",
    "healthy": "Healthy",
}
"""Folders of the original and image types of the simplified layout."""

LONGEST = 400
"""Largest number of characters of a bbox cell; longer ones are not parsed."""


def read(root: Path) -> Iterator[Found]:
    """Yield a record for each image of the annotation files, in either layout.

    BadData: neither layout's tables are there, or an image folder or column is missing.
    """
    check_layout(root)
    home = root / "annotations" / "json"
    tables = [home / name for name in JSONS if (home / name).is_file()]
    tables = tables or [path for path in (home / BOTH,) if path.is_file()]
    if tables:
        images = index_images(folders(root, ("imgs",)), EXTENSIONS)
        for path in tables:
            yield from _original(path, images)
    else:
        yield from _simplified(root)


def _original(path: Path, images: dict[str, Path]) -> Iterator[Found]:
    yield from note_unlisted(path)
    for image in read_coco(path):
        name, kind = bare_name(image.file), file_name(portable(image.file).rpartition("/")[0])
        if (file := images.get(name)) is None:
            yield Missing(name, None)
            continue
        try:
            if image.problem:
                raise BadData(image.problem)
            drawn = image.boxes or ()  # unknown boxes: see `_record`
            boxes = tuple(box._replace(finding=_type(box.finding, path)) for box in drawn)
            kind = _kind(kind, f"{image.file} in {path.name}")
            yield _record(name, file, kind, boxes, image.frame, image.notes)
        except BadData as error:
            yield Rejected(name, file, str(error))


def _simplified(root: Path) -> Iterator[Found]:
    columns = ("fname", "bbox", "tb_type", "image_type")
    table = read_table(root / TABLE, columns, SIDES)
    yield from note_lacking(root / TABLE, SIDES)
    images = index_images(folders(root, ("images",)), EXTENSIONS)
    for file, rows in by_key(table, "fname").items():
        name, where = bare_name(file), f"line {rows[0]['line']} of {TABLE}"
        if (path := images.get(name)) is None:
            yield Missing(name or where, None)
            continue
        try:
            boxes = tuple(box for row in rows if (box := parse_bbox(row)) is not None)
            frame = _frame(rows[0], where)
            yield _record(name, path, _kind(rows[0]["image_type"], where), boxes, frame)
        except BadData as error:
            yield Rejected(name, path, str(error))


def _frame(row: Cells, where: str) -> tuple[int, int] | None:
    """Return (height, width) of the annotated image, or None, that of the file, if blank."""
    if not is_complete(row, SIDES):
        return None
    height, width = (int(number(row[side], f"{where}: {side}")) for side in SIDES)
    return height, width


def _record(
    name: str,
    path: Path,
    kind: str,
    boxes: tuple[Box, ...],
    frame: tuple[int, int] | None,
    notes: tuple[str, ...] = (),
) -> Record:
    if boxes and kind != "Tuberculosis":
        raise BadData(f"{name} has boxes of tuberculosis although it is listed as {kind!r}")
    unseen = kind == "Tuberculosis" and not boxes
    labels = {finding: int(finding == kind) for finding in KINDS.values()}
    types = {"Active Tuberculosis", "Latent Tuberculosis"}
    seen = {box.finding for box in boxes}
    # With a box of unknown type, a type without a box is not known to be absent.
    if kind != "Tuberculosis" or (seen and "Tuberculosis" not in seen):
        labels |= {finding: int(finding in seen) for finding in types}
    else:
        labels |= dict.fromkeys(types & seen, 1)
    return Record(
        id=name,
        path=path,
        patient=name,
        labels=labels,
        boxes=None if unseen else boxes,
        frame=frame,
        notes=notes,
    )


def parse_bbox(row: Cells) -> Box | None:
    """Return the box of a row of the simplified layout, or None; only literals are parsed."""
    text, where = row["bbox"], f"line {row['line']} of {TABLE}"
    if text.lower() in ("", "none"):
        return None
    try:
        cell = ast.literal_eval(text) if len(text) <= LONGEST else None
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        cell = None
    names = ("xmin", "ymin", "width", "height")
    if not isinstance(cell, dict) or not set(names) <= cell.keys():
        raise BadData(f"{where}: the bbox {text[:60]!r} is no dictionary of {', '.join(names)}")
    x, y, width, height = (number(str(cell[name]), f"{where}: {name}") for name in names)
    return Box(_type(row["tb_type"], Path(TABLE)), x, y, x + width, y + height)


def _type(name: str, table: Path) -> str:
    if name not in CATEGORIES:
        raise BadData(f"{table.name}: {name!r} is no type of tuberculosis in TBX11K")
    return CATEGORIES[name]


def _kind(name: str, where: str) -> str:
    if name not in KINDS:
        raise BadData(f"{where}: {name!r} is no kind of image in TBX11K: {', '.join(KINDS)}")
    return KINDS[name]
