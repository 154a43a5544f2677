"""Shared by the tests of prepared stores: a small RSNA folder, prepared."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from g2dbench.data.prepare import prepare
from g2dbench.data.store.manifest import MANIFEST_FILE
from g2dbench.data.store.store import Store
from g2dbench.registry import Registry
from g2dbench.sample import Box, Sample

REGISTRY = Registry()


def quiet(items: Iterable, title: str, total: int | None = None) -> Iterable:
    return items


def make_root(root: Path, count: int = 40, order: int = 1, side: int = 40) -> Path:
    """RSNA's layout with `count` patients; every third is positive. `order` -1 writes backwards."""
    folder = root / "stage_2_train_images"
    folder.mkdir(parents=True)
    rows = []
    for index in range(count)[::order]:
        noise = np.random.default_rng(index).integers(0, 256, (side, side), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"p{index:03d}.png")
        box = "100,200,300,400,1" if index % 3 == 0 else ",,,,0"
        rows.append(f"p{index:03d},{box}\n")
    table = "patientId,x,y,width,height,Target\n" + "".join(rows)
    (root / "stage_2_train_labels.csv").write_text(table)
    return root


def make(root: Path, store_root: Path, **options) -> Store:
    options = {"size": 32, **options}
    return prepare("rsna", root, store_root, progress=quiet, registry=REGISTRY, **options)


def full_sample() -> Sample:
    generator = np.random.default_rng(0)
    return Sample(
        id="a", image=generator.integers(0, 256, (9, 7), dtype=np.uint8), patient="p", study="s",
        view="PA", sex="F", age=40.5, split="train", report="Grüße, no “disease”.",
        labels={"x": 1, "y": -1}, boxes=(Box("x", 0.1, 1, 2.5, 3),),
        masks={"x": generator.random((9, 7)) > 0.5, "y": np.zeros((9, 7), bool)},
    )  # fmt: skip


def same(first: Sample, second: Sample) -> bool:
    fields = [name for name in Sample.__slots__ if name not in ("image", "masks")]
    masks = {name: mask.tolist() for name, mask in (first.masks or {}).items()}
    others = {name: mask.tolist() for name, mask in (second.masks or {}).items()}
    return (
        all(getattr(first, name) == getattr(second, name) for name in fields)
        and np.array_equal(first.image, second.image)
        and masks == others
        and (first.masks is None) == (second.masks is None)
    )


def edit(folder: Path, **fields) -> None:
    path = folder / MANIFEST_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
