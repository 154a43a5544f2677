"""A small MIMIC-CXR in the official layout."""

import gzip
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

METADATA = (
    "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,"
    "StudyDate,StudyTime,ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,"
    "PatientOrientationCodeSequence_CodeMeaning"
)


SPLIT = "dicom_id,study_id,subject_id,split"


LABELS = (
    "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,"
    "Fracture,Lung Lesion,Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,"
    "Pneumothorax,Support Devices"
)


REPORT = " FINAL REPORT\n FINDINGS:  Lungs are clear.\n \n IMPRESSION:  Normal chest film.\n"


def dicom_id(letter: str) -> str:
    return "-".join([letter * 8] * 5)


# study, subject, view, split of each image
IMAGES = {
    "a": ("50000001", "10000001", "PA", "train"),
    "b": ("50000001", "10000001", "LATERAL", "train"),
    "c": ("50000002", "10000001", "", "train"),
    "d": ("50000003", "11000001", "AP", "validate"),
    "e": ("50000004", "12000001", "AP", "test"),
}


def write(path: Path, header: str, rows: list[str]) -> None:
    """Write a table, compressed if its name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{line}\n" for line in (header, *rows)).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def relative(letter: str) -> str:
    study, subject = IMAGES[letter][:2]
    return f"files/p{subject[:2]}/p{subject}/s{study}/{dicom_id(letter)}.jpg"


def add_image(root: Path, letter: str) -> None:
    path = root / relative(letter)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((60, 50), 90, np.uint8)).save(path)


def report_name(study: str, subject: str) -> str:
    return f"files/p{subject[:2]}/p{subject}/s{study}.txt"


def write_zip(path: Path, reports: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in reports.items():
            file.writestr(name, text)


REPORTS = {report_name(*IMAGES[letter][:2]): f"{REPORT} {letter}" for letter in "acde"}


def images_root(root: Path) -> Path:
    """The images' project, release 2.0.0, without reports."""
    rows = [
        f"{dicom_id(k)},{subject},{study},CHEST,{view},60,50,21800101,1.5,x,y,Erect"
        for k, (study, subject, view, _) in IMAGES.items()
    ]
    write(root / "mimic-cxr-2.0.0-metadata.csv.gz", METADATA, rows)
    rows = [f"{dicom_id(k)},{i[0]},{i[1]},{i[3]}" for k, i in IMAGES.items()]
    write(root / "mimic-cxr-2.0.0-split.csv.gz", SPLIT, rows)
    rows = [
        "10000001,50000001,1.0,0.0,-1.0,,,,,1.0,,,,,,",
        "11000001,50000003,,,,,,,,,1.0,,,,,",
        "12000001,50000004,,,,1.0,,,,1.0,,,,,,",
    ]
    write(root / "mimic-cxr-2.0.0-chexpert.csv.gz", LABELS, rows)
    for letter in IMAGES:
        add_image(root, letter)
    return root
