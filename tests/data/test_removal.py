"""Stores and files that `data rm` removes and keeps."""

import fcntl
from pathlib import Path

import pytest
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.data.prepare import prepare
from g2dbench.data.reference import parse
from g2dbench.data.removal import find_removable, remove
from g2dbench.data.store.publish import has_leftovers, remove_leftovers
from g2dbench.data.store.request import GenerationSettings
from g2dbench.errors import Busy, Misuse
from g2dbench.progress import quiet
from g2dbench.registry import Registry

KEY = "0123abcd"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Synthetic stores of two counts and two sizes, and files of interrupted preparations."""
    root = tmp_path / "store"
    for count, size in ((3, 64), (3, 80), (4, 64)):
        prepare(
            "synthetic", None, root,
            progress=quiet, registry=Registry(), size=size,
            generation=GenerationSettings(count=count),
        )  # fmt: skip
    for name in (f".rsna-256-{KEY}.partial/rows.arrow", f".my-set-64-{KEY}.partial/rows.arrow"):
        (root / name).parent.mkdir()
        (root / name).write_bytes(bytes(1000))
    (root / f".rsna-256-{KEY}.journal").write_bytes(bytes(500))
    (root / f"rsna-256-{KEY}.quarantine.csv").write_bytes(bytes(50))
    (root / "notes.txt").write_text("mine")
    return root


def selected(text: str, store: Path, size: int | None = None) -> list[str]:
    return [item.store for item in find_removable(parse(text), store, size)]


def test_a_name_selects_all_stores_unless_it_is_specific(store: Path) -> None:
    everything = selected("synthetic", store)
    assert len(everything) == 3
    assert len(selected("synthetic:3", store)) == 2
    assert len(selected("synthetic:3", store, 80)) == 1
    assert len(selected("synthetic", store, 64)) == 2
    assert selected(everything[0], store) == [everything[0]]
    assert len(selected("synthetic@g2dbench", store)) == 3
    for text, size in (("synthetic:5", None), ("synthetic@mgca", None), ("synthetic", 90)):
        with pytest.raises(Misuse, match="data list"):
            find_removable(parse(text), store, size)


def test_only_the_files_of_an_unfinished_store_are_removed(store: Path) -> None:
    (item,) = find_removable(parse("rsna"), store, None)
    assert (item.bytes, item.is_complete, len(item.paths)) == (1550, False, 3)
    before = {path.name for path in store.iterdir()}
    remove(item)
    gone = {
        f".rsna-256-{KEY}.partial",
        f".rsna-256-{KEY}.journal",
        f"rsna-256-{KEY}.quarantine.csv",
    }
    assert before - {path.name for path in store.iterdir()} == gone
    assert selected("my-set", store) == [f"my-set-64-{KEY}"]


def test_a_store_in_preparation_is_not_removed(store: Path) -> None:
    (item,) = find_removable(parse("rsna"), store, None)
    with (store / f".rsna-256-{KEY}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Busy, match="another process"):
            remove(item)
    assert all(path.exists() for path in item.paths)


def test_a_store_that_was_killed_between_two_renames_leaves_nothing(tmp_path: Path) -> None:
    """Where `exchange` needs two renames, the earlier store waits under a hidden name."""
    place = tmp_path / f"rsna-256-{KEY}"
    earlier = place.with_name(f".{place.name}.old")
    earlier.mkdir()
    (item,) = find_removable(parse("rsna"), tmp_path, None)
    assert item.paths == (earlier,)
    assert has_leftovers(place)
    remove_leftovers(place)
    assert not earlier.exists()
    assert not has_leftovers(place)


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, 1), ("n\n", 1, 3), ("", 1, 3)])
def test_the_command_asks_for_confirmation(store: Path, answer: str, code: int, left: int) -> None:
    arguments = ["data", "rm", "synthetic", "--size", "64", "--store", str(store)]
    done = CliRunner().invoke(app, arguments, input=answer)
    assert done.exit_code == code, done.output
    assert len(list(store.glob("synthetic-*"))) == left
    assert ("freed" in done.output) == (code == 0)


def test_yes_skips_the_question_and_a_second_removal_is_an_error(store: Path) -> None:
    arguments = ["data", "rm", "synthetic", "--yes", "--store", str(store)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2
    assert "nothing of 'synthetic' is prepared" in " ".join(again.output.split())
    assert (store / "notes.txt").read_text() == "mine"
