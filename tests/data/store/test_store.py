"""The packed store and how it is made: same bits always, complete or absent, fast to read."""

import fcntl
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
from packaging.version import Version
from PIL import Image

from g2dbench.data.prepare import find_store, open_or_prepare, prepare, require_store, stores_in
from g2dbench.data.store.manifest import MANIFEST_FILE, QUARANTINE_FILE, ROWS_FILE
from g2dbench.data.store.request import Drawing
from g2dbench.data.store.row import pack, unpack
from g2dbench.data.store.store import Store
from g2dbench.data.store.verify import describe, facts, verify
from g2dbench.dataset import COLUMNS, Dataset
from g2dbench.errors import BadData, Misuse
from g2dbench.registry import Registry
from g2dbench.sample import Box, Sample

pytestmark = pytest.mark.integration

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


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("store")
    return make(make_root(folder / "root"), folder / "prepared")


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


def test_a_row_gives_its_sample_back() -> None:
    bare = Sample(id="b", image=np.zeros((2, 3), np.uint8), patient="p")
    empty = Sample(
        id="c", image=np.ones((2, 3), np.uint8), patient="p", boxes=(), masks={}, labels={}
    )
    for sample in (full_sample(), bare, empty):
        row = pack(sample)
        image = np.frombuffer(row["pixels"], np.uint8).reshape(sample.image.shape)
        assert same(unpack(row, image), sample)


def test_every_field_changes_a_rows_digest() -> None:
    from dataclasses import replace

    sample = full_sample()
    other_image = sample.image.copy()
    other_image[0, 0] ^= 1
    changes = [
        {"image": other_image}, {"patient": "q"}, {"study": None}, {"view": "AP"}, {"sex": "M"},
        {"age": 41.0}, {"split": "test"}, {"report": ""}, {"labels": None}, {"boxes": ()},
        {"masks": {}}, {"image": sample.image.reshape(7, 9), "masks": {}},
    ]  # fmt: skip
    marks = {pack(replace(sample, **change))["digest"] for change in changes}
    assert len(marks | {pack(sample)["digest"]}) == len(changes) + 1


def test_the_store_is_a_data_set_in_id_order(store: Store) -> None:
    data: Dataset = store
    assert len(data) == 40
    assert [sample.id for sample in data] == [f"p{index:03d}" for index in range(40)]
    assert (data.size, data.card.name) == (32, "rsna")
    assert data[0].image.shape == (32, 32)
    assert data[-1].id == "p039"
    assert [sample.id for sample in data.take([3, 1])] == ["p003", "p001"]
    with pytest.raises(IndexError):
        data[40]


def test_annotation_is_in_stored_pixels(store: Store) -> None:
    sample = store[0]
    box = sample.boxes[0]
    assert box[1:] == pytest.approx((100 / 32, 200 / 32, 400 / 32, 600 / 32))
    area = (box.x1 - box.x0) * (box.y1 - box.y0)
    assert sample.masks["Pneumonia"].sum() == pytest.approx(area, rel=0.15)
    assert (store[1].boxes, store[1].masks, store[1].labels) == ((), {}, {"Pneumonia": 0})


def test_the_table_has_the_contracts_columns(store: Store) -> None:
    assert list(store.table.columns) == [*COLUMNS, "label:Pneumonia"]
    assert store.table["label:Pneumonia"].sum() == 14
    assert store.table["report"].isna().all()
    assert store.table["has_boxes"].all()
    part = store.split("valid").take([2, 0])
    assert list(part.table["id"]) == [part[0].id, part[1].id]


def test_splits_are_stratified_and_hold_each_patient_once(store: Store) -> None:
    parts = [store.split(name) for name in ("train", "valid", "test")]
    assert [len(part) for part in parts] == [24, 8, 8]
    positive = [int(part.table["label:Pneumonia"].sum()) for part in parts]
    np.testing.assert_allclose(positive, [14 * share for share in (0.6, 0.2, 0.2)], atol=1)
    with pytest.raises(Misuse, match="no split 'dev'"):
        store.split("dev")
    with pytest.raises(BadData, match="no test images"):
        store.split("train").split("test")


