"""`verify`: every kind of edit and swap is found, and one bad file does not hide another."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.mask_cells import mask_cell
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.registry import Registry
from g2dbench.reporting.verification import verify
from g2dbench.result import PREDICTIONS_FILE, RESULT_FILE, SUBSET_FILE, checksum_of
from g2dbench.system.files import file_digest

Edit = Callable[[dict[str, Any]], None]
FOUND = [8, 4, 2, 1]


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    return mask_cell(tmp_path, "a", 0, FOUND, real_folder=True)


def edit(folder: Path, change: Edit, seal: bool = False) -> None:
    """Change the result file; seal: as someone who knows the checksum would do it."""
    path = folder / RESULT_FILE
    raw = json.loads(path.read_text())
    change(raw)
    if seal:
        raw["checksum"] = checksum_of(raw)
    path.write_text(json.dumps(raw))


def problems(folder: Path) -> str:
    return "\n".join(verify(folder / RESULT_FILE, Registry()).problems)


def test_an_untouched_cell_is_verified(cell: Path) -> None:
    assert verify(cell / RESULT_FILE, Registry()) == verify(cell / RESULT_FILE, Registry())
    assert problems(cell) == ""


def put(*place: str, value: object) -> Edit:
    def change(raw: dict[str, Any]) -> None:
        for name in place[:-1]:
            raw = raw[name]
        assert place[-1] in raw
        raw[place[-1]] = value

    return change


EDITS = {
    "score": (put("scores", "dice", "value", value=0.99), "dice: stored 0.990000"),
    "low": (put("scores", "dice", "low", value=0.01), "dice: low stored 0.010000"),
    "high": (put("scores", "dice", "high", value=0.999), "dice: high stored"),
    "n": (put("scores", "dice", "n", value=400), "dice: n stored 400, recomputed 4"),
    "bearers": (put("scores", "dice", "bearers", value=99), "bearers stored 99"),
    "metric": (put("metric", value="best"), "no metric 'best'"),
    "count of training images": (put("counts", "train", value=999), "999 training images"),
    "count of test images": (put("counts", "test", value=3), "3 test images"),
    "model": (put("cell", "model", value="g2d"), "its folder is that of a"),
    "task": (put("cell", "task", value="cls"), "its task is cls"),
    "data": (put("cell", "data", value="rsna"), "its data set is rsna"),
    "fraction": (put("cell", "fraction", value=0.01), "small-f0.01"),
    "seed": (put("cell", "seed", value=7), "s7"),
    "subset seed": (put("cell", "subset_seed", value=7), "digest in its folder"),
    "limit": (put("cell", "limit", value=2), "its limit is 2"),
    "weights": (put("provenance", "weights", value="x"), "digest in its folder"),
    "data version": (put("provenance", "data", value="x"), "digest in its folder"),
    "subset": (put("provenance", "subset", value="0" * 64), "another subset"),
    "version": (put("provenance", "version", value="9"), "digest in its folder"),
    "settings": (put("provenance", "config", "protocol", value={}), "digest in its folder"),
    "precision": (put("provenance", "precision", value="bf16"), "its provenance says bf16"),
    "commit": (put("provenance", "commit", value="HEAD"), "is no commit"),
    "predictions": (put("provenance", "predictions", value="0" * 64), "is not the file"),
    "failed": (put("status", value="failed"), "but it has scores"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_found_even_with_a_new_checksum(cell: Path, name: str) -> None:
    change, words = EDITS[name]
    edit(cell, change)
    assert "the file was edited" in problems(cell)
    assert words in problems(cell)
    edit(cell, change, seal=True)
    assert "the file was edited" not in problems(cell)
    assert words in problems(cell)


@pytest.mark.parametrize("field", ["commit", "hardware", "seconds", "created", "packages"])
def test_what_nothing_repeats_is_found_by_the_checksum(cell: Path, field: str) -> None:
    values = {"commit": "a" * 40, "seconds": 1.5, "packages": {"torch": "9"},
              "created": "2020-01-01T00:00:00+00:00"}  # fmt: skip
    edit(cell, put("provenance", field, value=values.get(field, "x")))
    assert problems(cell) == "the file was edited after it was written: its checksum does not match"
    edit(cell, lambda raw: raw.pop("checksum"))
    assert problems(cell) == "it has no checksum"


def test_swapped_files_are_found(tmp_path: Path, cell: Path) -> None:
    other = mask_cell(tmp_path, "b", 0, FOUND[::-1], real_folder=True)
    shutil.copy(other / PREDICTIONS_FILE, cell / PREDICTIONS_FILE)
    assert "is not the file from which the result was computed" in problems(cell)
    digest = file_digest(cell / PREDICTIONS_FILE)
    edit(cell, put("provenance", "predictions", value=digest), seal=True)
    assert problems(cell) == ""  # the same masks in another order have the same scores
    worse = mask_cell(tmp_path, "c", 0, [1] * 4, real_folder=True)
    shutil.copy(worse / PREDICTIONS_FILE, cell / PREDICTIONS_FILE)
    digest = file_digest(cell / PREDICTIONS_FILE)
    edit(cell, put("provenance", "predictions", value=digest), seal=True)
    assert "dice: stored" in problems(cell)
    shutil.rmtree(cell)
    shutil.copytree(other, cell)  # the whole cell of another model
    assert "its model is b, but its folder is that of a" in problems(cell)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"ids": 3, "digest": "x"}', "[" * 99999])
def test_a_broken_subset_file_is_one_sentence(cell: Path, text: str) -> None:
    (cell / SUBSET_FILE).write_text(text)
    assert "subset.json cannot be read" in problems(cell)


def test_other_ids_in_the_subset_file_are_found(cell: Path) -> None:
    path = cell / SUBSET_FILE
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(raw | {"ids": [*raw["ids"][1:], "another"]}))
    assert "do not give its digest" in problems(cell)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1 not really PAR1", b"\x00" * 100])
def test_garbage_as_predictions_is_one_sentence(cell: Path, content: bytes) -> None:
    (cell / PREDICTIONS_FILE).write_bytes(content)
    assert "is not the file" in problems(cell)
    digest = file_digest(cell / PREDICTIONS_FILE)
    edit(cell, put("provenance", "predictions", value=digest), seal=True)
    assert "its predictions cannot be scored" in problems(cell)


def test_a_result_of_an_older_schema_is_checked_without_checksum(cell: Path) -> None:
    def age(raw: dict[str, Any]) -> None:
        raw["schema_version"] = 3
        del raw["checksum"]

    edit(cell, age)
    found = verify(cell / RESULT_FILE, Registry())
    assert not found.problems
    assert "could not be checked" in found.notes[0]


def test_the_command_reports_every_bad_file_and_its_exit_code_says_so(
    tmp_path: Path, cell: Path
) -> None:
    def run(*words: object) -> tuple[int, str]:
        found = CliRunner().invoke(app, [str(word) for word in words])
        return found.exit_code, found.output

    assert run("verify", tmp_path) == (0, "1 result: 1 verified, 0 rejected\n")
    (tmp_path / "empty").mkdir()
    assert run("verify", tmp_path / "empty")[0] == 1
    assert run("verify", tmp_path / "absent")[0] == 1
    for name in ("b", "c", "d"):
        mask_cell(tmp_path, name, 0, FOUND, real_folder=True)
    first, second, third, _ = sorted(tmp_path.rglob(RESULT_FILE))
    first.write_text("{")
    edit(second.parent, put("provenance", "hardware", value="[/x]\x1b[31m"))
    (third.parent / PREDICTIONS_FILE).unlink()
    code, text = run("verify", tmp_path)
    assert code == 1
    assert "4 results: 1 verified, 3 rejected" in text
    for path in (first, second, third):
        assert str(path.parent) in text.replace("\n", "")
    assert "\x1b" not in text
    code, text = run("score", tmp_path)
    assert code == 1
    assert "left out" in text
