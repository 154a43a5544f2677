"""What `data rm` removes, and what it leaves."""

import fcntl
from pathlib import Path

import pytest
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.data.prepare import prepare
from g2dbench.data.reference import parse
from g2dbench.data.removal import removable, remove
from g2dbench.data.store.request import GenerationSettings
from g2dbench.errors import Misuse
from g2dbench.progress import quiet
from g2dbench.registry import Registry

KEY = "0123abcd"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Drawn images in two numbers and two sizes, and what stopped preparations left of others."""
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


def chosen(text: str, store: Path, size: int | None = None) -> list[str]:
    return [item.store for item in removable(parse(text), store, size)]


def test_a_name_means_all_of_it_unless_it_says_which(store: Path) -> None:
    everything = chosen("synthetic", store)
    assert len(everything) == 3
    assert len(chosen("synthetic:3", store)) == 2
    assert len(chosen("synthetic:3", store, 80)) == 1
    assert len(chosen("synthetic", store, 64)) == 2
    assert chosen(everything[0], store) == [everything[0]]
    assert len(chosen("synthetic@g2dbench", store)) == 3
    for text, size in (("synthetic:5", None), ("synthetic@mgca", None), ("synthetic", 90)):
        with pytest.raises(Misuse, match="data list"):
            removable(parse(text), store, size)


def test_what_is_half_made_is_counted_and_removed_and_nothing_else(store: Path) -> None:
    (item,) = removable(parse("rsna"), store, None)
    assert (item.bytes, item.is_whole, len(item.paths)) == (1550, False, 3)
    before = {path.name for path in store.iterdir()}
    remove(item)
    gone = {
        f".rsna-256-{KEY}.partial",
        f".rsna-256-{KEY}.journal",
        f"rsna-256-{KEY}.quarantine.csv",
    }
    assert before - {path.name for path in store.iterdir()} == gone
    assert chosen("my-set", store) == [f"my-set-64-{KEY}"]


def test_a_store_that_is_being_prepared_stays(store: Path) -> None:
    (item,) = removable(parse("rsna"), store, None)
    with (store / f".rsna-256-{KEY}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Misuse, match="another process"):
            remove(item)
    assert all(path.exists() for path in item.paths)


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, 1), ("n\n", 1, 3), ("", 1, 3)])
def test_the_command_asks_first(store: Path, answer: str, code: int, left: int) -> None:
    words = ["data", "rm", "synthetic", "--size", "64", "--store", str(store)]
    done = CliRunner().invoke(app, words, input=answer)
    assert done.exit_code == code, done.output
    assert len(list(store.glob("synthetic-*"))) == left
    assert ("freed" in done.output) == (code == 0)


def test_yes_does_not_ask_and_a_second_time_there_is_nothing(store: Path) -> None:
    words = ["data", "rm", "synthetic", "--yes", "--store", str(store)]
    assert CliRunner().invoke(app, words).exit_code == 0
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 2
    assert "nothing of 'synthetic' is prepared" in " ".join(again.output.split())
    assert (store / "notes.txt").read_text() == "mine"
