"""TBX11K: the original layout and Kaggle's simplified one."""

import csv
import json
from pathlib import Path

import numpy as np
from support.data.official_layouts import official_header, save_image, write

from g2dbench.data.readers import (
    tbx11k,
)
from g2dbench.data.store.decode import DecodeSettings, decode
from g2dbench.data.tables.files import trusted_roots
from g2dbench.data.tables.records import Rejected
from g2dbench.sample import Box


def test_tbx11k_excerpt_in_both_layouts(tmp_path: Path, real_data: Path) -> None:
    original = list(tbx11k.read(real_data / "real/tbx11k_sample"))
    assert [item.id for item in original] == ["tb0005", "tb0007", "h0001"]
    assert [len(item.boxes) for item in original] == [1, 2, 0]
    assert original[1].labels == {
        "Tuberculosis": 1, "Active Tuberculosis": 0, "Latent Tuberculosis": 1, "Healthy": 0,
        "Other Sickness": 0,
    }  # fmt: skip
    frame = DecodeSettings(real_data, tuple(trusted_roots(real_data)), 256)
    assert decode(original[0], frame)["boxes"].startswith('[["Active Tuberculosis",190.9')
    kinds = {"active_tb": "Active Tuberculosis", "latent_tb": "Latent Tuberculosis"}
    names = {finding: name for name, finding in kinds.items()}
    with (tmp_path / "data.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        header = official_header(real_data, "TBX11K-simplified/data.csv")
        rows.writerow(header.split(","))
        for item in original:
            save_image(tmp_path / "images" / f"{item.id}.png", (512, 512))
            for box in item.boxes:
                cell = {"xmin": box.x0, "ymin": box.y0, "width": box.x1 - box.x0,
                        "height": box.y1 - box.y0}  # fmt: skip
                rows.writerow([f"{item.id}.png", 512, 512, "train", str(cell), "tb",
                               names[box.finding], "tb"])  # fmt: skip
            if not item.boxes:
                rows.writerow([f"{item.id}.png", 512, 512, "train", "none", "no_tb", "none",
                               "healthy"])  # fmt: skip
    for ours, theirs in zip(tbx11k.read(tmp_path), original, strict=True):
        assert (ours.id, ours.labels, ours.frame) == (theirs.id, theirs.labels, theirs.frame)
        ours_at = [box[1:] for box in ours.boxes]
        np.testing.assert_allclose(ours_at, [box[1:] for box in theirs.boxes])


def test_tbx11k_bbox_cells_are_literals_and_nothing_else(tmp_path: Path, real_data: Path) -> None:
    cells = [
        "__import__('os').system('touch pwned')", "{'xmin': 1}", "[1, 2, 3, 4]", "(" * 90_000,
        "(" * 300, "{'xmin': 'a', 'ymin': 1, 'width': 1, 'height': 1}", "{1: [}", "\\",
    ]  # fmt: skip
    with (tmp_path / "data.csv").open("w", newline="") as file:
        header = official_header(real_data, "TBX11K-simplified/data.csv").split(",")
        rows = [
            [f"t{place}.png", 512, 512, "train", cell, "tb", "active_tb", "tb"]
            for place, cell in enumerate(cells)
        ]
        csv.writer(file).writerows([header, *rows])
    for place in range(len(cells)):
        save_image(tmp_path / f"images/t{place}.png")
    found = list(tbx11k.read(tmp_path))
    assert [type(item) for item in found] == [Rejected] * len(cells)
    assert all(f"line {place + 2} of data.csv" in item.reason for place, item in enumerate(found))
    assert not Path("pwned").exists()


def test_tbx11k_without_boxes_and_of_unknown_type(tmp_path: Path) -> None:
    content = {
        "categories": [{"id": 3, "name": "PulmonaryTuberculosis"}],
        "images": [
            {"id": n, "file_name": f"{kind}/{kind}{n}.png", "width": 512, "height": 512}
            for n, kind in enumerate(("tb", "tb", "sick", "mars"))
        ],
        "annotations": [{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}],
    }
    write(tmp_path / "annotations/json/TBX11K_val.json", json.dumps(content))
    for image in content["images"]:
        save_image(tmp_path / "imgs" / image["file_name"])
    bare, unsure, sick, odd = tbx11k.read(tmp_path)
    assert bare.boxes is None
    assert "Active Tuberculosis" not in bare.labels
    assert unsure.boxes == (Box("Tuberculosis", 1, 2, 4, 6),)
    assert "Latent Tuberculosis" not in unsure.labels
    assert (sick.boxes, sick.labels["Other Sickness"]) == ((), 1)
    assert sick.labels["Active Tuberculosis"] == 0
    assert "'mars' is no kind" in odd.reason
