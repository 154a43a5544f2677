"""PadChest: 160,868 Spanish chest radiographs, with reports and labels.

    PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv   36 columns, the first without a name;
                                                           or ..._160K.csv
    0/<ImageID> to 54/<ImageID>, images/<ImageID>, or <ImageID>: 16-bit PNG

A label cell is a Python list as text, with blanks. Physicians labeled 27 % of the images
(MethodLabel); a network predicted the other labels from reports, and these are not used. An image
has no labels either if the list is empty, "unchanged" or "exclude". Reports are in Spanish, without
accents and stop words. The release has some damaged image files, which the quarantine list names.
The age is the year of the study minus the year of birth.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from g2dbench.cards import DatasetCard
from g2dbench.data.tables.csv import Cells, choose_table, note_lacking, note_unread, read_table
from g2dbench.data.tables.demographics import parse_sex, parse_years
from g2dbench.data.tables.files import check_layout
from g2dbench.data.tables.paths import locate
from g2dbench.data.tables.records import Found, Missing, Rejected
from g2dbench.errors import BadData
from g2dbench.sample import ABSENT, PRESENT, Record

CARD = DatasetCard(
    name="padchest",
    summary="PadChest: 160,868 images with Spanish reports, 27 % labelled by physicians.",
    offers=("reports", "labels"),
    findings=(
        "normal",
        "cardiomegaly",
        "pleural effusion",
        "costophrenic angle blunting",
        "pleural thickening",
        "apical pleural thickening",
        "pneumothorax",
        "pneumonia",
        "consolidation",
        "infiltrates",
        "alveolar pattern",
        "interstitial pattern",
        "atelectasis",
        "laminar atelectasis",
        "pulmonary edema",
        "pulmonary fibrosis",
        "emphysema",
        "air trapping",
        "flattened diaphragm",
        "bronchiectasis",
        "tuberculosis",
        "nodule",
        "pulmonary mass",
        "granuloma",
        "calcified granuloma",
        "vascular hilar enlargement",
        "aortic elongation",
        "aortic atheromatosis",
        "hemidiaphragm elevation",
        "hiatal hernia",
        "scoliosis",
        "vertebral degenerative changes",
        "rib fracture",
        "pacemaker",
    ),
    url="https://bimcv.cipf.es/bimcv-projects/padchest/",
    licence="PadChest Dataset Research Use Agreement: no sharing",
    layout=("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", "0/ to 54/"),
)

TABLE = CARD.layout[0]
TABLES = (TABLE, "PADCHEST_chest_x_ray_images_labels_160K.csv")
COLUMNS = ("ImageID", "PatientID", "Report", "MethodLabel", "Labels")
OPTIONAL = (
    "ImageDir",
    "StudyDate_DICOM",
    "StudyID",
    "PatientBirth",
    "PatientSex_DICOM",
    "Projection",
)
PHYSICIAN = "Physician"
UNJUDGED = {"", "unchanged", "exclude"}
LONGEST = 10_000
"""Largest number of characters of a list of labels; longer ones are not parsed."""


def read(root: Path) -> Iterator[Found]:
    """Yield a record for each row of the table.

    BadData: the table or a column is missing.
    """
    check_layout(root)
    chosen = choose_table(root, TABLES)
    table = read_table(chosen, COLUMNS, OPTIONAL)
    yield from (*note_unread(root, TABLES), *note_lacking(chosen, OPTIONAL))
    names = list(table.columns)
    for cells in table.itertuples(index=False, name=None):
        row = dict(zip(names, cells, strict=True))
        where = f"line {row['line']} of {chosen.name}"
        image = row["ImageID"].rpartition("\\")[2]
        if not image or "/" in image or "/" in row["ImageDir"]:
            yield Rejected(image or where, None, f"{where}: no image can have that name")
            continue
        paths = [locate(root / folder, image) for folder in (row["ImageDir"], "images", "")]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            yield Missing(image, paths[0])
            continue
        try:
            yield _record(row, path, where)
        except BadData as error:
            yield Rejected(image, path, str(error))


def _record(row: Cells, path: Path, where: str) -> Record:
    is_labeled = row["MethodLabel"] == PHYSICIAN
    return Record(
        id=path.stem,
        path=path,
        patient=row["PatientID"],
        study=row["StudyID"] or None,
        view=row["Projection"] or None,
        sex=parse_sex(row["PatientSex_DICOM"]),
        age=_age(row),
        report=row["Report"] or None,
        labels=parse_labels(row["Labels"], where) if is_labeled else None,
    )


def _age(row: Cells) -> float | None:
    """Return the years from birth to study, or None if one of them is missing or not a year."""
    born, studied = parse_years(row["PatientBirth"]), parse_years(row["StudyDate_DICOM"][:4])
    if born is None or studied is None or studied < born:
        return None
    return studied - born


def parse_labels(cell: str, where: str) -> dict[str, int] | None:
    """The findings of a list in text, None where it judges nothing; BadData if it is no list."""
    if cell in ("", "nan"):
        return None
    try:
        parsed = ast.literal_eval(cell) if len(cell) <= LONGEST else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        parsed = None
    if not isinstance(parsed, list) or not all(isinstance(name, str) for name in parsed):
        raise BadData(f"{where}: the labels {cell[:60]!r} are no list of names")
    names = {name.strip().lower() for name in parsed}
    if names <= UNJUDGED:
        return None
    return {finding: PRESENT if finding in names else ABSENT for finding in CARD.findings}
