"""Detection and segmentation run on every data set that offers boxes or masks, official layouts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import toy
from support.box_layouts import LAYOUTS, samples
from support.spots import Pools
from support.squares import Pixels

from g2dbench.cards import TaskCard
from g2dbench.data.prepare import prepare
from g2dbench.data.store.store import Store
from g2dbench.data.synthetic.official_layouts import write_rsna, write_siim
from g2dbench.errors import BadData
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.task import Run

REGISTRY = Registry()
det, seg = (REGISTRY.find(TaskCard, name).load() for name in ("det", "seg"))
single_thread = toy.single_thread


def prepared(name: str, root: Path, store: Path) -> Store:
    return prepare(
        name, root, store, progress=quiet, registry=REGISTRY, size=64, workers=0,
    )  # fmt: skip


def run_on(data: Store, protocol: Any, **changes: Any) -> Run:
    fit = replace(protocol.fit, epochs=1, min_steps_per_epoch=1, batch_size=8)
    splits = {name: data.split(name) for name in ("train", "valid", "test")}
    return toy.run_with(protocol=replace(protocol, fit=fit, **changes), **splits)


@pytest.mark.parametrize("classes", ["one", "each"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_detection_runs_on_the_official_layout(name: str, classes: str, tmp_path: Path) -> None:
    LAYOUTS[name](tmp_path / "root")
    run = run_on(
        prepared(name, tmp_path / "root", tmp_path / "s"), det.PROTOCOLS["g2d"], classes=classes
    )
    found = det.predict(Pixels(), run)
    scores = det.score(found, run.protocol)
    assert 0 <= scores["map"].value <= 1
    drawn = {s.id: s.boxes for s in samples()} if name != "nih_cxr14" else {}
    for row in found.to_dict("records"):
        if drawn and len(row["truth"]):
            np.testing.assert_allclose(row["truth"], drawn[row["id"]][0][1:], atol=0.01)
    expected = 1 if classes == "one" or name == "object_cxr" else 2
    assert found["finding"].nunique() == expected


def test_boxes_of_test_images_alone_cannot_be_fitted_and_the_way_out_works(tmp_path: Path) -> None:
    root = tmp_path / "root"
    LAYOUTS["nih_cxr14"](root)
    names = [f"{number:08}_000.png\n" for number in range(36)]
    boxes = root / "BBox_List_2017.csv"
    lines = boxes.read_text().splitlines(keepends=True)[1:]
    boxed = {line.split(",")[0] + "\n" for line in lines}
    lists = {"train_val_list.txt": set(names) - boxed, "test_list.txt": boxed}
    extra = [f"{number:08}_000" for number in range(100, 160)]
    for list_name, images in lists.items():
        (root / list_name).write_text("".join(sorted(images)))
    table = root / "Data_Entry_2017_v2020.csv"
    healthy = "".join(
        f"{name}.png,No Finding,1,{name[:8].lstrip('0')},58,M,PA,2894,2729,0.143,0.143\n"
        for name in extra
    )
    table.write_text(table.read_text() + healthy)
    for name in extra:
        (root / "images" / f"{name}.png").write_bytes(
            (root / "images" / "00000000_000.png").read_bytes()
        )
    train = root / "train_val_list.txt"
    train.write_text(train.read_text() + "".join(f"{name}.png\n" for name in extra))
    run = run_on(prepared("nih_cxr14", root, tmp_path / "s"), det.PROTOCOLS["g2d"])
    with pytest.raises(BadData, match=r"in its test images alone.*without the lists"):
        det.predict(Pixels(), run)
    for list_name in lists:
        (root / list_name).unlink()
    run = run_on(prepared("nih_cxr14", root, tmp_path / "other"), det.PROTOCOLS["g2d"])
    assert len(det.predict(Pixels(), run))


@pytest.mark.parametrize(("name", "write"), [("rsna", write_rsna), ("siim", write_siim)])
def test_segmentation_runs_on_the_official_layout(name: str, write: Any, tmp_path: Path) -> None:
    write(tmp_path / "root", range(60), 64)
    run = run_on(prepared(name, tmp_path / "root", tmp_path / "s"), seg.PROTOCOLS["g2d"])
    scores = seg.score(seg.predict(Pools(2, 8), run), run.protocol)
    assert 0 <= scores["dice"].value <= 1
    counts = run.details["training_images"]
    used = run.details["fit"]["images"]
    assert run.details["fit"]["settings"]["batch_size"] == 8
    expected = min(2 * counts["with_finding"], counts["annotated"])
    assert used == (expected if name == "siim" else counts["annotated"])


def test_detection_runs_on_rsna(tmp_path: Path) -> None:
    write_rsna(tmp_path / "root", range(60), 64)
    run = run_on(prepared("rsna", tmp_path / "root", tmp_path / "s"), det.PROTOCOLS["g2d"])
    assert 0 <= det.score(det.predict(Pixels(), run), run.protocol)["map"].value <= 1
