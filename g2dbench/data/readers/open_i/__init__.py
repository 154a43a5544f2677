"""Open-i (Indiana University) chest radiographs with reports: Kaggle's layout, or the NLM's.

    indiana_reports.csv       uid, MeSH, Problems, image, indication, comparison, findings,
                              impression
    indiana_projections.csv   uid, filename, projection (may be lacking)
    images/images_normalized/<filename>, or images/<filename>

or the XML reports and PNG images of `open_i.nlm`; ids, reports and labels are the same in both.
A uid is a study, and each study counts as a patient. Frontal and lateral images are read; the field
`view` has the projection. Reports contain XXXX for removed names; `reports.cleaning` removes these.
"""

from collections.abc import Iterator
from pathlib import Path

from g2dbench.cards import DatasetCard
from g2dbench.data.images.image_file import EXTENSIONS
from g2dbench.data.readers.open_i import nlm
from g2dbench.data.tables.csv import note_lacking, read_table
from g2dbench.data.tables.files import check_layout, folders, index_images, is_present
from g2dbench.data.tables.paths import file_name, locate
from g2dbench.data.tables.records import Found, Missing, Rejected
from g2dbench.errors import BadData
from g2dbench.sample import ABSENT, PRESENT, Record

CARD = DatasetCard(
    name="open_i",
    summary="Indiana University chest radiographs with reports (Kaggle's or the NLM's layout).",
    offers=("reports", "labels"),
    findings=(
        "Normal",
        "Cardiomegaly",
        "Lung Opacity",
        "Atelectasis",
        "Pleural Effusion",
        "Emphysema",
        "Edema",
        "Pneumonia",
        "Consolidation",
        "Infiltration",
        "Nodule",
        "Pneumothorax",
        "Fracture",
        "Hernia",
    ),
    url="https://www.kaggle.com/datasets/raddar/chest-xrays-indiana-university",
    licence="CC BY-NC-ND 4.0",
    layout=("indiana_reports.csv", "indiana_projections.csv", "images/ (or NLMCXR_reports/ ...)"),
)

SPLIT = (0.8, 0.1, 0.1)

OPTIONAL = ("projection",)
REPORTS, PROJECTIONS = "indiana_reports.csv", "indiana_projections.csv"

TERMS = {
    "normal": "Normal",
    "cardiomegaly": "Cardiomegaly",
    "opacity": "Lung Opacity",
    "pulmonary atelectasis": "Atelectasis",
    "pleural effusion": "Pleural Effusion",
    "emphysema": "Emphysema",
    "pulmonary emphysema": "Emphysema",
    "bullous emphysema": "Emphysema",
    "pulmonary edema": "Edema",
    "pneumonia": "Pneumonia",
    "consolidation": "Consolidation",
    "infiltrate": "Infiltration",
    "nodule": "Nodule",
    "pneumothorax": "Pneumothorax",
    "fractures, bone": "Fracture",
    "hernia, hiatal": "Hernia",
}
"""Terms of the Problems column in lower case, and the finding that each stands for."""

UNJUDGED = {"", "no indexing"}


def read(root: Path) -> Iterator[Found]:
    """Yield a record for each listed image, with the report and labels of its study.

    BadData: a table, a column or the image folder is missing.
    """
    check_layout(root)
    folder = None if (root / REPORTS).is_file() else nlm.find_reports(root)
    yield from _kaggle(root) if folder is None else _nlm(root, folder)


def _nlm(root: Path, folder: Path) -> Iterator[Found]:
    images = index_images(folders(root, nlm.IMAGES), EXTENSIONS)
    for file, study in nlm.read_studies(folder):
        if isinstance(study, BadData):
            yield Rejected(file.name, file, str(study))
            continue
        for name in study.images:
            try:
                yield _of_study(name, images.get(name), study)
            except BadData as error:
                yield Rejected(name or file.name, images.get(name), f"{file.name}: {error}")


def _of_study(name: str, path: Path | None, study: nlm.Study) -> Found:
    identity = nlm.image_id(name)
    if path is None:
        return Missing(identity, None)
    return Record(
        id=identity,
        path=path,
        patient=study.uid,
        study=study.uid,
        report=join_report(study.findings, study.impression),
        labels=parse_problems(study.problems),
    )


def _kaggle(root: Path) -> Iterator[Found]:
    reports = read_table(root / REPORTS, ("uid", "Problems", "findings", "impression"))
    listed = read_table(root / PROJECTIONS, ("uid", "filename"), OPTIONAL)
    yield from note_lacking(root / PROJECTIONS, OPTIONAL)
    places = folders(root, ("images/images_normalized", "images"))
    studies = {row.uid: row for row in reports.itertuples(index=False)}
    for row in listed.itertuples(index=False):
        name = str(row.filename)
        if not name:
            yield Rejected(f"line {row.line}", None, f"line {row.line} of {PROJECTIONS}: no file")
            continue
        found = (locate(place, name) for place in places)
        path = next((path for path in found if is_present(path)), None)
        study = studies.get(row.uid)
        if path is None:
            yield Missing(name, places[0] / name)
        elif study is None:
            reason = f"line {row.line} of {PROJECTIONS}: {REPORTS} has no uid {row.uid!r}"
            yield Rejected(name, path, reason)
        else:
            yield Record(
                id=file_name(name).split(".", 1)[0],
                path=path,
                patient=str(row.uid),
                study=str(row.uid),
                view=str(row.projection) or None,
                report=join_report(str(study.findings), str(study.impression)),
                labels=parse_problems(str(study.Problems)),
            )


def join_report(findings: str, impression: str) -> str | None:
    """Join both sections, with their headings; None if both are empty."""
    sections = (("Findings", findings), ("Impression", impression))
    return " ".join(f"{title}: {text}" for title, text in sections if text) or None


def parse_problems(problems: str) -> dict[str, int] | None:
    """Parse the labels of a Problems cell, with terms joined by `;`; None if it was not indexed."""
    terms = {term.strip().lower() for term in problems.split(";")}
    if terms <= UNJUDGED:
        return None
    seen = {TERMS[term] for term in terms if term in TERMS}
    return {finding: PRESENT if finding in seen else ABSENT for finding in CARD.findings}
