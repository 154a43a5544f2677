"""The store that a name and a size select, and commands in messages that work."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.data.prepare import open_or_prepare, prepare
from g2dbench.data.prepared_stores import find_store, require_store
from g2dbench.data.store.store import Store
from g2dbench.errors import BadData, Misuse
from g2dbench.progress import quiet
from g2dbench.registry import Registry

REGISTRY = Registry()


def write_images(root: Path) -> Path:
    """Twelve 60 x 70 images and a table with unusual column names."""
    root.mkdir(parents=True)
    lines = ["where,says\n"]
    for index in range(12):
        noise = np.random.default_rng(index).integers(0, 256, (60, 70), dtype=np.uint8)
        Image.fromarray(noise).save(root / f"{index}.png")
        lines.append(f"{index}.png,Clear.\n")
    (root / "mine.csv").write_text("".join(lines))
    return root


def make(root: Path, store: Path, size: int, name: str = "ward", **more: object) -> Store:
    return prepare(
        "pairs", root, store, progress=quiet, registry=REGISTRY, size=size, own_name=name,
        options={"image": "where", "text": "says"}, **more,
    )  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_images(tmp_path / "a ward")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.mark.parametrize(
    ("requested", "stored_size", "sentence"),
    [
        (48, 48, ""),
        (32, 32, ""),
        (40, 48, "ward at 40 px: shrunk on read from ward-48-"),
        (16, 32, "ward at 16 px: shrunk on read from ward-32-"),
        (None, 48, "ward is prepared at 32 and 48 px: taking 48 px"),
    ],
)
def test_the_requested_or_next_larger_or_largest_size_is_used(
    root: Path, store: Path, requested: int | None, stored_size: int, sentence: str
) -> None:
    for size in (32, 48):
        make(root, store, size)
    sentences: list[str] = []
    found = find_store("ward", None, store, requested, echo=sentences.append)
    assert (found.size, found.manifest.size) == (requested or stored_size, stored_size)
    assert len(sentences) == bool(sentence)
    assert sentence in "".join(sentences)


def run(text: str, store: Path) -> tuple[int, str]:
    """Run a command that a message names; returns exit code and output."""
    arguments = shlex.split(text)
    assert arguments[0] == "g2dbench"
    done = CliRunner().invoke(app, [*arguments[1:], "--store", str(store)], env={"COLUMNS": "300"})
    return done.exit_code, done.output


def test_the_error_for_a_size_above_all_stores_names_a_command_that_works(
    root: Path, store: Path
) -> None:
    make(root, store, 32, border="crop")
    with pytest.raises(BadData, match="prepared at 32 px, 48 px are requested") as caught:
        require_store("ward", None, store, registry=REGISTRY, size=48)
    (command,) = re.findall(r"run `(.*?)`", str(caught.value))
    code, text = run(command, store)
    assert code == 0, text
    assert require_store("ward", None, store, registry=REGISTRY, size=48).size == 48


def test_the_error_for_ambiguous_stores_lists_names_that_work(
    root: Path, store: Path, tmp_path: Path
) -> None:
    make(root, store, 32)
    make(write_images(tmp_path / "b"), store, 48)
    with pytest.raises(Misuse, match="prepared more than once") as caught:
        require_store("ward", None, store, registry=REGISTRY, size=16)
    names = re.findall(r"^  (ward-\S+)  from (\S.*) with", str(caught.value), re.MULTILINE)
    assert [origin for _, origin in names] == [str(root), str(tmp_path / "b")]
    for (name, _), size in zip(names, (32, 48), strict=True):
        found = require_store(name, None, store, registry=REGISTRY)
        assert (found.size, found.card.name) == (size, "ward")
        assert require_store(name, None, store, registry=REGISTRY, size=16).size == 16
    assert require_store("ward", root, store, registry=REGISTRY).size == 32
    (command,) = re.findall(r"(g2dbench data rm \S+)", str(caught.value))
    assert run(f"{command} --yes", store)[0] == 0
    assert require_store("ward", None, store, registry=REGISTRY).size == 48


def test_the_error_for_an_unprepared_set_names_the_command(store: Path) -> None:
    command = "data prepare rsna --root FOLDER --split mgca --size 512 --store"
    with pytest.raises(BadData, match=command):
        require_store("rsna", None, store, registry=REGISTRY, size=512, split="mgca")
    # 256 px, the usual size, serve 128.
    with pytest.raises(BadData, match=r"data prepare rsna --root FOLDER --store"):
        require_store("rsna", None, store, registry=REGISTRY, size=128)
    with pytest.raises(BadData, match=r"--name NAME --store \S+`, and from then on --data NAME"):
        require_store("images", None, store, registry=REGISTRY)
    with pytest.raises(Misuse, match=r"no data set 'rsn': did you mean 'rsna'") as caught:
        require_store("rsn", None, store, registry=REGISTRY)
    assert "`g2dbench data prepare images --root FOLDER --name rsn`" in str(caught.value)


def test_user_names_are_suggested_and_another_root_is_reported(
    root: Path, store: Path, tmp_path: Path
) -> None:
    make(root, store, 32)
    with pytest.raises(Misuse, match="did you mean 'ward'"):
        require_store("wrad", None, store, registry=REGISTRY)
    with pytest.raises(Misuse, match=r"'ward' was not prepared from .*elsewhere, but:\s+ward-32-"):
        require_store("ward", tmp_path / "elsewhere", store, registry=REGISTRY)


@pytest.mark.parametrize("given", ["above", "below", "nothing"])
def test_the_error_for_a_root_one_level_off_suggests_the_right_one(
    tmp_path: Path, given: str
) -> None:
    right = official(tmp_path / "above" / "rsna 2018")
    roots = {
        "above": right.parent, "below": right / "stage_2_train_images", "nothing": tmp_path / "n",
    }  # fmt: skip
    (tmp_path / "n").mkdir()
    with pytest.raises(BadData, match="--root is to be the folder that holds stage_2") as caught:
        opened(roots[given], tmp_path / "store", 32)
    meant = f"did you mean --root '{right}'?"
    assert (meant in str(caught.value)) == (given != "nothing")


def official(root: Path) -> Path:
    images = root / "stage_2_train_images"
    images.mkdir(parents=True)
    for index in range(12):
        noise = np.random.default_rng(index).integers(0, 256, (300, 300), dtype=np.uint8)
        Image.fromarray(noise).save(images / f"{index}.png")
    lines = "".join(f"{index},,,,,0\n" for index in range(12))
    (root / "stage_2_train_labels.csv").write_text(f"patientId,x,y,width,height,Target\n{lines}")
    return root


def opened(root: Path, store: Path, size: int | None) -> Store:
    return open_or_prepare("rsna", root, store, progress=quiet, registry=REGISTRY, size=size)


def test_a_smaller_size_uses_the_prepared_store(tmp_path: Path) -> None:
    root, store = official(tmp_path / "rsna"), tmp_path / "store"
    assert opened(root, store, 32).manifest.size == 32
    usual = opened(root, store, None)  # 32 px are less than the usual 256
    assert usual.size == 256
    half = opened(root, store, 128)
    assert (half.size, half.manifest.size) == (128, 256)
    assert opened(root, store, 32).manifest.size == 32
    assert len(list(store.glob("rsna-*"))) == 2
    assert opened(root, store, 280).manifest.size == 280
    assert opened(root, store, None).size == 280


def test_synthetic_images_are_generated_at_each_size(tmp_path: Path) -> None:
    from g2dbench.data.store.request import GenerationSettings

    ask = {"progress": quiet, "registry": REGISTRY, "generation": GenerationSettings(count=3)}
    large = open_or_prepare("synthetic", None, tmp_path, size=80, **ask)
    small = open_or_prepare("synthetic", None, tmp_path, size=64, **ask)
    assert (large.manifest.size, small.manifest.size) == (80, 64)
