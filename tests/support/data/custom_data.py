"""Folders of user data: image-text pairs, annotated images and COCO files."""

import json
from pathlib import Path

import numpy as np
from PIL import Image


def save_image(path: Path, value: int = 100, size: tuple[int, int] = (40, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0]), value, np.uint8)
    pixels[0, 0] = 0
    Image.fromarray(pixels).save(path)


def write_pairs(root: Path, table: str, count: int = 6) -> Path:
    for index in range(count):
        save_image(root / f"img/{index}.png", 50 + index)
    (root / "mine.csv").write_text(table)
    return root


def write_images(root: Path, table: str | None = None) -> Path:
    for index in range(4):
        save_image(root / f"images/a.{index}.png")
    if table is not None:
        (root / "labels.csv").write_text(table)
    return root


def write_coco(root: Path, annotations: list[dict], **image: object) -> None:
    names = [{"id": 7, "name": "Nodule"}, {"id": 9, "name": "Mass"}]
    shown = [
        {"id": index, "file_name": f"images/a.{index}.png", "height": 32, "width": 40, **image}
        for index in range(4)
    ]
    content = {"images": shown, "annotations": annotations, "categories": names}
    (root / "coco.json").write_text(json.dumps(content))
