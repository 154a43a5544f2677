"""CheXpert v1.0, full size or small, its test set of 500 studies, and CheXlocalize's masks.

    train.csv, valid.csv       Path, Sex, Age, Frontal/Lateral, AP/PA, 14 labels; all but path and
                               labels may be lacking
    groundtruth.csv            Study, 14 labels: the test set, one row per study
    val_labels.csv, test_labels.csv   Path, 14 labels: the same two sets as CheXlocalize has them
    gt_segmentations_{val,test}.json  {image: {finding: {size, counts}}}, COCO run lengths
    {train,valid,val,test}/patient00001/study1/view1_frontal.jpg

Whichever of these are there are read. A path in a table begins with the name of the release; only
what follows the set's folder counts, so that a full-size table fits small images. Columns are taken
by name, for their order differs from file to file. Uncertain labels stay -1, blank ones are not
judged. Masks of findings that were looked for and not seen are left out; their size is that of the
full image, whatever the size of the copy at hand.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from g2dbench.cards import DatasetCard
from g2dbench.data.readers._chexpert_labels import Judgements
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


class Part(NamedTuple):
    """A table: the split it lists, the column that names an image or a study, what else it has."""

    table: str
    split: str
    key: str = "Path"
    optional: tuple[str, ...] = ()


PARTS = (
    (Part("train.csv", "train", optional=DEMOGRAPHICS),),
    (Part("valid.csv", "valid", optional=DEMOGRAPHICS), Part("val_labels.csv", "valid")),
    (Part("groundtruth.csv", "test", key="Study"), Part("test_labels.csv", "test")),
)
"""For each split the tables that may list it; the first that is there is read."""

SEGMENTATIONS = ("gt_segmentations_val.json", "gt_segmentations_test.json")

_PLACE = re.compile(
    r"(?:.*/)?(?P<part>train|valid|val|test)/(?P<patient>patient\d+)/(?P<study>study\d+)"
    r"(?:/(?P<view>view\d+_(?:frontal|lateral)\.(?i:jpg)))?",
    re.ASCII,
)
_SAME = {"valid": ("valid", "val"), "val": ("val", "valid")}
"""Folders that hold the same set in CheXpert and in CheXlocalize."""


def read(root: Path) -> Iterator[Found]:
    """One record per image that a table lists, or that lies in the folder of a study it lists.

    BadData: no table is there, or one lacks a column.
    """
    check_layout(root)
    parts = [part for choice in PARTS for part in _present(root, choice)] or [PARTS[0][0]]
    source = Source(
        root, Judgements(CARD.findings), read_segmentations(root, SEGMENTATIONS, SPELLINGS)
    )
    for part in parts:
        table = read_table(root / part.table, (part.key, *CARD.findings), part.optional)
        yield from note_lacking(root / part.table, part.optional)
        names = list(table.columns)
        for cells in table.itertuples(index=False, name=None):
            yield from _row(part, dict(zip(names, cells, strict=True)), source)


def _present(root: Path, choice: tuple[Part, ...]) -> list[Part]:
    """The first table of a choice that is there, if any."""
    return [part for part in choice if has_table(root / part.table)][:1]


class Source(NamedTuple):
    """What the rows of all tables are read with."""

    root: Path
    judge: Judgements
    masks: Segmentations


def _row(part: Part, row: Mapping[str, str], source: Source) -> Iterator[Found]:
    """The image of a row, or all images of the study that it names."""
    where = f"line {row['line']} of {part.table}"
    named = row[part.key]
    place = _PLACE.fullmatch(portable(named))
    if place is None:
        reason = (
            f"{where}: {named!r} is no path such as train/patient00001/study1/view1_frontal.jpg"
        )
        yield Rejected(named or where, None, reason)
        return
    folders = [
        source.root / folder / place["patient"] / place["study"]
        for folder in _SAME.get(place["part"], (place["part"],))
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
    """The named view in the first folder that has it, or all views of the study's folder."""
    if view is not None:
        paths = [locate(folder, view) for folder in folders]
        return [next((path for path in paths if path.is_file()), paths[0])]
    found = [path for folder in folders for path in sorted(folder.glob("view*.jpg"))]
    return found or [folders[0] / "view1_frontal.jpg"]


def _record(name: str, path: Path, part: Part, row: Mapping[str, str], source: Source) -> Record:
    drawn = source.masks.of(name)
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
        labels=source.judge.labels([row[finding] for finding in CARD.findings], "its labels"),
        masks=drawn.masks,
        frame=drawn.frame,
        notes=drawn.notes,
    )
