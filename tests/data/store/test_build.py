"""Building a store: fingerprints, damaged files, requests, concurrent and killed runs."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.data.stores import REGISTRY, make, make_root, quiet, same

from g2dbench.data.prepare import find_store, open_or_prepare, prepare, require_store, stores_in
from g2dbench.data.store import decode
from g2dbench.data.store.manifest import QUARANTINE_FILE, ROWS_FILE
from g2dbench.data.store.request import GenerationSettings
from g2dbench.data.store.store import Store
from g2dbench.data.store.verify import verify
from g2dbench.errors import BadData, Misuse

pytestmark = pytest.mark.integration


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


def test_synthetic_images_are_prepared_and_stored_by_seed(tmp_path: Path) -> None:
    def draw(seed: int, size: int | None = 64) -> Store:
        return prepare(
            "synthetic", None, tmp_path, progress=quiet, registry=REGISTRY, size=size,
            generation=GenerationSettings(seed, 6),
        )  # fmt: skip

    one, two = draw(0), draw(1)
    assert one.fingerprint != two.fingerprint
    assert one.folder != two.folder
    module = REGISTRY.find(type(one.card), "synthetic").load()
    drawn = module.generate_many(range(6), 64, 0)
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


@pytest.mark.parametrize("fault", [OSError(errno.EMFILE, "Too many open files"), MemoryError()])
def test_a_fault_of_the_machine_costs_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """Good images are not stored as damaged ones because files or memory ran out."""
    root, real, calls = make_root(tmp_path / "root", count=40), decode.file_bytes, count()

    def once(*args):
        if next(calls) == 7:
            raise fault
        return real(*args)

    monkeypatch.setattr(decode, "file_bytes", once)
    monkeypatch.setattr(decode, "MAX_PIXELS", 2**60)
    with pytest.raises((BadData, MemoryError)):
        make(root, tmp_path / "s")
    assert make(root, tmp_path / "s").manifest.summary.rejected == 0