def test_images_can_be_written_to_without_touching_the_store(store: Store) -> None:
    before = store[0].image
    store[0].image[:] = 0
    np.testing.assert_array_equal(store[0].image, before)


def test_a_part_survives_pickling_into_a_worker(store: Store) -> None:
    part = store.split("valid")
    again = pickle.loads(pickle.dumps(part))  # noqa: S301
    assert [sample.id for sample in again] == [sample.id for sample in part]
    assert again.fingerprint == store.fingerprint
    assert len(pickle.dumps(part)) < 1500


def test_a_renamed_store_keeps_its_rows_and_its_name_in_every_part(store: Store) -> None:
    part = store.named("rsna:40").split("valid")
    assert part.card.name == "rsna:40"
    assert pickle.loads(pickle.dumps(part)).card == part.card  # noqa: S301
    assert (store.card.name, part.fingerprint) == ("rsna", store.fingerprint)


@pytest.mark.skipif(
    Version(datasets.__version__) < Version("5.1"), reason="datasets knows digests from 5.1 on"
)
def test_hugging_face_datasets_opens_the_file(store: Store) -> None:
    opened = datasets.Dataset.from_file(str(store.folder / ROWS_FILE))
    assert opened[5]["id"] == "p005"
    assert opened[5]["pixels"] == store[5].image.tobytes()


def test_fingerprint_ignores_file_order_place_and_workers(store: Store, tmp_path: Path) -> None:
    backwards = make(make_root(tmp_path / "b", order=-1), tmp_path / "one")
    spread = make(tmp_path / "b", tmp_path / "two", workers=2)
    assert store.fingerprint == backwards.fingerprint == spread.fingerprint
    rows = [(item.folder / ROWS_FILE).read_bytes() for item in (backwards, spread)]
    assert rows[0] == rows[1]


def test_fingerprint_sees_pixels_labels_and_size(store: Store, tmp_path: Path) -> None:
    root = make_root(tmp_path / "root")
    prints = {store.fingerprint, make(root, tmp_path / "s", size=30).fingerprint}
    table = root / "stage_2_train_labels.csv"
    table.write_text(table.read_text().replace("p001,,,,,0", "p001,1,1,9,9,1"))
    prints.add(make(root, tmp_path / "labels").fingerprint)
    make_root(tmp_path / "other")
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(
        tmp_path / "other/stage_2_train_images/p007.png"
    )
    prints.add(make(tmp_path / "other", tmp_path / "pixels").fingerprint)
    assert len(prints) == 4


