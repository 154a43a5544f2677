"""Shared by the tests of the readers: small data sets in official layouts."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from g2dbench.data.readers import (
    open_i,
    rsna,
    siim,
)


def save_image(path: Path, size: tuple[int, int] = (32, 32), value: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0]), value, np.uint8)).save(path)


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def official_header(real_data: Path, name: str) -> str:
    return (real_data / "official_rows" / name).read_text().splitlines()[0]


def place_image(path: Path, real_data: Path) -> None:
    if path.suffix == ".png":
        save_image(path, (512, 512))
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(next((real_data / "real/dicom").glob("1.2*.dcm")), path)


def rsna_root(tmp_path: Path, rows: str, images: str = "abcdefgh") -> Path:
    for name in images:
        save_image(tmp_path / "stage_2_train_images" / f"{name}.png")
    (tmp_path / rsna.LABELS).write_text("patientId,x,y,width,height,Target\n" + rows)
    return tmp_path


def siim_root(tmp_path: Path, real_data: Path, rows: str, images: str = "abcdef") -> Path:
    source = next((real_data / "real/dicom").glob("1.2*.dcm"))
    for name in images:
        folder = tmp_path / "dicom-images-train" / f"1.{name}" / f"2.{name}"
        folder.mkdir(parents=True)
        shutil.copy(source, folder / f"{name}.dcm")
    (tmp_path / siim.TABLE).write_text("ImageId, EncodedPixels\n" + rows)
    return tmp_path


def open_i_root(tmp_path: Path, reports: str, projections: str) -> Path:
    header = "uid,MeSH,Problems,image,indication,comparison,findings,impression\n"
    (tmp_path / open_i.REPORTS).write_text(header + reports)
    (tmp_path / open_i.PROJECTIONS).write_text("uid,filename,projection\n" + projections)
    return tmp_path
