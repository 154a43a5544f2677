"""A store whose source has changed is noticed: by `prepare`, by `verify` and by `--root`."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.data.custom_data import save_image, write_images
from support.data.stores import REGISTRY, edit, make, make_root, quiet
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.data import source_check
from g2dbench.data.prepare import open_or_prepare, prepare
from g2dbench.data.store.store import Store
from g2dbench.errors import BadData

IMAGES = "stage_2_train_images"
TABLE = "stage_2_train_labels.csv"


def add_images(root: Path) -> None:
    more = make_root(root.with_name("more"), count=12)
    shutil.copytree(more, root, dirs_exist_ok=True)


def same_times(path: Path, change: Callable[[], object]) -> None:
    before = path.stat()
    change()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def swap_label(root: Path) -> None:
    """The same size and time: only the content of the table differs."""
    table = root / TABLE
    text = table.read_text()
    assert "p001,,,,,0" in text
    swapped = text.replace("p001,,,,,0", "p001,,,,,1")
    same_times(table, lambda: table.write_text(swapped))


def replace_image(root: Path) -> None:
    shutil.copy(root / IMAGES / "p003.png", root / IMAGES / "p001.png")


CHANGES: dict[str, tuple[Callable[[Path], object], bool]] = {
    "images added": (add_images, True),
    "a label changed": (swap_label, True),
    "an image replaced": (replace_image, True),
    "an image removed": (lambda root: (root / IMAGES / "p001.png").unlink(), True),
    "another time": (lambda root: os.utime(root / IMAGES / "p001.png"), False),
    "a file beside it": (lambda root: (root / "README").write_text("hello"), False),
}


@pytest.fixture
def made(tmp_path: Path) -> Store:
    return make(make_root(tmp_path / "root", count=10), tmp_path / "s")


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_source_is_told_and_prepared_again(
    made: Store, tmp_path: Path, name: str
) -> None:
    change, differs = CHANGES[name]
    root, store = tmp_path / "root", tmp_path / "s"
    change(root)
    with pytest.raises(BadData, match=r"source has changed.*then 11 files.*data prepare rsna"):
        source_check.check_files(made, REGISTRY)
    with pytest.raises(BadData, match="or omit --root"):
        open_or_prepare("rsna", root, store, progress=quiet, registry=REGISTRY, size=32)
    said: list[str] = []
    again = make(root, store, echo=said.append)
    assert "its source has changed since it was prepared" in said[0]
    fresh = make(root, tmp_path / "fresh")
    assert again.fingerprint == fresh.fingerprint
    assert (again.fingerprint != made.fingerprint) == differs
    assert ("fingerprint" in said[-1]) == differs
    hidden = [path.name for path in store.iterdir() if path.name.startswith(".")]
    assert hidden == [f".{made.folder.name}.lock"]
    said.clear()
    make(root, store, echo=said.append)
    assert "its source is as it was" in said[0]
    assert "names, sizes, times" in source_check.check_files(again, REGISTRY)


def test_an_image_with_the_same_size_and_time_is_found_by_the_full_check(
    made: Store, tmp_path: Path
) -> None:
    assert "10 rows" in source_check.check_rows(made, REGISTRY, quiet)
    image = tmp_path / "root" / IMAGES / "p001.png"
    content = bytearray(image.read_bytes())
    other = (tmp_path / "root" / IMAGES / "p003.png").read_bytes()
    content = other[: len(content)] + bytes(len(content) - len(other))
    same_times(image, lambda: image.write_bytes(content))
    source_check.check_files(made, REGISTRY)
    with pytest.raises(BadData, match="1 changed, such as p001"):
        source_check.check_rows(made, REGISTRY, quiet)


def test_the_full_check_counts_new_and_lost_images(made: Store, tmp_path: Path) -> None:
    add_images(tmp_path / "root")
    (tmp_path / "root" / IMAGES / "p000.png").unlink()
    with pytest.raises(BadData, match="2 new, such as p010; 1 gone, such as p000"):
        source_check.check_rows(made, REGISTRY, quiet)


def test_the_full_check_uses_one_process_per_core_as_preparing_does(
    made: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def opened(request: object, workers: int, progress: object) -> object:
        asked.append(workers)
        return open_source(request, 0, progress)

    open_source = source_check.open_source
    monkeypatch.setattr(source_check, "open_source", opened)
    monkeypatch.setattr(source_check, "default_workers", lambda: 7)
    for workers in (None, 0, 3):
        source_check.check_rows(made, REGISTRY, quiet, workers)
    assert asked == [7, 0, 3]


def test_a_store_within_its_source_does_not_change_it(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root", count=10)
    for _ in range(2):
        said: list[str] = []
        make(root, root / "store", echo=said.append)
    assert "its source is as it was" in said[0]


def test_a_store_of_an_older_version_is_used_with_a_note(made: Store, tmp_path: Path) -> None:
    edit(made.folder, source=None)
    said: list[str] = []
    make(tmp_path / "root", tmp_path / "s", echo=said.append)
    assert "older g2dbench" in said[0]
    assert "data rm" in said[0]
    assert "older" in source_check.check_files(Store(made.folder), REGISTRY)


def test_a_source_that_is_gone_is_said(made: Store, tmp_path: Path) -> None:
    (tmp_path / "root").rename(tmp_path / "elsewhere")
    assert "is not here" in source_check.check_files(made, REGISTRY)
    with pytest.raises(BadData, match="is not here"):
        source_check.check_rows(made, REGISTRY, quiet)


TABLES = ("image,Nodule\na.0,1\na.1,0\n", "image,Nodule\na.0,1\na.1,1\n")


@pytest.mark.parametrize("outside", [False, True])
def test_own_images_with_other_labels(tmp_path: Path, outside: bool) -> None:
    root = write_images(tmp_path / "mine", None if outside else TABLES[0])
    table = tmp_path / "elsewhere.csv" if outside else root / "labels.csv"
    table.write_text(TABLES[0])
    options = {"table": str(table)} if outside else {}

    def once(said: list[str]) -> Store:
        return prepare(
            "images", root, tmp_path / "s", progress=quiet, registry=REGISTRY, size=32,
            own_name="mine", options=options, echo=said.append,
        )  # fmt: skip

    first = once([])
    table.write_text(TABLES[1])
    said: list[str] = []
    assert once(said).fingerprint != first.fingerprint
    assert "changed" in said[0]


def test_the_command_that_showed_it(tmp_path: Path) -> None:
    """Issue 16, item 2: images added to a folder, and `data prepare images` repeated."""
    root = write_images(tmp_path / "mine", TABLES[0] + "a.2,1\na.3,0\n")
    words = ["data", "prepare", "images", "--root", root, "--name", "mine", "--size", 32]

    def run(*words: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, [*map(str, words), "--store", str(tmp_path / "s")])
        return done.exit_code, " ".join(done.output.split())

    assert run(*words)[0] == 0
    save_image(root / "images/a.4.png", 7)
    (root / "labels.csv").write_text(TABLES[0] + "a.2,1\na.3,0\na.4,1\n")
    code, text = run("data", "verify", "mine")
    assert code == 1
    assert "then 5 files" in text
    assert "now 6 files" in text
    code, text = run(*words)
    assert code == 0
    assert "its source has changed" in text
    assert "5 of 5 images" in text
    code, text = run("data", "verify", "mine", "--source")
    assert code == 0, text
    assert "5 rows are as a new preparation" in text
