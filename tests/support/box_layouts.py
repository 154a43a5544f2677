"""Small data sets with boxes in their official layouts: 64 x 64 pixels, a bright square each."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

from PIL import Image

from g2dbench.data.readers import nih_cxr14, vindr
from g2dbench.sample import Sample
from support.squares import square

COUNT = 36


def samples() -> list[Sample]:
    return [square(index, "layouts") for index in range(COUNT)]


def _save(path: Path, sample: Sample) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sample.image).save(path)


def _table(path: Path, header: list[str], rows: list[list]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def object_cxr(root: Path) -> None:
    found = samples()
    parts = {"train": found[:20], "dev": found[20:28], "test": found[28:]}
    for part, images in parts.items():
        rows = []
        for sample in images:
            _save(root / part / f"{sample.id}.jpg", sample)
            shapes = [f"0 {x0} {y0} {x1} {y1}" for _, x0, y0, x1, y1 in sample.boxes or ()]
            rows.append([f"{sample.id}.jpg", ";".join(shapes)])
        _table(root / f"{part}.csv", ["image_name", "annotation"], rows)


def tbx11k(root: Path) -> None:
    rows = []
    for number, sample in enumerate(samples()):
        _save(root / "images" / f"{sample.id}.png", sample)
        kind = ("active_tb", "latent_tb")[number // 4 % 2]
        start: list = [f"{sample.id}.png", 64, 64, "train"]
        for _, x0, y0, x1, y1 in sample.boxes or ():
            cell = str({"xmin": x0, "ymin": y0, "width": x1 - x0, "height": y1 - y0})
            rows.append([*start, cell, "tb", kind, "tb"])
        if not sample.boxes:
            rows.append([*start, "none", "no_tb", "none", "healthy"])
    header = "fname,image_height,image_width,source,bbox,target,tb_type,image_type"
    _table(root / "data.csv", header.split(","), rows)


def vindr_cxr(root: Path) -> None:
    """Three readers who agree."""
    findings = [name.replace("Other disease", "Other diseases") for name in vindr.CARD.findings]
    kinds = ("Cardiomegaly", "Nodule/Mass")
    labels: dict[str, list] = {"train": [], "test": []}
    boxes: dict[str, list] = {"train": [], "test": []}
    sizes = []
    for number, sample in enumerate(samples()):
        part = "test" if number >= 28 else "train"
        _save(root / part / f"{sample.id}.png", sample)
        sizes.append([sample.id, 64, 64])
        kind = kinds[number // 4 % 2] if sample.boxes else "No finding"
        readers = [["R1"], ["R2"], ["R3"]] if part == "train" else [[]]
        for reader in readers:
            marked = [int(name == kind) for name in findings]
            labels[part].append([sample.id, *reader, *marked])
            for box in sample.boxes or ():
                boxes[part].append([sample.id, *reader, kind, *box[1:]])
    for part in ("train", "test"):
        reader_column = ["rad_id"] if part == "train" else []
        names = findings if part == "train" else list(vindr.CARD.findings)
        folder = root / "annotations"
        header = ["image_id", *reader_column]
        _table(folder / f"image_labels_{part}.csv", [*header, *names], labels[part])
        columns = [*header, "class_name", "x_min", "y_min", "x_max", "y_max"]
        _table(folder / f"annotations_{part}.csv", columns, boxes[part])
        _table(root / f"{part}_meta.csv", ["image_id", "dim0", "dim1"], sizes)


def nih(root: Path) -> None:
    """Without the official lists, all of whose images with boxes are test images."""
    entries, boxes = [], []
    for number, sample in enumerate(samples()):
        name = f"{number:08}_000.png"
        _save(root / "images" / name, sample)
        kind = ("Mass", "Nodule")[number // 4 % 2] if sample.boxes else "No Finding"
        entries.append([name, kind, 1, number, 58, "M", "PA", 2894, 2729, 0.143, 0.143])
        for _, x0, y0, x1, y1 in sample.boxes or ():
            boxes.append([name, kind, *(16 * n for n in (x0, y0, x1 - x0, y1 - y0))])
    header = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
        "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
    )
    _table(root / nih_cxr14.TABLES[0], header.split(","), entries)
    (root / nih_cxr14.TABLES[0]).write_text(
        (root / nih_cxr14.TABLES[0]).read_text().replace('"', "")
    )
    lines = ["Image Index,Finding Label,Bbox [x,y,w,h],,,", *(",".join(map(str, b)) for b in boxes)]
    (root / nih_cxr14.BOXES).write_text("".join(f"{line}\n" for line in lines))


LAYOUTS: Mapping[str, Callable[[Path], None]] = {
    "object_cxr": object_cxr,
    "tbx11k": tbx11k,
    "vindr": vindr_cxr,
    "nih_cxr14": nih,
}
