"""An image in the layout of each table-driven reader, and the optional columns of its row."""

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from g2dbench.data.readers import (
    chexpert,
    mimic_cxr,
    ms_cxr,
    nih_cxr14,
    open_i,
    padchest,
    tbx11k,
    vinbigdata,
)
from g2dbench.data.tables.records import Found, Note
from g2dbench.sample import Record

Row = dict[str, str]


def save_image(path: Path, height: int = 32, width: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width), 90, np.uint8)).save(path)


def write_table(path: Path, *rows: Row) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def records(found: Iterable[Found]) -> list[Record]:
    """The records of what a reader finds, which is nothing else but notes."""
    items = list(found)
    assert {type(item) for item in items} <= {Record, Note}
    return [item for item in items if isinstance(item, Record)]


@dataclass(frozen=True)
class Release:
    """One image in a reader's layout: its table and row, what decorates it, and its other files."""

    reader: ModuleType
    table: str
    row: Row
    decoration: tuple[str, ...]
    image: str
    others: Callable[[Path], object] = lambda root: None

    def make(self, root: Path, row: Row | None = None, table: str | None = None) -> Path:
        save_image(root / self.image)
        write_table(root / (table or self.table), self.row if row is None else row)
        self.others(root)
        return root


def mimic_tables(root: Path) -> None:
    write_table(root / mimic_cxr.SPLIT_TABLE, {"dicom_id": "a-b", "split": "train"})
    labels = dict.fromkeys(mimic_cxr.CARD.findings, "")
    write_table(root / mimic_cxr.LABELS["chexpert"], {"study_id": "20", **labels})
    (root / "mimic-cxr-reports").mkdir()


def open_i_reports(root: Path) -> None:
    row = {"uid": "1", "Problems": "normal", "findings": "Clear.", "impression": ""}
    write_table(root / open_i.REPORTS, row)


PATH = "files/p10/p10/s20/a-b"
RELEASES = {
    "chexpert": Release(
        chexpert, "train.csv",
        {"Path": "CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg", "Sex": "Female",
         "Age": "61", "AP/PA": "AP", **dict.fromkeys(chexpert.CARD.findings, "1.0")},
        ("Sex", "Age", "AP/PA"), "train/patient00001/study1/view1_frontal.jpg",
    ),
    "nih_cxr14": Release(
        nih_cxr14, "Data_Entry_2017_v2020.csv",
        {"Image Index": "00000001_000.png", "Finding Labels": "Mass", "Patient ID": "1",
         "Patient Age": "61", "Patient Gender": "F", "View Position": "AP"},
        ("Patient Age", "Patient Gender", "View Position"), "images/00000001_000.png",
    ),
    "padchest": Release(
        padchest, padchest.TABLE,
        {"ImageID": "a.png", "ImageDir": "0", "StudyDate_DICOM": "20101231", "StudyID": "s",
         "PatientID": "p", "PatientBirth": "1949.0", "PatientSex_DICOM": "F", "Projection": "AP",
         "Report": "x", "MethodLabel": "Physician", "Labels": "['nodule']"},
        ("ImageDir", "StudyDate_DICOM", "StudyID", "PatientBirth", "PatientSex_DICOM",
         "Projection"),
        "images/a.png",
    ),
    "open_i": Release(
        open_i, open_i.PROJECTIONS,
        {"uid": "1", "filename": "1_IM-1.dcm.png", "projection": "Frontal"}, ("projection",),
        "images/images_normalized/1_IM-1.dcm.png", open_i_reports,
    ),
    "mimic_cxr": Release(
        mimic_cxr, "mimic-cxr-2.0.0-metadata.csv",
        {"dicom_id": "a-b", "subject_id": "10", "study_id": "20", "ViewPosition": "AP"},
        ("ViewPosition",), f"{PATH}.jpg", mimic_tables,
    ),
    "tbx11k": Release(
        tbx11k, tbx11k.TABLE,
        {"fname": "h1.png", "image_height": "32", "image_width": "32", "bbox": "none",
         "tb_type": "none", "image_type": "healthy"},
        ("image_height", "image_width"), "images/h1.png",
    ),
    "vinbigdata": Release(
        vinbigdata, vinbigdata.TABLE,
        {"image_id": "a", "class_name": "No finding", "class_id": "14", "rad_id": "R1",
         "x_min": "", "y_min": "", "x_max": "", "y_max": ""},
        ("class_id",), "train/a.png",
    ),
    "ms_cxr": Release(
        ms_cxr, "MS_CXR_Local_Alignment_v1.1.0.csv",
        {"dicom_id": "a-b", "category_name": "Edema", "label_text": "haze", "path": f"{PATH}.jpg",
         "x": "1", "y": "2", "w": "3", "h": "4", "image_width": "32", "image_height": "32",
         "split": "test"},
        ("split",), f"{PATH}.jpg",
    ),
}  # fmt: skip
