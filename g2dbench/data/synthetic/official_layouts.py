"""The synthetic radiographs in the official folder layouts of RSNA, SIIM-ACR and Open-i.

They allow demonstrations and tests to use the same readers as the real data. Only the first image
of each patient among `indices` is written, because these layouts cannot express that two images
belong to one patient; so a random split of the folder cannot leak patients. Each function returns
the official name and the index of each image.
"""

import csv
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from scipy import ndimage

from g2dbench.data.annotations import rle
from g2dbench.data.synthetic._findings import BY_SIDES
from g2dbench.data.synthetic._report import sections
from g2dbench.data.synthetic._scene import patient_of
from g2dbench.data.synthetic.synthetic import generate_many
from g2dbench.sample import Sample

FRAME = 1024
"""Side of the official annotation frame of RSNA and SIIM, for image files of any size."""

RSNA_LABELS = ("patientId", "x", "y", "width", "height", "Target")
RSNA_CLASSES = ("patientId", "class")
SIIM_RLE = ("ImageId", " EncodedPixels")
OPEN_I_REPORTS = (
    "uid",
    "MeSH",
    "Problems",
    "image",
    "indication",
    "comparison",
    "findings",
    "impression",
)
OPEN_I_PROJECTIONS = ("uid", "filename", "projection")

_INDICATIONS = ("Chest pain.", "Shortness of breath.", "Cough and fever.", "Preop.", "Dyspnea.")


def write_rsna(
    folder: Path,
    indices: Sequence[int],
    size: int,
    seed: int = 0,
    dicom: Literal["dicom", "png"] = "dicom",
    workers: int = 0,
) -> dict[str, int]:
    """Stage 2 of the RSNA pneumonia challenge, one box per patch of consolidation.

    "Lung Opacity" is consolidation; any other finding makes "No Lung Opacity / Not Normal". Boxes
    are in the official 1024 x 1024 frame for any `size`.
    """
    images = folder / "stage_2_train_images"
    images.mkdir(parents=True, exist_ok=True)
    labels, classes, names = [], [], {}
    for index, sample in _one_per_patient(indices, size, seed, workers):
        name = str(uuid.uuid5(uuid.NAMESPACE_OID, sample.id))
        names[name] = index
        rows = _rsna_rows(sample)
        labels += [(name, *row) for row in rows]
        classes += [(name, _rsna_class(sample))] * len(rows)
        if dicom == "dicom":
            _write_dicom(images / f"{name}.dcm", sample, name, name)
        else:
            Image.fromarray(sample.image).save(images / f"{name}.png")
    _write_table(folder / "stage_2_train_labels.csv", RSNA_LABELS, labels)
    _write_table(folder / "stage_2_detailed_class_info.csv", RSNA_CLASSES, classes)
    return names


