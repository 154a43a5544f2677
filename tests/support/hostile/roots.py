"""Valid folders of several official layouts, each with the usable image `good`."""

import csv
import json
import os
import resource
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.hostile.kit import BAD, GOOD, dicom, png

MEMORY = 2**31
"""Bytes that a case may use in addition to the memory of the tests."""

LABELS = (
    "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,"
    "Fracture,Lung Lesion,Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,"
    "Pneumothorax,Support Devices"
)
HEADS = {
    "rsna": ("stage_2_train_labels.csv", "patientId,x,y,width,height,Target"),
    "siim": ("train-rle.csv", "ImageId, EncodedPixels"),
    "open_i": ("indiana_projections.csv", "uid,filename,projection"),
    "mimic_cxr": ("mimic-cxr-2.0.0-metadata.csv", "dicom_id,subject_id,study_id,ViewPosition"),
    "images": ("labels.csv", "image,Nodule"),
}
"""Layout -> the table that cases break, and its columns."""


def write_rsna(root: Path, extra: str = f"{BAD},,,,,0\n") -> None:
    head = HEADS["rsna"][1]
    (root / HEADS["rsna"][0]).write_text(f"{head}\n{GOOD},100,200,300,400,1\n{extra}")


def write_siim(root: Path, extra: str = "") -> None:
    head = HEADS["siim"][1]
    (root / HEADS["siim"][0]).write_text(f"{head}\n{GOOD}, 5 5\n{extra}")


def write_open_i(root: Path, extra: str = "") -> None:
    (root / HEADS["open_i"][0]).write_text(f"{HEADS['open_i'][1]}\n1,good.png,Frontal\n{extra}")


STUDIES = {GOOD: ("10000001", "50000001"), BAD: ("10000002", "50000002")}
"""Patient and study of MIMIC-CXR's images."""


def report_of(name: str) -> str:
    patient, study = STUDIES[name]
    return f"files/p10/p{patient}/s{study}.txt"


def write_reports(path: Path, reports: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in reports.items():
            file.writestr(name, text)


def rsna(root: Path) -> None:
    (root / "stage_2_train_images").mkdir(parents=True)
    (root / f"stage_2_train_images/{GOOD}.png").write_bytes(png())
    write_rsna(root)


def siim(root: Path) -> None:
    (root / "dicom-images-train").mkdir(parents=True)
    for name in (GOOD, BAD):
        (root / f"dicom-images-train/{name}.dcm").write_bytes(dicom(PatientID=name))
    write_siim(root)


def open_i(root: Path) -> None:
    (root / "images/images_normalized").mkdir(parents=True)
    (root / "images/images_normalized/good.png").write_bytes(png())
    (root / "indiana_reports.csv").write_text(
        "uid,Problems,findings,impression\n1,normal,Clear lungs.,Normal.\n"
    )
    write_open_i(root)


def mimic_cxr(root: Path) -> None:
    """Two usable images; cases break the report of the second."""
    rows = {"metadata": [HEADS["mimic_cxr"][1]], "split": ["dicom_id,split"], "chexpert": [LABELS]}
    for name, (patient, study) in STUDIES.items():
        folder = root / f"files/p10/p{patient}/s{study}"
        folder.mkdir(parents=True)
        (folder / f"{name}.png").write_bytes(png())
        rows["metadata"].append(f"{name},{patient},{study},PA")
        rows["split"].append(f"{name},train")
        rows["chexpert"].append(f"{patient},{study},1.0" + "," * 13)
    for part, lines in rows.items():
        (root / f"mimic-cxr-2.0.0-{part}.csv").write_text("\n".join(lines) + "\n")
    write_reports(root / "mimic-cxr-reports.zip", {report_of(name): b"Clear." for name in STUDIES})


def images(root: Path) -> None:
    root.mkdir(parents=True)
    (root / f"{GOOD}.png").write_bytes(png())
    (root / "labels.csv").write_text(f"image,Nodule\n{GOOD}.png,1\n")


def coco(root: Path) -> None:
    """Two usable images."""
    images(root)
    (root / "labels.csv").unlink()
    (root / f"{BAD}.png").write_bytes(png())
    (root / "boxes.json").write_text(json.dumps(annotations()))


def annotations() -> dict[str, list[dict[str, object]]]:
    """A valid COCO file of both images; cases change the entries of the second."""
    shape = [[5, 5, 20, 5, 20, 20]]
    return {
        "images": [
            {"id": number, "file_name": f"{name}.png", "height": 40, "width": 40}
            for number, name in enumerate((GOOD, BAD))
        ],
        "categories": [{"id": 7, "name": "Nodule"}],
        "annotations": [
            {"image_id": number, "category_id": 7, "bbox": [5, 5, 15, 15], "segmentation": shape}
            for number in range(2)
        ],
    }


def open_i_nlm(root: Path) -> None:
    """Two usable images."""
    (root / "NLMCXR_png").mkdir(parents=True)
    (root / "ecgen-radiology").mkdir()
    for uid in (1, 2):
        (root / f"NLMCXR_png/CXR{uid}_IM-0001.png").write_bytes(png())
        (root / f"ecgen-radiology/{uid}.xml").write_text(xml(uid))


def xml(uid: int, head: str = "", text: str = "Clear lungs.") -> str:
    return (
        f'<?xml version="1.0" encoding="utf-8"?>{head}<eCitation><uId id="CXR{uid}"/>'
        f'<Abstract><AbstractText Label="FINDINGS">{text}</AbstractText></Abstract>'
        f'<MeSH><major>normal</major></MeSH><parentImage id="CXR{uid}_IM-0001"/></eCitation>'
    )


MAKERS = {
    "rsna": rsna, "siim": siim, "open_i": open_i, "mimic_cxr": mimic_cxr, "images": images,
    "coco": coco, "open_i_nlm": open_i_nlm,
}  # fmt: skip
READERS = {"coco": "images", "open_i_nlm": "open_i"}
"""Layout -> its reader, where the name differs."""

IDS = {
    "open_i_nlm": {GOOD: "1_IM-0001", BAD: "2_IM-0001"},
    "images": {GOOD: "good.png", BAD: "bad.png"},
    "coco": {GOOD: "good.png", BAD: "bad.png"},
}
"""The IDs of both images, where they differ from the file names."""


def make_root(kind: str, root: Path) -> Path:
    """A valid folder of a layout."""
    MAKERS[kind](root)
    return root


@contextmanager
def limited() -> Iterator[None]:
    """Limit the memory, so that a decompression bomb raises an error in the test."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and modification time of everything in a folder; links are not followed."""
    found = {}
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            told = os.lstat(os.path.join(place, name))
            found[os.path.join(place, name)] = (told.st_size, told.st_mtime_ns)
    return found


def quarantine(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
