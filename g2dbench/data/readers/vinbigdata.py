"""VinBigData chest X-ray abnormalities (Kaggle): the training part of VinDr-CXR with 14 findings.

    train.csv                     image_id, class_name, class_id (may be lacking), rad_id, x_min,
                                  y_min, x_max, y_max
    train/<image_id>.dicom        or .png, .jpg copies, see `frames`

The table has one row per box, and one "No finding" row (class 14) for each of an image's three
radiologists who found nothing; `consensus` combines them. The competition's test images have no
labels and are not read; the 15,000 training images are split, stratified by label.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from g2dbench.cards import DatasetCard
from g2dbench.data.images.image_file import EXTENSIONS
from g2dbench.data.readers.vindr import CORNERS, READER, has_all_corners, parse_boxes
from g2dbench.data.readers.vindr.consensus import majority_labels, merge_boxes
from g2dbench.data.readers.vindr.frames import BoxFrames
from g2dbench.data.tables.csv import Cells, by_key, note_lacking, read_table
from g2dbench.data.tables.files import check_layout, folders, index_images
from g2dbench.data.tables.records import Found, Missing, Rejected
from g2dbench.errors import BadData
from g2dbench.sample import Box, Record

CARD = DatasetCard(
    name="vinbigdata",
    summary="VinBigData (Kaggle): VinDr-CXR's training images with boxes of 14 findings.",
    offers=("labels", "boxes"),
    findings=(
        "Aortic enlargement",
        "Atelectasis",
        "Calcification",
        "Cardiomegaly",
        "Consolidation",
        "ILD",
        "Infiltration",
        "Lung Opacity",
        "Nodule/Mass",
        "Other lesion",
        "Pleural effusion",
        "Pleural thickening",
        "Pneumothorax",
        "Pulmonary fibrosis",
        "No finding",
    ),
    url="https://www.kaggle.com/c/vinbigdata-chest-xray-abnormalities-detection",
    licence="Competition rules: non-commercial research and education",
    layout=("train.csv", "train/"),
    options=("copies",),
)

SPLIT = (0.7, 0.1, 0.2)

TABLE = "train.csv"
OPTIONAL = ("class_id",)


def read(root: Path, options: Mapping[str, str] | None = None) -> Iterator[Found]:
    """Yield a record for each image_id of the table.

    options: see `frames`. BadData: the table, a column or the image folder is missing.
    """
    check_layout(root)
    columns = ("image_id", "class_name", READER, *CORNERS)
    table = read_table(root / TABLE, columns, OPTIONAL)
    yield from note_lacking(root / TABLE, OPTIONAL)
    images = index_images(folders(root, ("train",)), EXTENSIONS)
    frames = BoxFrames(root, "train", options or {})
    for name, rows in by_key(table, "image_id").items():
        path = images.get(name)
        if path is None:
            yield Missing(name or f"line {rows[0]['line']}", None)
            continue
        try:
            yield _record(name, path, rows, frames)
        except BadData as error:
            yield Rejected(name, path, str(error))


def _record(name: str, path: Path, rows: list[Cells], frames: BoxFrames) -> Record:
    for row in rows:
        _check_class(row)
    boxes = parse_boxes(rows, Path(TABLE))
    seen: dict[str, set[str]] = {}
    for row in rows:
        seen.setdefault(row[READER], set()).add(row["class_name"])
    votes = [{f: int(f in found) for f in CARD.findings} for found in seen.values()]
    labels = majority_labels(votes)
    consensus = _consensus(boxes, labels) if has_all_corners(rows, labels) else None
    return frames.record(name, path, labels, consensus, None)


def _consensus(boxes: list[Box], labels: dict[str, int]) -> tuple[Box, ...]:
    return merge_boxes(box for box in boxes if labels[box.finding])


def _check_class(row: Cells) -> None:
    """Raise BadData if the name and the number of a row's class differ; the number is optional."""
    name, code = row["class_name"], row["class_id"]
    if name not in CARD.findings or code not in ("", str(CARD.findings.index(name))):
        raise BadData(
            f"line {row['line']} of {TABLE}: the class {name!r} with number {code!r} is none of "
            f"VinBigData's {len(CARD.findings)}"
        )
