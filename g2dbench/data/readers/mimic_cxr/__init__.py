"""MIMIC-CXR-JPG 2.0.0 and 2.1.0 with the reports of MIMIC-CXR, as PhysioNet distributes them.

    mimic-cxr-2.0.0-metadata.csv[.gz]     dicom_id, subject_id, study_id, ViewPosition, ...
    mimic-cxr-2.0.0-split.csv[.gz]        dicom_id, study_id, subject_id, split
    mimic-cxr-2.0.0-chexpert.csv[.gz]     subject_id, study_id, 14 labels; or -negbio
    mimic-cxr-2.1.0-test-set-labeled.csv  study_id, 14 labels by radiologists (2.1.0 only)
    files/p10/p10000032/s50414267/<dicom_id>.jpg

Reports are a separate project: `layout` searches for them unless the option `reports` names their
zip or folder, `reports` reads them. The whole report is stored; the cleaning of a recipe selects
sections. Labels belong to the study and come from CheXpert's labeler, or with the option
`labels=negbio` from NegBio; labels by radiologists replace them for studies of the test set
("Airspace Opacity" there is Lung Opacity). Images without ViewPosition have the view "unspecified"
and do not count as frontal; a table without this column is read by ViewCodeSequence_CodeMeaning.
These tables have no sex and no age.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from g2dbench.cards import DatasetCard
from g2dbench.data.readers._chexpert_labels import LabelParser
from g2dbench.data.readers.mimic_cxr.layout import METADATA, find_images, find_reports, image_tree
from g2dbench.data.readers.mimic_cxr.reports import Reports, open_reports
from g2dbench.data.tables.csv import has_table, note_lacking, read_table
from g2dbench.data.tables.files import check_layout
from g2dbench.data.tables.records import Found, Missing, Rejected
from g2dbench.errors import BadData, Misuse
from g2dbench.sample import Record

CARD = DatasetCard(
    name="mimic_cxr",
    summary="MIMIC-CXR-JPG with the MIMIC-CXR reports: 377,110 images of 227,835 studies.",
    offers=("reports", "labels"),
    findings=(
        "Atelectasis",
        "Cardiomegaly",
        "Consolidation",
        "Edema",
        "Enlarged Cardiomediastinum",
        "Fracture",
        "Lung Lesion",
        "Lung Opacity",
        "No Finding",
        "Pleural Effusion",
        "Pleural Other",
        "Pneumonia",
        "Pneumothorax",
        "Support Devices",
    ),
    url="https://physionet.org/content/mimic-cxr-jpg/",
    licence="PhysioNet Credentialed Health Data License 1.5.0: no sharing",
    layout=(
        "mimic-cxr-2.0.0-metadata.csv.gz",
        "mimic-cxr-2.0.0-split.csv.gz",
        "mimic-cxr-2.0.0-chexpert.csv.gz",
        "files/",
        "mimic-cxr-reports.zip",
    ),
    options=("reports", "labels"),
)

SPLIT_TABLE = "mimic-cxr-2.0.0-split.csv"
LABELS = {
    "chexpert": "mimic-cxr-2.0.0-chexpert.csv",
    "negbio": "mimic-cxr-2.0.0-negbio.csv",
}
"""Label tables by the program that labeled the reports; all have the same studies."""
RADIOLOGISTS = "mimic-cxr-2.1.0-test-set-labeled.csv"

OPTIONAL = (("ViewPosition", "ViewCodeSequence_CodeMeaning"),)

SPLITS = {"train": "train", "validate": "valid", "test": "test"}
SPELLINGS = {"Lung Opacity": "Airspace Opacity"}
"""Columns of the radiologists' table whose finding has another name."""

UNSPECIFIED = "unspecified"
EXTENSIONS = (".jpg", ".png")
"""As distributed, or a smaller copy."""

_NUMBER = re.compile(r"\d{2,12}", re.ASCII)
_IMAGE = re.compile(r"\w[\w-]*", re.ASCII)

Labels = Mapping[str, int] | None


