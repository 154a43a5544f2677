"""CheXpert v1.0, full size or small, its test set of 500 studies, and CheXlocalize's masks.

    train.csv, valid.csv       Path, Sex, Age, Frontal/Lateral, AP/PA, 14 labels; all but path and
                               labels may be lacking
    groundtruth.csv            Study, 14 labels: the test set, one row per study
    val_labels.csv, test_labels.csv   Path, 14 labels: the same two sets as CheXlocalize has them
    gt_segmentations_{val,test}.json  {image: {finding: {size, counts}}}, COCO run lengths
    {train,valid,val,test}/patient00001/study1/view1_frontal.jpg

All of these files are optional, but one table is needed. A path in a table starts with the name of
the release, which is ignored, so that a table of the full-size release fits small images. Columns
are found by name, because their order differs between files. Uncertain labels stay -1; blank cells
have no label. Empty masks are left out. Masks have the size of the full-size image, also with the
small images.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from g2dbench.cards import DatasetCard
from g2dbench.data.readers._chexpert_labels import LabelParser
from g2dbench.data.readers.chexpert.chexlocalize import Segmentations, read_segmentations
from g2dbench.data.splits.published import PublishedSplit
from g2dbench.data.tables.csv import has_table, note_lacking, read_table
from g2dbench.data.tables.demographics import parse_sex, parse_years
from g2dbench.data.tables.files import check_layout
from g2dbench.data.tables.paths import locate, portable
from g2dbench.data.tables.records import Found, Missing, Rejected
from g2dbench.errors import BadData
from g2dbench.sample import Record

CARD = DatasetCard(
    name="chexpert",
    summary="CheXpert v1.0 (full or small), its test set of 500 studies, CheXlocalize masks.",
    offers=("labels", "masks"),
    findings=(
        "No Finding",
        "Enlarged Cardiomediastinum",
        "Cardiomegaly",
        "Lung Opacity",
        "Lung Lesion",
        "Edema",
        "Consolidation",
        "Pneumonia",
        "Atelectasis",
        "Pneumothorax",
        "Pleural Effusion",
        "Pleural Other",
        "Fracture",
        "Support Devices",
    ),
    url="https://stanfordmlgroup.github.io/competitions/chexpert/",
    licence="Stanford University Dataset Research Use Agreement: no sharing",
    layout=("train.csv", "valid.csv", "train/", "valid/"),
)

PUBLISHED_SPLITS = {
    "mgca": PublishedSplit("MGCA, its lists", (None, 5_000, None)),
    "mrm": PublishedSplit("MRM, DatasetsSplits/", (None, 5_000, 234)),
}

SPELLINGS = {"Airspace Opacity": "Lung Opacity"}
DEMOGRAPHICS = ("Sex", "Age", "AP/PA")


class SplitTable(NamedTuple):
    """A table of one split. key: column of the image or study; optional: columns it may lack."""

    table: str
    split: str
    key: str = "Path"
    optional: tuple[str, ...] = ()


SPLIT_TABLES = (
    (SplitTable("train.csv", "train", optional=DEMOGRAPHICS),),
    (
        SplitTable("valid.csv", "valid", optional=DEMOGRAPHICS),
        SplitTable("val_labels.csv", "valid"),
    ),
    (SplitTable("groundtruth.csv", "test", key="Study"), SplitTable("test_labels.csv", "test")),
)
"""The possible tables of each split; the first that exists is read."""

SEGMENTATIONS = ("gt_segmentations_val.json", "gt_segmentations_test.json")

_IMAGE_PATH = re.compile(
    r"(?:.*/)?(?P<part>train|valid|val|test)/(?P<patient>patient\d+)/(?P<study>study\d+)"
    r"(?:/(?P<view>view\d+_(?:frontal|lateral)\.(?i:jpg)))?",
    re.ASCII,
)
_EQUIVALENT_FOLDERS = {"valid": ("valid", "val"), "val": ("val", "valid")}
"""Folder names that CheXpert and CheXlocalize use for the same images."""


def read(root: Path) -> Iterator[Found]:
    """Yield a record for each image that a table lists, or that is in a listed study's folder.

    Raises BadData if there is no table, or a table lacks a column.
    """
    check_layout(root)
    parts = [part for choice in SPLIT_TABLES for part in _first_existing(root, choice)] or [
        SPLIT_TABLES[0][0]
    ]
    source = RowContext(
        root, LabelParser(CARD.findings), read_segmentations(root, SEGMENTATIONS, SPELLINGS)
    )
    for part in parts:
        table = read_table(root / part.table, (part.key, *CARD.findings), part.optional)
        yield from note_lacking(root / part.table, part.optional)
        names = list(table.columns)
        for cells in table.itertuples(index=False, name=None):
            yield from _row(part, dict(zip(names, cells, strict=True)), source)


def _first_existing(root: Path, choice: tuple[SplitTable, ...]) -> list[SplitTable]:
    """Return the first of these tables that exists, if any."""
    return [part for part in choice if has_table(root / part.table)][:1]


class RowContext(NamedTuple):
    """What the rows of all tables need."""

    root: Path
    label_parser: LabelParser
    masks: Segmentations


def _row(part: SplitTable, row: Mapping[str, str], source: RowContext) -> Iterator[Found]:
    """Yield the image of a row, or all images of its study."""
    where = f"line {row['line']} of {part.table}"
    named = row[part.key]
    place = _IMAGE_PATH.fullmatch(portable(named))
    if place is None:
        reason = (
            f"{where}: {named!r} is not a path such as train/patient00001/study1/view1_frontal.jpg"
        )
        yield Rejected(named or where, None, reason)
        return
    folders = [
        source.root / folder / place["patient"] / place["study"]
        for folder in _EQUIVALENT_FOLDERS.get(place["part"], (place["part"],))
    ]
    for path in _images(folders, place["view"]):
        name = f"{place['patient']}_{place['study']}_{path.stem}"
        if not path.is_file():
            yield Missing(name, path)
            continue
        try:
            yield _record(name, path, part, row, source)
        except BadData as error:
            yield Rejected(name, path, f"{where}: {error}")


def _images(folders: list[Path], view: str | None) -> list[Path]:
    """Return the image of a view in the first folder that has it, or all images of the study."""
    if view is not None:
        paths = [locate(folder, view) for folder in folders]
        return [next((path for path in paths if path.is_file()), paths[0])]
    found = [path for folder in folders for path in sorted(folder.glob("view*.jpg"))]
    return found or [folders[0] / "view1_frontal.jpg"]


def _record(
    name: str, path: Path, part: SplitTable, row: Mapping[str, str], source: RowContext
) -> Record:
    found = source.masks.masks_of(name)
    patient, study = name.split("_")[:2]
    return Record(
        id=name,
        path=path,
        patient=patient,
        study=f"{patient}/{study}",
        view=row.get("AP/PA") or path.stem.rpartition("_")[2],
        sex=parse_sex(row.get("Sex", "")),
        age=parse_years(row.get("Age")),
        split=part.split,
        labels=source.label_parser.labels(
            [row[finding] for finding in CARD.findings], "its labels"
        ),
        masks=found.masks,
        frame=found.frame,
        notes=found.notes,
    )
