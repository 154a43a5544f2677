"""A preparation that is killed at any moment resumes, and gives the same store."""

import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.stopping import Stop, Watch, after

from g2dbench.data.prepare import find_store, prepare, stores_in
from g2dbench.data.store import build
from g2dbench.data.store.manifest import QUARANTINE_FILE, ROWS_FILE
from g2dbench.data.store.request import GenerationSettings
from g2dbench.data.store.store import Store
from g2dbench.progress import quiet
from g2dbench.registry import Registry

pytestmark = pytest.mark.integration

IMAGES = 160
REGISTRY = Registry()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_root(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make(root, tmp_path_factory.mktemp("undisturbed"))


def make_root(root: Path) -> Path:
    """RSNA's layout; a few images are broken and one is missing."""
    folder = root / "stage_2_train_images"
    folder.mkdir(parents=True)
    for index in range(IMAGES):
        path = folder / f"p{index:03d}.png"
        pixels = np.random.default_rng(index).integers(0, 256, (24, 24), dtype=np.uint8)
        Image.fromarray(pixels).save(path, compress_level=1)
        if index in (7, 150):
            path.write_bytes(path.read_bytes()[:60])
    lines = [f"p{i:03d},{'9,9,400,300,1' if i % 3 == 0 else ',,,,0'}\n" for i in range(IMAGES + 1)]
    (root / "stage_2_train_labels.csv").write_text(
        "patientId,x,y,width,height,Target\n" + "".join(lines)
    )
    return root


def make(root: Path, store: Path, progress: Callable = quiet) -> Store:
    return prepare("rsna", root, store, progress=progress, registry=REGISTRY, size=16)


def stopped(root: Path, store: Path, count: int = 140) -> tuple[Path, Path]:
    """The rows and the journal of a preparation that was stopped after `count` images."""
    with pytest.raises(Stop):
        make(root, store, after(count))
    assert stores_in(store) == []
    return rest_of(store)


def rest_of(store: Path) -> tuple[Path, Path]:
    (rows,), (log,) = store.glob(".*.partial/" + ROWS_FILE), store.glob(".*.journal")
    return rows, log


@pytest.fixture(scope="module")
def half(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a stopped preparation; tests change a copy."""
    folder = tmp_path_factory.mktemp("half") / "store"
    stopped(root, folder)
    return folder


@pytest.fixture
def rest(half: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Rows and journal of a copy of the stopped preparation, in `tmp_path`."""
    shutil.copytree(half, tmp_path, dirs_exist_ok=True)
    return rest_of(tmp_path)


def same(made: Store, whole: Store) -> bool:
    files = ROWS_FILE, QUARANTINE_FILE
    alike = [(made.folder / f).read_bytes() == (whole.folder / f).read_bytes() for f in files]
    return all(alike) and made.manifest == whole.manifest


@pytest.mark.usefixtures("rest")
def test_whole_batches_are_kept_and_the_rest_is_read_again(
    root: Path, whole: Store, tmp_path: Path
) -> None:
    watch = Watch()
    assert same(make(root, tmp_path, watch), whole)
    assert watch.left == IMAGES - 2 * build.BATCH
    assert {path.suffix for path in tmp_path.glob(".*")} == {".lock"}


def cut(path: Path, count: int) -> None:
    os.truncate(path, path.stat().st_size - count)


def flip(path: Path, share: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * share)] ^= 255
    path.write_bytes(data)


def add(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


DAMAGE = {
    "cut rows": lambda rows, log: cut(rows, 700),
    "a cut line": lambda rows, log: cut(log, 7),
    "a last line without its end": lambda rows, log: cut(log, 1),
    "a changed pixel": lambda rows, log: flip(rows, 0.5),
    "a changed schema": lambda rows, log: flip(rows, 0.0),
    "a changed head": lambda rows, log: flip(log, 0.01),
    "a changed line": lambda rows, log: flip(log, 0.8),
    "rows that no line names": lambda rows, log: add(rows, b"\0" * 999),
    "a line without rows": lambda rows, log: add(log, log.read_bytes().splitlines(True)[-1]),
    "noise behind": lambda rows, log: add(log, b"\xff\xfe{]\n"),
    "no rows": lambda rows, log: rows.unlink(),
    "no journal": lambda rows, log: log.unlink(),
    "zeros after a power cut": lambda rows, log: add_zeros(rows, 3000),
}


def add_zeros(path: Path, count: int) -> None:
    cut(path, count)
    add(path, b"\0" * count)


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_rest_never_reaches_the_store(
    root: Path, whole: Store, rest: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    DAMAGE[name](*rest)
    assert same(make(root, tmp_path), whole)


def test_what_changed_since_is_read_again(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root")
    stopped(root, tmp_path / "s")
    table = root / "stage_2_train_labels.csv"
    table.write_text(table.read_text().replace("p099,9,9,400", "p099,9,9,300"))
    watch = Watch()
    resumed = make(root, tmp_path / "s", watch)
    assert watch.left == IMAGES - build.BATCH
    assert same(resumed, make(root, tmp_path / "other"))
    stopped(root, tmp_path / "t")
    Image.new("L", (24, 24), 9).save(root / "stage_2_train_images/p020.png")
    resumed = make(root, tmp_path / "t", watch)
    assert watch.left == IMAGES
    assert same(resumed, make(root, tmp_path / "again"))


@pytest.mark.usefixtures("rest")
def test_other_code_starts_anew(
    root: Path, whole: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "version", lambda name: "another")
    watch = Watch()
    assert same(make(root, tmp_path, watch), whole)
    assert watch.left == IMAGES


def test_drawn_images_go_on_too(tmp_path: Path) -> None:
    def draw(store: Path, progress: Callable = quiet) -> Store:
        return prepare(
            "synthetic", None, store, progress=progress, registry=REGISTRY, size=64,
            generation=GenerationSettings(count=90),
        )  # fmt: skip

    with pytest.raises(Stop):
        draw(tmp_path / "s", after(80))
    watch = Watch()
    resumed = draw(tmp_path / "s", watch)
    assert watch.left == 90 - build.BATCH
    assert same(resumed, draw(tmp_path / "t"))


def dying(root: Path, store: Path, calls: int) -> None:
    """Prepare in a process that is killed at the `calls`-th call or return of any function."""
    left = calls

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    make(root, store)


def calls_of(root: Path, store: Path) -> int:
    """Calls and returns of functions, C's included, in a whole preparation."""
    found = 0

    def count(*_: object) -> None:
        nonlocal found
        found += 1

    sys.setprofile(count)
    try:
        make(root, store)
    finally:
        sys.setprofile(None)
    return found


def kill_often(root: Path, folder: Path, whole: Store, kills: int, seed: int) -> None:
    """Kill preparations of a store at random moments; a finished one must be complete."""
    generator = np.random.default_rng(seed)
    total, done = calls_of(root, folder / "counted"), 0
    store = folder / "killed"
    while done < kills:
        # Some moments lie at the very end, where the store is sealed and moved into place.
        moment = int(total * generator.uniform(0, 1.05))
        process = multiprocessing.get_context("fork").Process(
            target=dying, args=(root, store, moment)
        )
        process.start()
        process.join(60)
        assert process.exitcode in (0, -signal.SIGKILL)
        done += process.exitcode != 0
        found = find_store("rsna", root, store)
        assert found is None or same(found, whole)
        if process.exitcode == 0:
            shutil.rmtree(store)
    assert same(make(root, store), whole)


def test_a_run_killed_at_random_moments_ends_as_if_undisturbed(
    root: Path, whole: Store, tmp_path: Path
) -> None:
    kill_often(root, tmp_path, whole, kills=3, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_killed_at_twenty_random_moments(
    root: Path, whole: Store, tmp_path: Path, seed: int
) -> None:
    kill_often(root, tmp_path, whole, kills=20, seed=seed)


@pytest.mark.slow
def test_a_run_killed_at_every_late_moment(root: Path, whole: Store, tmp_path: Path) -> None:
    """Killed at each step of publishing: an incomplete store never looks complete."""
    total = calls_of(root, tmp_path / "counted")
    for moment in range(total - 400, total, 7):
        store = tmp_path / str(moment)
        process = multiprocessing.get_context("fork").Process(
            target=dying, args=(root, store, moment)
        )
        process.start()
        process.join(60)
        found = find_store("rsna", root, store)
        assert found is None or same(found, whole)
        assert same(make(root, store), whole)