def read(root: Path, options: Mapping[str, str] | None = None) -> Iterator[Found]:
    """Yield a record for each image of the metadata.

    options: `reports`, a zip or a folder; `labels`, one of LABELS. Misuse: there is no such one.
    BadData: a table, a column, the images or the reports are missing.
    """
    check_layout(root)
    options = options or {}
    labels = options.get("labels", "chexpert")
    if labels not in LABELS:
        raise Misuse(f"--option labels={labels}: choose one of {', '.join(LABELS)}")
    images = find_images(root)
    table = _table(images)
    yield from note_lacking(images / METADATA, OPTIONAL)
    reports = open_reports(find_reports(images, options.get("reports")))
    source = StudyContext(image_tree(images), reports, StudyLabels(images, LABELS[labels]))
    # Images of a study lie together, so that its report is read once.
    for _, rows in groupby(table.itertuples(index=False), attrgetter("subject_id", "study_id")):
        yield from _study(list(rows), source)


def _table(images: Path) -> pd.DataFrame:
    """Return the metadata with the official split ("" if none), sorted by patient and study."""
    metadata = read_table(images / METADATA, ("dicom_id", "subject_id", "study_id"), OPTIONAL)
    split = read_table(images / SPLIT_TABLE, ("dicom_id", "split")).drop_duplicates("dicom_id")
    metadata["split"] = metadata["dicom_id"].map(split.set_index("dicom_id")["split"]).fillna("")
    return metadata.sort_values(["subject_id", "study_id"], kind="stable")


class StudyLabels:
    """The labels of all studies: by radiologists if available, else by a program."""

    def __init__(self, images: Path, table: str) -> None:
        self._labels: dict[str, Labels] = {}
        self._broken: dict[str, str] = {}
        self._judge = LabelParser(CARD.findings)
        self._add(images / table, {})
        if has_table(images / RADIOLOGISTS):
            self._add(images / RADIOLOGISTS, SPELLINGS)

    def _add(self, path: Path, spellings: Mapping[str, str]) -> None:
        columns = [spellings.get(finding, finding) for finding in CARD.findings]
        table = read_table(path, ("study_id", *columns))
        for study, *cells, line in table.itertuples(index=False, name=None):
            try:
                where = f"line {line} of {path.name}"
                self._labels[study.removeprefix("s")] = self._judge.labels(cells, where)
            except BadData as error:
                self._broken[study] = str(error)

    def of(self, study: str) -> Labels:
        """Return the labels of a study, or None; BadData if its row is invalid."""
        if study in self._broken:
            raise BadData(self._broken[study])
        return self._labels.get(study)


class StudyContext(NamedTuple):
    """What a study's images are made of; tree holds p10/ to p19/."""

    tree: Path
    reports: Reports
    labels: StudyLabels


def _study(rows: list[Any], source: StudyContext) -> Iterator[Found]:
    """The images of one study, from their rows of the metadata."""
    subject, study = str(rows[0].subject_id), str(rows[0].study_id)
    try:
        if not (_NUMBER.fullmatch(subject) and _NUMBER.fullmatch(study)):
            raise BadData(f"subject {subject!r} and study {study!r} must be numbers")
        common = Record(
            id=study,
            path=source.tree / f"p{subject[:2]}" / f"p{subject}" / f"s{study}",
            patient=subject,
            study=study,
            report=source.reports.read(subject, study),
            labels=source.labels.of(study),
        )
    except BadData as error:
        for row in rows:
            where = f"line {row.line} of {METADATA}"
            yield Rejected(str(row.dicom_id) or where, None, f"{where}: {error}")
        return
    yield from (_image(row, common) for row in rows)


def _image(row: Any, study: Record) -> Found:
    """One image of a study, whose record holds what its images share and the folder they lie in."""
    name, where = str(row.dicom_id), f"line {row.line} of {METADATA}"
    if not _IMAGE.fullmatch(name):
        return Rejected(name or where, None, f"{where}: {name!r} is no dicom_id")
    if row.split not in SPLITS:
        known = ", ".join(SPLITS)
        reason = f"{where}: {SPLIT_TABLE} gives the split {row.split!r}, none of {known}"
        return Rejected(name, None, reason)
    paths = [study.path / f"{name}{extension}" for extension in EXTENSIONS]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return Missing(name, paths[0])
    view = str(row.ViewPosition) or UNSPECIFIED
    return replace(study, id=name, path=path, view=view, split=SPLITS[row.split])
