"""NIH ChestX-ray14: 112,120 images with 14 findings, 984 boxes, official train and test lists.

    Data_Entry_2017_v2020.csv or Data_Entry_2017.csv   Image Index, Finding Labels (joined by |),
                                                       Patient ID; Patient Age, Patient Gender (or
                                                       Sex) and View Position may be lacking
    BBox_List_2017.csv                  Image Index, Finding Label, `Bbox [x`, y, w, `h]` (optional)
    train_val_list.txt, test_list.txt   image names; both or neither; also train_val_list_NIH.txt
    images/, or images_001/images/ to images_012/images/

Headers contain commas within brackets, so that `OriginalImage[Width,Height]` is two columns; the
older table has one more comma at the end of each line and writes ages as 058Y. Boxes are in the
official 1024 x 1024 frame, also for smaller copies; "Infiltrate" there is Infiltration. An image
without a row in the box list was not annotated with boxes. With the official lists, a tenth of the
patients of train_val_list.txt, selected by a hash of their number, is the validation split.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from g2dbench.cards import DatasetCard
from g2dbench.data.splits.published import PublishedSplit
from g2dbench.data.splits.stratified import uniform_hash
from g2dbench.data.tables.csv import (
    Cells,
    by_key,
    choose_table,
    has_table,
    is_complete,
    note_lacking,
    note_unread,
    number,
    read_table,
)
from g2dbench.data.tables.demographics import parse_sex, parse_years
from g2dbench.data.tables.files import check_layout, folders, index_images, read_bytes
from g2dbench.data.tables.paths import bare_name, file_name
from g2dbench.data.tables.records import NO_CORNERS, Found, Missing, Rejected
from g2dbench.errors import BadData
from g2dbench.sample import ABSENT, PRESENT, Box, Record

CARD = DatasetCard(
    name="nih_cxr14",
    summary="NIH ChestX-ray14: 112,120 frontal images, 14 findings, 984 boxes.",
    offers=("labels", "boxes"),
    findings=(
        "Atelectasis",
        "Cardiomegaly",
        "Effusion",
        "Infiltration",
        "Mass",
        "Nodule",
        "Pneumonia",
        "Pneumothorax",
        "Consolidation",
        "Edema",
        "Emphysema",
        "Fibrosis",
        "Pleural_Thickening",
        "Hernia",
    ),
    url="https://nihcc.app.box.com/v/ChestXray-NIHCC",
    licence="No restriction on use; attribution to the NIH Clinical Center and citation requested",
    layout=("Data_Entry_2017_v2020.csv", "images/"),
)

PUBLISHED_SPLITS = {
    "mrm": PublishedSplit("MRM, DatasetsSplits/", (78_468, 11_219, 22_433)),
    "benchx": PublishedSplit("BenchX, its lists", (78_468, 11_219, 22_433)),
    "kad": PublishedSplit("KAD, A3_CLIP's test list", (None, None, 25_596)),
    "medklip": PublishedSplit("MedKLIP, its test list", (None, None, 25_596)),
}

SPLIT = (0.7, 0.1, 0.2)
"""Shares without the official lists, those of MRM and BenchX."""

TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
COLUMNS = ("Image Index", "Finding Labels", "Patient ID")
OPTIONAL = ("Patient Age", ("Patient Gender", "Patient Sex"), "View Position")
BOXES = "BBox_List_2017.csv"
BOX_COLUMNS = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")
LISTS = {
    "train": ("train_val_list.txt", "train_val_list_NIH.txt"),
    "test": ("test_list.txt", "test_list_NIH.txt"),
}
FRAME = (1024, 1024)

NOTHING = "No Finding"
SPELLINGS = {"Infiltrate": "Infiltration"}
VALID = 0.1
OLDEST = 120
"""Largest plausible age; the table has some such as 412, which are left out."""


def read(root: Path) -> Iterator[Found]:
    """Yield a record for each image of the table.

    BadData: the table, a column, one of the two lists or the image folder is missing.
    """
    check_layout(root)
    chosen = choose_table(root, TABLES)
    yield from note_unread(root, TABLES)
    table = read_table(chosen, COLUMNS, OPTIONAL)
    yield from note_lacking(chosen, OPTIONAL)
    parts = [f"images_{number:03}" for number in range(1, 13)]
    images = index_images(folders(root, ("images", *parts)), (".png", ".jpg"))
    source = AnnotationTables(chosen.name, _boxes(root), _splits(root))
    for row in table.to_dict("records"):
        image = row["Image Index"]
        path = images.get(bare_name(image))
        if path is None:
            yield Missing(image or f"line {row['line']}", None)
            continue
        try:
            yield _record(row, path, source)
        except BadData as error:
            yield Rejected(path.stem, path, str(error))


class AnnotationTables(NamedTuple):
    """The boxes and splits of images, by their name in the table."""

    table: str
    boxes: dict[str, list[Cells]]
    splits: dict[str, str]


def _record(row: Cells, path: Path, source: AnnotationTables) -> Record:
    where = f"line {row['line']} of {source.table}"
    image, patient = file_name(row["Image Index"]), row["Patient ID"]
    boxes = source.boxes.get(image)
    is_known = boxes is not None and all(is_complete(box, BOX_COLUMNS) for box in boxes)
    age = parse_years(row["Patient Age"])
    return Record(
        id=path.stem,
        path=path,
        patient=patient,
        view=row["View Position"] or None,
        sex=parse_sex(row["Patient Gender"]),
        age=age if age is not None and age <= OLDEST else None,
        split=_split(source.splits.get(image), patient),
        labels=_labels(row["Finding Labels"], where),
        boxes=tuple(_box(box) for box in boxes) if boxes is not None and is_known else None,
        frame=FRAME if is_known else None,
        notes=(NO_CORNERS,) if boxes is not None and not is_known else (),
    )


def _split(listed: str | None, patient: str) -> str | None:
    """Return the split of an image that an official list names, or None without the lists."""
    if listed == "train" and uniform_hash(f"{CARD.name} valid", patient) < VALID:
        return "valid"
    return listed


def _labels(cell: str, where: str) -> dict[str, int]:
    names = set(cell.split("|"))
    unknown = names - {*CARD.findings, NOTHING}
    if unknown or (NOTHING in names and len(names) > 1):
        raise BadData(f"{where}: the finding labels {cell!r} are not of the 14 known ones")
    return {name: PRESENT if name in names else ABSENT for name in CARD.findings}


def _box(row: Cells) -> Box:
    where = f"line {row['line']} of {BOXES}"
    finding = SPELLINGS.get(row["Finding Label"], row["Finding Label"])
    if finding not in CARD.findings:
        raise BadData(f"{where}: {finding!r} is none of the 14 findings")
    x, y, width, height = (number(row[name], f"{where}: {name}") for name in BOX_COLUMNS[2:])
    return Box(finding, x, y, x + width, y + height)


def _boxes(root: Path) -> dict[str, list[Cells]]:
    """Return image -> its rows in the list of boxes, which is optional."""
    chosen = choose_table(root, (BOXES,))
    if not has_table(chosen):
        return {}
    table = read_table(chosen, BOX_COLUMNS)
    table["Image Index"] = table["Image Index"].map(file_name)
    return by_key(table, "Image Index")


def _splits(root: Path) -> dict[str, str]:
    """Return image -> train or test by the official lists; empty if there are none."""
    there = {
        split: root / name
        for split, names in LISTS.items()
        for name in reversed(names)
        if (root / name).is_file()
    }
    official = " and ".join(names[0] for names in LISTS.values())
    if len(there) == 1:
        (alone,) = there.values()
        raise BadData(f"{root} holds {alone.name} alone: the official split needs {official}")
    found: dict[str, str] = {}
    for split, path in there.items():
        for image in map(file_name, _lines(path)):
            if found.setdefault(image, split) != split:
                raise BadData(f"the image {image} is in both {official} of {root}")
    return found


def _lines(path: Path) -> list[str]:
    try:
        return read_bytes(path).decode("utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"the list {path} cannot be read: {error}") from error
