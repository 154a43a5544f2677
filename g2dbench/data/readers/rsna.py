"""RSNA pneumonia detection challenge, Kaggle stage 2: boxes around lung opacity.

    stage_2_train_labels.csv          patientId, x, y, width, height, Target; one row per box
    stage_2_detailed_class_info.csv   patientId, class; repeated per box (optional, a cross-check)
    stage_2_train_images/<patientId>.dcm, or images/; copies as PNG or JPEG at any size are read too

If there are no files of the second stage, those of the first (stage_1_...) are read. Boxes are in
the official 1024 x 1024 frame, also for smaller copies; the mask is their union. Sex, age and view
are read from DICOM files. Of 26,684 images, 6,012 are positive.
"""

from collections.abc import Iterator
from pathlib import Path

from g2dbench.cards import DatasetCard
from g2dbench.data.annotations.masks import BoxMasks
from g2dbench.data.images.dicom import Header, read_header
from g2dbench.data.images.image_file import EXTENSIONS
from g2dbench.data.splits.published import PublishedSplit, mgca_split
from g2dbench.data.tables.csv import (
    Cells,
    by_key,
    choose_table,
    has_table,
    is_complete,
    note_unread,
    number,
    read_table,
)
from g2dbench.data.tables.files import check_layout, folders, index_images
from g2dbench.data.tables.records import NO_CORNERS, Found, Missing, Rejected
from g2dbench.errors import BadData
from g2dbench.sample import Box, Record

CARD = DatasetCard(
    name="rsna",
    summary="RSNA pneumonia challenge (stage 2): lung opacity boxes on NIH radiographs.",
    offers=("labels", "boxes", "masks"),
    findings=("Pneumonia",),
    url="https://www.kaggle.com/c/rsna-pneumonia-detection-challenge",
    licence="Competition rules: non-commercial research and education",
    layout=("stage_2_train_labels.csv", "stage_2_train_images/"),
)

PUBLISHED_SPLITS = {
    "mgca": PublishedSplit(
        "MGCA, mgca/preprocess/rsna.py",
        (18_678, 4_003, 4_003),
        lambda ids, root: mgca_split(ids, 0.15 * 2),
    ),
    "mgca-det": PublishedSplit(
        "MGCA, mgca/preprocess/rsna.py",
        (16_010, 5_337, 5_337),
        lambda ids, root: mgca_split(ids, 5337 * 2),
    ),
    "mrm": PublishedSplit("MRM, DatasetsSplits/", (25_184, 1_500, 3_000)),
    "benchx": PublishedSplit("BenchX, its lists", (18_678, 4_003, 4_003)),
    "medklip": PublishedSplit("MedKLIP, its test.csv", (None, None, 5_337)),
}

SPLIT = (0.6, 0.2, 0.2)
"""16,010 / 5,337 / 5,337 of 26,684 images, the sizes of MGCA's detection split."""

LABELS, CLASSES = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv"
LABEL_TABLES = (LABELS, "stage_1_train_labels.csv")
CLASS_TABLES = (CLASSES, "stage_1_detailed_class_info.csv")
IMAGES = ("stage_2_train_images", "stage_1_train_images", "images")
CORNERS = ("x", "y", "width", "height")
FRAME = (1024, 1024)
FINDING = CARD.findings[0]
NOTHING = Header(None, None, None, None, None)


def read(root: Path) -> Iterator[Found]:
    """Yield a record for each patientId of the label table.

    BadData: the table, a column or the image folder is missing.
    """
    check_layout(root)
    labels = choose_table(root, LABEL_TABLES)
    yield from note_unread(root, LABEL_TABLES)
    table = read_table(labels, ("patientId", *CORNERS, "Target"))
    images = index_images(folders(root, IMAGES), EXTENSIONS)
    opaque = _opaque(choose_table(root, CLASS_TABLES))
    for name, rows in by_key(table, "patientId").items():
        path = images.get(name)
        if path is None:
            yield Missing(name or f"line {rows[0]['line']}", None)
            continue
        try:
            yield _record(name, path, rows, opaque.get(name), labels.name)
        except BadData as error:
            yield Rejected(name, path, str(error))


def _record(name: str, path: Path, rows: list[Cells], opaque: bool | None, table: str) -> Record:
    line = f"line {rows[0]['line']} of {table}"
    targets = {row["Target"] for row in rows}
    if not (targets == {"0"} or targets == {"1"}):
        raise BadData(f"{line}: Target must be 0 or 1 in all rows, found {sorted(targets)}")
    positive = targets == {"1"}
    if opaque is not None and opaque != positive:
        raise BadData(f"{line}: Target {positive:d} contradicts the class in the table of classes")
    is_known = not positive or all(is_complete(row, CORNERS) for row in rows)
    boxes = tuple(_box(row, table) for row in rows) if positive and is_known else ()
    header = read_header(path) if path.suffix.lower() in (".dcm", ".dicom") else NOTHING
    return Record(
        id=name,
        path=path,
        patient=header.patient or name,
        study=header.study,
        view=header.view,
        sex=header.sex,
        age=header.age,
        labels={FINDING: int(positive)},
        boxes=boxes if is_known else None,
        masks=BoxMasks(boxes, FRAME) if is_known else None,
        frame=FRAME,
        notes=() if is_known else (NO_CORNERS,),
    )


def _box(row: Cells, table: str) -> Box:
    x, y, width, height = (
        number(row[name], f"line {row['line']} of {table}: {name}") for name in CORNERS
    )
    return Box(FINDING, x, y, x + width, y + height)


def _opaque(path: Path) -> dict[str, bool]:
    """Return patientId -> whether its class is Lung Opacity; empty if there is no class table."""
    if not has_table(path):
        return {}
    table = read_table(path, ("patientId", "class")).drop_duplicates("patientId")
    return dict(zip(table["patientId"], table["class"] == "Lung Opacity", strict=True))