def test_preparing_twice_reads_once_and_names_the_folder(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root")
    first = make(root, tmp_path / "s")
    stamp = (first.folder / ROWS_FILE).stat().st_mtime_ns
    again = open_or_prepare(
        "rsna", root, tmp_path / "s", progress=quiet, registry=REGISTRY, size=32
    )
    assert again.folder == first.folder
    assert first.folder.name.startswith("rsna-32-")
    assert (first.folder / ROWS_FILE).stat().st_mtime_ns == stamp
    make(root, tmp_path / "s", size=20)
    assert find_store("rsna", None, tmp_path / "s", 20).size == 20
    assert find_store("rsna", tmp_path / "elsewhere", tmp_path / "s", 20) is None
    assert find_store("rsn", None, tmp_path / "s") is None
    assert [item.size for item in stores_in(tmp_path / "s")] == [20, 32]


def test_requests_that_cannot_be_met(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="--root"):
        make(None, tmp_path)
    with pytest.raises(BadData, match="no folder"):
        make(tmp_path / "nowhere", tmp_path)
    with pytest.raises(Misuse, match="short side"):
        make(tmp_path, tmp_path, size=5)
    with pytest.raises(Misuse, match="rsna"):
        prepare("rsnaa", tmp_path, tmp_path, progress=quiet, registry=REGISTRY)
    with pytest.raises(BadData, match=f"data prepare rsna --root FOLDER --store {tmp_path}"):
        require_store("rsna", None, tmp_path, registry=REGISTRY)
    with pytest.raises(BadData, match="images --root FOLDER --name NAME --store"):
        require_store("images", None, tmp_path, registry=REGISTRY, size=64)
    (tmp_path / "file").touch()
    with pytest.raises(BadData, match="cannot be written"):
        make(make_root(tmp_path / "root"), tmp_path / "file")


def test_few_broken_files_are_quarantined_with_their_reason(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root")
    (root / "stage_2_train_images/p004.png").write_bytes(b"\x89PNG broken")
    (root / "stage_2_train_images/p005.png").unlink()
    (root / "stage_2_train_images/p006.png").unlink()
    made = make(root, tmp_path / "s")
    found = made.manifest.summary
    assert (found.listed, found.stored, found.rejected, found.missing) == (40, 37, 1, 2)
    table = pd.read_csv(made.folder / QUARANTINE_FILE)
    assert list(table.columns) == ["id", "path", "reason"]
    assert list(table["id"]) == ["p004", "p005", "p006"]
    assert "p004.png" in table["reason"][0]
    assert "2 that its tables list are not in the folder" in made.summary


def test_many_broken_files_stop_everything_and_are_listed(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root")
    for index in range(3):
        (root / f"stage_2_train_images/p00{index}.png").write_bytes(b"broken")
    with pytest.raises(BadData, match="37 are usable, 3 are broken") as caught:
        make(root, tmp_path / "s")
    lists = list((tmp_path / "s").glob("*.quarantine.csv"))
    assert str(lists[0]) in str(caught.value)
    assert not [place for place in (tmp_path / "s").iterdir() if place.is_dir()]


def test_an_excerpt_without_any_image_is_refused(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root")
    for file in (root / "stage_2_train_images").iterdir():
        file.unlink()
    with pytest.raises(BadData, match="0 are usable, 0 are broken and 40 are missing"):
        make(root, tmp_path / "s")


BREAKS = {
    "no manifest": lambda folder: (folder / MANIFEST_FILE).unlink(),
    "half a manifest": lambda folder: (folder / MANIFEST_FILE).write_text('{"schema_version": 1'),
    "a list": lambda folder: (folder / MANIFEST_FILE).write_text("[]"),
    "another schema": lambda folder: edit(folder, schema_version=99),
    "a lost field": lambda folder: edit(folder, fingerprint=None),
    "cut rows": lambda folder: os.truncate(folder / ROWS_FILE, 1000),
    "no rows": lambda folder: (folder / ROWS_FILE).unlink(),
}


def edit(folder: Path, **fields) -> None:
    path = folder / MANIFEST_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_store_is_refused_with_the_way_out_and_replaced(tmp_path: Path, name: str) -> None:
    made = make(make_root(tmp_path / "root", count=6), tmp_path / "s")
    BREAKS[name](made.folder)
    with pytest.raises(BadData, match="prepare it again"):
        Store(made.folder)
    assert make(tmp_path / "root", tmp_path / "s").fingerprint == made.fingerprint
    assert len(Store(made.folder)) == 6


def test_verify_finds_a_changed_byte(tmp_path: Path) -> None:
    made = make(make_root(tmp_path / "root", count=6), tmp_path / "s")
    assert verify(made, quiet).images == 6
    data = bytearray((made.folder / ROWS_FILE).read_bytes())
    at = data.index(made[3].image.tobytes())
    data[at] ^= 1
    (made.folder / ROWS_FILE).write_bytes(data)
    with pytest.raises(BadData, match=r"'p003'.*not what was written"):
        verify(made, quiet)


def test_verify_finds_another_fingerprint_and_counts_repeated_pixels(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root")
    images = root / "stage_2_train_images"
    for index in range(1, 40):
        if index % 3:
            (images / f"p{index:03d}.png").write_bytes((images / "p000.png").read_bytes())
    made = make(root, tmp_path / "s")
    found = verify(made, quiet)
    assert found.duplicates == 26
    assert 0 < len(found.leaks) < 26
    assert "across splits" in str(found)
    edit(made.folder, fingerprint="0" * 64)
    with pytest.raises(BadData, match="the fingerprint of"):
        verify(made, quiet)


def test_describe_counts_splits_labels_and_pairs(store: Store) -> None:
    known = facts(store)
    assert known["splits"]["train"]["images"] == 24
    assert sum(part["positive"]["Pneumonia"] for part in known["splits"].values()) == 14
    assert known["shapes"] == {"32x32": 40}
    assert known["pairs"]["no report"] == 40
    assert "valid: images 8, patients 8" in describe(store)


def test_synthetic_images_are_drawn_packed_and_keyed_by_seed(tmp_path: Path) -> None:
    def draw(seed: int, size: int | None = 64) -> Store:
        return prepare(
            "synthetic", None, tmp_path, progress=quiet, registry=REGISTRY, size=size,
            drawing=Drawing(seed, 6),
        )  # fmt: skip

    one, two = draw(0), draw(1)
    assert one.fingerprint != two.fingerprint
    assert one.folder != two.folder
    module = REGISTRY.find(type(one.card), "synthetic").load()
    drawn = module.draw_many(range(6), 64, 0)
    assert all(same(mine, its) for mine, its in zip(one, drawn, strict=True))
    assert verify(one, quiet).images == 6
    assert draw(0, None).size == 128


def test_a_waiting_run_finds_the_store_of_the_one_before(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root", count=6)
    first = make(root, tmp_path / "s")
    hidden = tmp_path / "hidden"
    first.folder.rename(hidden)
    made: list[Store] = []
    with (tmp_path / "s" / f".{first.folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        other = threading.Thread(target=lambda: made.append(make(root, tmp_path / "s")))
        other.start()
        time.sleep(0.2)
        assert other.is_alive()
        stamp = (hidden / ROWS_FILE).stat().st_ino
        hidden.rename(first.folder)
    other.join(10)
    assert (made[0].folder / ROWS_FILE).stat().st_ino == stamp


SLOW = """
    import sys, time
    from pathlib import Path
    from g2dbench.data.prepare import prepare
    from g2dbench.registry import Registry

    def slow(items, title, total=None):
        for item in items:
            time.sleep(0.005)
            yield item

    if __name__ == "__main__":
        root, store = map(Path, sys.argv[1:])
        prepare("rsna", root, store, progress=slow, registry=Registry(), size=32, workers=1)
"""


def test_a_killed_run_leaves_nothing_that_looks_complete(tmp_path: Path, project: Path) -> None:
    root, store_root = make_root(tmp_path / "root", count=200, side=32), tmp_path / "s"
    (tmp_path / "slow.py").write_text(textwrap.dedent(SLOW))
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "slow.py"), str(root), str(store_root)],
        env={**os.environ, "PYTHONPATH": str(project)},
    )
    wait_for(lambda: any(file.stat().st_size > 4096 for file in store_root.glob(".*/" + ROWS_FILE)))
    workers = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert workers
    assert list(store_root.glob(".*.partial"))
    assert stores_in(store_root) == []
    assert find_store("rsna", root, store_root) is None
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    again = make(root, store_root)
    assert again.fingerprint == make(root, tmp_path / "other").fingerprint
    assert not list(store_root.glob(".*.partial"))


def children(parent: int) -> list[int]:
    tasks = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def wait_for(happened, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.02)


def test_random_reads_decode_nothing(tmp_path: Path) -> None:
    store = prepare(
        "rsna", make_root(tmp_path / "root", 60, side=128), tmp_path / "s", progress=quiet,
        registry=REGISTRY, size=128,
    )  # fmt: skip
    places = np.random.default_rng(0).integers(0, 60, 500).tolist()
    best = min(timed(lambda: [store[place] for place in places]) for _ in range(5))
    # 40 us on a quiet core; the bound only catches decoding or pandas on the way.
    assert best / len(places) < 500e-6


def timed(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
