"""Open-i (Indiana University) chest radiographs with reports, in Kaggle's layout.

    indiana_reports.csv       uid, MeSH, Problems, image, indication, comparison, findings,
                              impression
    indiana_projections.csv   uid, filename, projection
    images/images_normalized/<filename>, or images/<filename>

One uid is one study of one patient. Frontal and lateral images are read; `view` tells them apart.
The report keeps its XXXX marks; `report.clean_report` removes them.
"""

from collections.abc import Iterator
from pathlib import Path

from g2dbench.cards import DatasetCard
from g2dbench.data.reading import (
    Found,
    Missing,
    Rejected,
    check_layout,
    folders,
    is_present,
    read_table,
)
from g2dbench.data.sample import ABSENT, PRESENT, Record

CARD = DatasetCard(
    name="open_i",
    summary="Indiana University chest radiographs with reports (Kaggle's raddar layout).",
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
    layout=("indiana_reports.csv", "indiana_projections.csv", "images/"),
)

SPLIT = (0.8, 0.1, 0.1)

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
"""Terms of the Problems column, lower-cased, and the finding that each says."""

UNJUDGED = {"", "no indexing"}


def read(root: Path) -> Iterator[Found]:
    """Every image that the projections list; labels and report come from its study.

    BadData: a table, a column or the image folder is missing.
    """
    check_layout(root)
    reports = read_table(root / REPORTS, ("uid", "Problems", "findings", "impression"))
    listed = read_table(root / PROJECTIONS, ("uid", "filename", "projection"))
    places = folders(root, ("images/images_normalized", "images"))
    studies = {row.uid: row for row in reports.itertuples(index=False)}
    for row in listed.itertuples(index=False):
        name = str(row.filename)
        if not name:
            yield Rejected(f"line {row.line}", None, f"line {row.line} of {PROJECTIONS}: no file")
            continue
        path = next((place / name for place in places if is_present(place / name)), None)
        study = studies.get(row.uid)
        if path is None:
            yield Missing(name, places[0] / name)
        elif study is None:
            reason = f"line {row.line} of {PROJECTIONS}: {REPORTS} has no uid {row.uid!r}"
            yield Rejected(name, path, reason)
        else:
            yield Record(
                id=name.split(".", 1)[0],
                path=path,
                patient=str(row.uid),
                study=str(row.uid),
                view=str(row.projection) or None,
                report=join_report(str(study.findings), str(study.impression)),
                labels=parse_problems(str(study.Problems)),
            )


def join_report(findings: str, impression: str) -> str | None:
    """Both sections under their headings; None where both are empty."""
    sections = (("Findings", findings), ("Impression", impression))
    return " ".join(f"{title}: {text}" for title, text in sections if text) or None


def parse_problems(problems: str) -> dict[str, int] | None:
    """Labels of a Problems cell, terms joined by `;`; None where nobody indexed the study."""
    terms = {term.strip().lower() for term in problems.split(";")}
    if terms <= UNJUDGED:
        return None
    seen = {TERMS[term] for term in terms if term in TERMS}
    return {finding: PRESENT if finding in seen else ABSENT for finding in CARD.findings}
