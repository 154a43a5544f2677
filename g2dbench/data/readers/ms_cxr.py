"""MS-CXR: 1,162 phrases of MIMIC-CXR reports with the boxes that they describe.

    MS_CXR_Local_Alignment_v1.1.0.csv, or another version   dicom_id, category_name, label_text,
                                path, x, y, w, h, image_width, image_height[, split]
    files/p10/...jpg            the images, as MIMIC-CXR-JPG has them

The root holds the table and `files/`, or `ms-cxr/1.1.0/` and `mimic-cxr-jpg/2.1.0/`, as `wget -r`
from PhysioNet stores them; both may be links. The finding of a box is its phrase, which the task
`ground` localizes; rows of an image with the same phrase form one region of several boxes. The
category of a phrase is a label; the other categories have no label. Boxes are in pixels of the
original image. Version 1.0.0 has no split; it was made for testing, and a fifth of its patients is
held out for choosing thresholds. Its images overlap with the training split of MIMIC-CXR.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from g2dbench.cards import DatasetCard
from g2dbench.data.readers.mimic_cxr.layout import projects
from g2dbench.data.tables.csv import Cells, by_key, is_complete, number, read_table
from g2dbench.data.tables.files import check_layout
from g2dbench.data.tables.paths import portable
from g2dbench.data.tables.records import NO_CORNERS, Found, Missing, Note, Rejected
from g2dbench.errors import BadData
from g2dbench.sample import PRESENT, Box, Record

CARD = DatasetCard(
    name="ms_cxr",
    summary="MS-CXR: 1,162 report phrases with boxes on MIMIC-CXR images.",
    offers=("labels", "boxes"),
    findings=(
        "Atelectasis",
        "Cardiomegaly",
        "Consolidation",
        "Edema",
        "Lung Opacity",
        "Pleural Effusion",
        "Pneumonia",
        "Pneumothorax",
    ),
    url="https://physionet.org/content/ms-cxr/",
    licence="PhysioNet Credentialed Health Data License 1.5.0: no sharing",
    layout=("MS_CXR_Local_Alignment_v1.1.0.csv", "files/"),
    phrases=True,
)

SPLIT = (0.0, 0.2, 0.8)

TABLES = ("MS_CXR_Local_Alignment_v1.1.0.csv", "MS_CXR_Local_Alignment_v1.0.0.csv")
VERSIONS = "MS_CXR_Local_Alignment_v*.csv*"
CORNERS = ("x", "y", "w", "h")
SIDES = ("x", "y", "w", "h", "image_width", "image_height")
COLUMNS = ("dicom_id", "category_name", "label_text", "path", *SIDES)
SPLITS = {"train": "train", "val": "valid", "valid": "valid", "validate": "valid", "test": "test"}

_PATH = re.compile(r"(?:.*/)?(files/p1\d/p(\d+)/s(\d+)/([\w-]+)\.jpg)", re.ASCII)


def read(root: Path) -> Iterator[Found]:
    """Yield a record for each image of the table.

    BadData: the table or a column is missing.
    """
    check_layout(root)
    places = [path for place in projects(root, "ms-cxr") for path in place.glob(VERSIONS)]
    names = sorted((path.name.removesuffix(".gz"), path) for path in places)
    path = names[-1][1].with_name(names[-1][0]) if names else root / TABLES[0]
    if len({name for name, _ in names}) > 1:
        yield Note(f"{path.name} is read, {names[0][0]} beside it is not")
    for name, rows in by_key(read_table(path, COLUMNS, ("split",)), "dicom_id").items():
        where = f"line {rows[0]['line']} of {path.name}"
        try:
            yield _image(name, rows, root, path.name)
        except BadData as error:
            yield Rejected(name or where, None, str(error))


def _image(name: str, rows: list[Cells], root: Path, table: str) -> Record | Missing:
    where = f"line {rows[0]['line']} of {table}"
    place = _PATH.fullmatch(portable(rows[0]["path"]))
    if place is None or place[4] != name:
        raise BadData(f"{where}: {rows[0]['path']!r} is no MIMIC-CXR-JPG path of {name!r}")
    files = [project / place[1] for project in projects(root)]
    path = next((file for file in files if file.is_file()), None)
    if path is None:
        return Missing(name, files[0])
    known = [row for row in rows if is_complete(row, CORNERS)]
    sides = [[number(row[side], _cell(row, side, table)) for side in SIDES] for row in known]
    frames = {(int(height), int(width)) for *_, width, height in sides}
    if len(frames) > 1:
        raise BadData(f"{where}: the rows of {name} differ in the image's size")
    boxes = tuple(
        Box(row["label_text"], x, y, x + w, y + h)
        for row, (x, y, w, h, *_) in zip(known, sides, strict=True)
    )
    return Record(
        id=name,
        path=path,
        patient=place[2],
        study=place[3],
        split=_split(rows, where),
        labels={_category(row, table): PRESENT for row in rows},
        boxes=boxes if known == rows else None,
        frame=frames.pop() if frames else None,
        notes=() if known == rows else (NO_CORNERS,),
    )


def _cell(row: Cells, column: str, table: str) -> str:
    return f"line {row['line']} of {table}: {column}"


def _split(rows: list[Cells], where: str) -> str | None:
    names = {row.get("split", "") for row in rows}
    if names == {""}:
        return None
    if len(names) > 1 or not names <= SPLITS.keys():
        raise BadData(f"{where}: the split must be one of {', '.join(SPLITS)}, found {names}")
    return SPLITS[names.pop()]


def _category(row: Cells, table: str) -> str:
    category = str(row["category_name"])
    if category not in CARD.findings or not row["label_text"]:
        raise BadData(
            f"line {row['line']} of {table}: {category!r} and {row['label_text']!r} are no "
            "category and phrase of MS-CXR"
        )
    return category