def write_siim(
    folder: Path, indices: Sequence[int], size: int, seed: int = 0, workers: int = 0
) -> dict[str, int]:
    """SIIM-ACR pneumothorax: DICOMs by study and series, masks as run lengths at 1024.

    One row per connected part, " -1" for an image without pneumothorax.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, names = [], {}
    for index, sample in _one_per_patient(indices, size, seed, workers):
        name, study, series = (_uid(sample.id, part) for part in ("image", "study", "series"))
        names[name] = index
        place = folder / "dicom-images-train" / study / series
        place.mkdir(parents=True, exist_ok=True)
        person = str(uuid.uuid5(uuid.NAMESPACE_OID, sample.patient))
        _write_dicom(place / f"{name}.dcm", sample, name, person)
        rows += [(name, code) for code in _siim_codes(sample)]
    _write_table(folder / "train-rle.csv", SIIM_RLE, rows)
    return names


def write_open_i(
    folder: Path, indices: Sequence[int], size: int, seed: int = 0, workers: int = 0
) -> dict[str, int]:
    """Open-i (Indiana University) as on Kaggle: one frontal image and one report per uid."""
    images = folder / "images" / "images_normalized"
    images.mkdir(parents=True, exist_ok=True)
    reports, projections, names = [], [], {}
    for uid, (index, sample) in enumerate(_one_per_patient(indices, size, seed, workers), start=1):
        name = f"{uid}_IM-{uid:04d}-4001.dcm.png"
        names[name] = index
        Image.fromarray(sample.image).save(images / name)
        present = [finding for finding, value in (sample.labels or {}).items() if value]
        problems = ";".join(finding.capitalize() for finding in present) or "normal"
        why = _INDICATIONS[index % len(_INDICATIONS)]
        said = sections(sample.report or "")
        reports.append((uid, problems, problems, f"Chest {sample.view}", why, "None.", *said))
        projections.append((uid, name, "Frontal"))
    _write_table(folder / "indiana_reports.csv", OPEN_I_REPORTS, reports)
    _write_table(folder / "indiana_projections.csv", OPEN_I_PROJECTIONS, projections)
    return names


def encode_runs(mask: NDArray[np.bool_]) -> str:
    """Run lengths of a (1024, 1024) mask as SIIM writes them.

    Pairs (gap, length) in column-major order; a gap is counted from the end of the previous run.
    """
    runs = rle.to_runs(mask)
    pairs = runs[: len(runs) // 2 * 2]  # the background after the last run is not written
    return " ".join(str(run) for run in pairs)


def _one_per_patient(
    indices: Sequence[int], size: int, seed: int, workers: int
) -> Iterator[tuple[int, Sample]]:
    first: dict[str, int] = {}
    for index in indices:
        first.setdefault(patient_of(index, seed)[0], index)
    chosen = list(first.values())
    yield from zip(chosen, generate_many(chosen, size, seed, workers), strict=True)


def _write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _rsna_rows(sample: Sample) -> list[tuple[object, ...]]:
    scale = FRAME / len(sample.image)
    boxes = [box for box in sample.boxes or () if box.finding == "consolidation"]
    if not boxes:
        return [("", "", "", "", 0)]
    return [
        (b.x0 * scale, b.y0 * scale, (b.x1 - b.x0) * scale, (b.y1 - b.y0) * scale, 1) for b in boxes
    ]


def _rsna_class(sample: Sample) -> str:
    labels = sample.labels or {}
    if labels["consolidation"]:
        return "Lung Opacity"
    return "No Lung Opacity / Not Normal" if any(labels.values()) else "Normal"


def _siim_codes(sample: Sample) -> list[str]:
    mask = (sample.masks or {}).get("pneumothorax")
    if mask is None:
        return [" -1"]
    pick = np.arange(FRAME) * len(mask) // FRAME
    parts, count = ndimage.label(mask[np.ix_(pick, pick)], BY_SIDES)
    return [encode_runs(parts == part) for part in range(1, count + 1)]


def _uid(name: str, part: str) -> str:
    """A DICOM identifier made of a name, under the root for UUIDs (2.25)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{name}/{part}').int}"


def _write_dicom(path: Path, sample: Sample, name: str, person: str) -> None:
    """An 8-bit MONOCHROME2 file with the tags that both challenges fill in."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = name if name.startswith("2.25.") else _uid(name, "image")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = Dataset()
    file.file_meta = meta
    file.SOPClassUID = SecondaryCaptureImageStorage
    file.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    file.StudyInstanceUID = _uid(sample.id, "study")
    file.SeriesInstanceUID = _uid(sample.id, "series")
    file.Modality, file.BodyPartExamined = "CR", "CHEST"
    file.SeriesDescription, file.ViewPosition = f"view: {sample.view}", sample.view
    file.PatientName, file.PatientID, file.PatientSex = person, person, sample.sex
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.Rows, file.Columns = sample.image.shape
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 8, 8, 7, 0
    file.PixelData = sample.image.tobytes()
    # Both challenges write the age as "51", without the unit that the standard requires.
    with pydicom.config.disable_value_validation():
        file.PatientAge = str(round(sample.age or 0))
        file.save_as(path, enforce_file_format=True)
