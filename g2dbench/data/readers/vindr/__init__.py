"""VinDr-CXR in PhysioNet's layout: 28 labels and boxes by radiologists.

    annotations/image_labels_{train,test}.csv   image_id, rad_id (train only), one column per label
    annotations/annotations_{train,test}.csv    image_id, rad_id (train only), class_name,
                                                x_min, y_min, x_max, y_max
    train/<image_id>.dicom, test/<image_id>.dicom

Three of 17 radiologists read each training image; `consensus` combines their labels and boxes. The
test tables have the consensus of five radiologists, which is used unchanged. The finding "Other
diseases" of the training table is "Other disease" here, as in the test table. Boxes are in pixels
of the DICOM file. A fifth of the training images is held out, stratified by label:
12,000 / 3,000 / 3,000, as in BenchX. PNG or JPEG copies need the sizes of the originals, see
`frames`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from g2dbench.cards import DatasetCard
from g2dbench.data.images.image_file import EXTENSIONS
from g2dbench.data.readers.vindr.consensus import majority_labels, merge_boxes
from g2dbench.data.readers.vindr.frames import BoxFrames
from g2dbench.data.splits.published import PublishedSplit
from g2dbench.data.tables.csv import Cells, by_key, header, is_complete, number, read_table
from g2dbench.data.tables.files import check_layout, folders, index_images
from g2dbench.data.tables.records import Found, Missing, Note, Rejected
from g2dbench.errors import BadData
from g2dbench.sample import Box

CARD = DatasetCard(
    name="vindr",
    summary="VinDr-CXR: 22 local findings with boxes and 6 diagnoses by radiologists.",
    offers=("labels", "boxes"),
    findings=(
        "Aortic enlargement",
        "Atelectasis",
        "Calcification",
        "Cardiomegaly",
        "Clavicle fracture",
        "Consolidation",
        "Edema",
        "Emphysema",
        "Enlarged PA",
        "ILD",
        "Infiltration",
        "Lung Opacity",
        "Lung cavity",
        "Lung cyst",
        "Mediastinal shift",
        "Nodule/Mass",
        "Pleural effusion",
        "Pleural thickening",
        "Pneumothorax",
        "Pulmonary fibrosis",
        "Rib fracture",
        "Other lesion",
        "COPD",
        "Lung tumor",
        "Pneumonia",
        "Tuberculosis",
        "Other disease",
        "No finding",
    ),
    url="https://physionet.org/content/vindr-cxr/",
    licence="PhysioNet Credentialed Health Data License 1.5.0",
    layout=("annotations/", "train/", "test/"),
    options=("copies",),
)

PUBLISHED_SPLITS = {"benchx": PublishedSplit("BenchX, its lists", (12_000, 3_000, 3_000))}

SPLIT = (0.8, 0.2, 0.0)
"""Shares of the training images; the test images are official."""

ALIASES = {"Other diseases": "Other disease"}
READER = "rad_id"
CORNERS = ("x_min", "y_min", "x_max", "y_max")


def read(root: Path, options: Mapping[str, str] | None = None) -> Iterator[Found]:
    """Yield a record for each image of the label tables; the test tables are optional.

    options: see `frames`. BadData: a table, a column or an image folder is missing.
    """
    check_layout(root)
    yield from _part(root, "train", options or {})
    if (root / "annotations" / "image_labels_test.csv").is_file():
        yield from _part(root, "test", options or {})


def _part(root: Path, name: str, options: Mapping[str, str]) -> Iterator[Found]:
    """Read the official training or test set; only the training tables name radiologists."""
    table = root / "annotations" / f"image_labels_{name}.csv"
    reader_column = (READER,) if name == "train" else ()
    columns = _label_columns(table)
    votes = by_key(read_table(table, ("image_id", *reader_column, *columns)), "image_id")
    boxes = table.with_name(f"annotations_{name}.csv")
    box_rows = by_key(
        read_table(boxes, ("image_id", *reader_column, "class_name", *CORNERS)), "image_id"
    )
    images = index_images(folders(root, (name,)), EXTENSIONS)
    frames = BoxFrames(root, name, options)
    if strange := box_rows.keys() - votes.keys():
        yield Note(f"{boxes.name} has boxes of {len(strange)} images that {table.name} lacks")
    for image, rows in votes.items():
        path = images.get(image)
        if path is None:
            yield Missing(image or f"line {rows[0]['line']}", None)
            continue
        try:
            given = [_vote(row, columns, table) for row in rows]
            rows = box_rows.get(image, [])
            labels, found = _consensus(image, given, parse_boxes(rows, boxes), reader_column)
            found = found if has_all_corners(rows, labels) else None
            yield frames.record(image, path, labels, found, None if reader_column else "test")
        except BadData as error:
            yield Rejected(image, path, str(error))


def _label_columns(table: Path) -> dict[str, str]:
    """Return the finding of each label column; BadData if a finding has no column."""
    names = header(table)
    columns = {name: ALIASES.get(name, name) for name in names}
    columns = {name: finding for name, finding in columns.items() if finding in CARD.findings}
    lacking = set(CARD.findings) - set(columns.values())
    if lacking or "image_id" not in names:
        wanted = sorted(lacking) or ["image_id"]
        raise BadData(f"{table} lacks the columns {wanted}; found: {', '.join(names)}")
    return columns


def _consensus(
    image: str, given: list[dict[str, int]], boxes: list[Box], reader_column: tuple[str, ...]
) -> tuple[dict[str, int], tuple[Box, ...] | None]:
    """Return the labels and boxes of an image: the consensus, computed or as the table has it."""
    if reader_column:
        labels = majority_labels(given)
        return labels, merge_boxes(box for box in boxes if labels[box.finding])
    if len(given) > 1:
        raise BadData(f"the test image {image} has {len(given)} rows of labels instead of one")
    return given[0], tuple(boxes)


def _vote(row: Cells, columns: dict[str, str], table: Path) -> dict[str, int]:
    """Return the labels of a row, by finding."""
    vote = {}
    for column, finding in columns.items():
        value = number(row[column], f"line {row['line']} of {table.name}: {column}")
        if value not in (0, 1):
            raise BadData(f"line {row['line']} of {table.name}: {column} is {value:g}, not 0 or 1")
        vote[finding] = int(value)
    return vote


def parse_boxes(rows: list[Cells], table: Path) -> list[Box]:
    """Return the boxes of some rows; BadData names the line of an invalid one.

    "No finding" has no box. Rows without corners are left out, see `has_all_corners`.
    """
    boxes = []
    for row in rows:
        name = ALIASES.get(row["class_name"], row["class_name"])
        where = f"line {row['line']} of {table.name}"
        if name not in CARD.findings:
            raise BadData(f"{where}: {name!r} is not a finding of VinDr-CXR")
        if name != "No finding" and is_complete(row, CORNERS):
            boxes.append(Box(name, *(number(row[c], f"{where}: {c}") for c in CORNERS)))
    return boxes


def has_all_corners(rows: list[Cells], labels: Mapping[str, int]) -> bool:
    """Return whether every row of a present finding has a box."""
    names = [str(ALIASES.get(row["class_name"], row["class_name"])) for row in rows]
    return all(
        is_complete(row, CORNERS)
        for name, row in zip(names, rows, strict=True)
        if name != "No finding" and labels.get(name)
    )
