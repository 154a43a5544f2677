"""Measures the time and memory of listing MIMIC-CXR at its full size.

    python benchmarks/listing.py [--studies 227835] [--folder DIR]

First it makes a folder in the official layout: 377,110 rows of metadata, split and labels, a zip of
227,835 reports of random words, and one empty file per image. Then it lists the folder in a
separate process, as `g2dbench data prepare` does before it opens the first image.
"""

import argparse
import gzip
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np

IMAGES, STUDIES, PATIENTS = 377_110, 227_835, 65_379
FINDINGS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum",
    "Fracture", "Lung Lesion", "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other",
    "Pneumonia", "Pneumothorax", "Support Devices",
)  # fmt: skip
METADATA = (
    "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,"
    "StudyDate,StudyTime,ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,"
    "PatientOrientationCodeSequence_CodeMeaning"
)
WORDS = ("lungs", "clear", "effusion", "no", "small", "left", "right", "heart", "size", "normal")
TABLE = "mimic-cxr-2.0.0-{}.csv.gz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--folder", type=Path, help="where the folder is made")
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.root:
        list_folder(args.root)
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        start = time.perf_counter()
        made = make_folder(Path(folder), args.studies)
        print(f"made {made:,} images of {args.studies:,} studies in", end=" ")
        print(f"{time.perf_counter() - start:.0f} s", flush=True)
        subprocess.run([sys.executable, __file__, "--root", folder], check=True)


def list_folder(root: Path) -> None:
    """List the folder; print the time without imports, and the peak memory with them."""
    from g2dbench.data.readers import mimic_cxr
    from g2dbench.sample import Record

    start, cpu_start = time.perf_counter(), time.process_time()
    items = list(mimic_cxr.read(root))
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    images = sum(isinstance(item, Record) for item in items)
    reports = sum(bool(getattr(item, "report", None)) for item in items)
    print(f"listed {images:,} images, {reports:,} with a report: {cpu:.1f} s of CPU, {wall:.1f} s")
    print(f"peak memory {peak_memory():.0f} MB")


def peak_memory() -> float:
    # `ru_maxrss` is not used, because a process inherits it from its parent.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def make_folder(root: Path, studies: int) -> int:
    """Make the official layout; return the number of images."""
    generator = np.random.default_rng(0)
    more = round(IMAGES * studies / STUDIES) - studies
    per_study = 1 + np.bincount(generator.integers(0, studies, more), minlength=studies)
    patients = 10_000_000 + np.sort(generator.integers(0, PATIENTS, studies)) * 137
    rows: dict[str, list[str]] = {"metadata": [], "split": [], "chexpert": []}
    with zipfile.ZipFile(
        root / "mimic-cxr-reports.zip", "w", zipfile.ZIP_DEFLATED, True, 1
    ) as zipped:
        for index, (patient, count) in enumerate(zip(patients, per_study, strict=True)):
            add_study(root, rows, zipped, (int(patient), 50_000_000 + index, int(count)), generator)
    heads = {
        "metadata": METADATA, "split": "dicom_id,study_id,subject_id,split",
        "chexpert": ",".join(("subject_id", "study_id", *FINDINGS)),
    }  # fmt: skip
    for name, head in heads.items():
        text = "\n".join((head, *rows[name])) + "\n"
        (root / TABLE.format(name)).write_bytes(gzip.compress(text.encode(), 1))
    return int(per_study.sum())


def add_study(
    root: Path,
    rows: dict[str, list[str]],
    zipped: zipfile.ZipFile,
    study: tuple[int, int, int],
    generator: np.random.Generator,
) -> None:
    patient, number, count = study
    below = f"files/p{str(patient)[:2]}/p{patient}/s{number}"
    words = " ".join(generator.choice(WORDS, 90))
    zipped.writestr(f"{below}.txt", f" FINAL REPORT\n FINDINGS: {words}\n IMPRESSION: {words[:99]}")
    labels = generator.choice(["", "1.0", "0.0", "-1.0"], len(FINDINGS), p=[0.8, 0.1, 0.07, 0.03])
    rows["chexpert"].append(f"{patient},{number},{','.join(labels)}")
    (root / below).mkdir(parents=True)
    for image in range(count):
        name = "-".join(f"{value:08x}" for value in generator.integers(0, 2**32, 5))
        (root / below / f"{name}.jpg").touch()
        view = ("PA", "LATERAL", "AP", "")[image % 4]
        rows["metadata"].append(
            f"{name},{patient},{number},CHEST,{view},3056,2544,21800506,213014.5,x,y,Erect"
        )
        rows["split"].append(f"{name},{number},{patient},train")


if __name__ == "__main__":
    main()
