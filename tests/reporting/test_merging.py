"""`merge`, `schema` and `rerun`: nothing lost, nothing mixed, the row's own command."""

import json
import os
import shlex
from pathlib import Path

import pytest
from support.mask_cells import mask_cell
from support.reporting.results import result
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.errors import BadResult, Misuse
from g2dbench.registry import Registry
from g2dbench.reporting.merging import merge
from g2dbench.reporting.reproduction import command_of, differences
from g2dbench.reporting.verification import verify
from g2dbench.result import RESULT_FILE, load, load_all, save

FOUND = [8, 4, 2, 1]


def test_two_machines_are_joined_and_the_result_verifies(tmp_path: Path) -> None:
    mask_cell(tmp_path / "one", "a", 0, FOUND, real_folder=True)
    for name in ("a", "b"):
        mask_cell(tmp_path / "two", name, 0, FOUND, real_folder=True)
    found = merge([tmp_path / "one", tmp_path / "two"], tmp_path / "all")
    assert (found.copied, found.present, found.problems) == (2, 1, ())
    paths = sorted((tmp_path / "all").rglob(RESULT_FILE))
    assert len(paths) == 2
    assert not any(verify(path, Registry()).problems for path in paths)
    again = merge([tmp_path / "two"], tmp_path / "all")
    assert (again.copied, again.present) == (0, 2)


def test_a_contradiction_and_a_broken_file_are_named_and_the_rest_is_joined(
    tmp_path: Path,
) -> None:
    mask_cell(tmp_path / "one", "a", 0, FOUND, real_folder=True)
    mask_cell(tmp_path / "two", "a", 0, FOUND[::-1], real_folder=True)
    mask_cell(tmp_path / "two", "b", 0, FOUND, real_folder=True)
    (tmp_path / "two" / "c").mkdir()
    (tmp_path / "two" / "c" / RESULT_FILE).write_text("{")
    found = merge([tmp_path / "one", tmp_path / "two"], tmp_path / "all")
    assert found.copied == 2
    assert len(found.problems) == 2
    assert any("the same cell with other predictions" in line for line in found.problems)
    words = ["merge", str(tmp_path / "all"), str(tmp_path / "one"), str(tmp_path / "two")]
    assert CliRunner().invoke(app, words).exit_code == 1


def test_a_finished_cell_replaces_a_failed_one_but_not_the_other_way_round(tmp_path: Path) -> None:
    done = mask_cell(tmp_path / "one", "a", 0, FOUND, real_folder=True)
    failed = tmp_path / "two" / done.relative_to(tmp_path / "one")
    stored = load(done / RESULT_FILE)
    save(stored.model_copy(update={"status": "failed", "scores": {}}), failed)
    merge([tmp_path / "two", tmp_path / "one"], tmp_path / "all")
    assert load_all(tmp_path / "all")[0].status == "done"
    merge([tmp_path / "two"], tmp_path / "all")
    assert load_all(tmp_path / "all")[0].status == "done"


def test_links_are_not_copied_and_the_target_is_no_source(tmp_path: Path) -> None:
    cell = mask_cell(tmp_path / "one", "a", 0, FOUND, real_folder=True)
    os.symlink("/etc/hostname", cell / "head.safetensors")
    merge([tmp_path / "one"], tmp_path / "all")
    assert not list((tmp_path / "all").rglob("head.safetensors"))
    with pytest.raises(Misuse, match="both source and target"):
        merge([tmp_path / "one"], tmp_path / "one")


def test_an_edited_cell_is_not_merged(tmp_path: Path) -> None:
    cell = mask_cell(tmp_path / "one", "a", 0, FOUND, real_folder=True)
    path = cell / RESULT_FILE
    path.write_text(path.read_text().replace('"test": 4', '"test": 400'))
    found = merge([tmp_path / "one"], tmp_path / "all")
    assert found.copied == 0
    assert "was edited" in found.problems[0]


def test_the_schema_describes_what_is_written(tmp_path: Path) -> None:
    schema = json.loads(CliRunner().invoke(app, ["schema"]).stdout)
    raw = json.loads(save(result(), tmp_path).read_text())
    assert raw.keys() == schema["properties"].keys()
    assert schema["required"] == ["cell", "status", "metric", "provenance"]
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(raw, schema)


def test_an_older_result_gives_the_command_of_its_cell() -> None:
    old = result(source="biovil:w", limit=3, config={"image_size": 64, "batch_size": 8})
    words = command_of(old)
    pairs = dict(zip(words[1::2], words[2::2], strict=True))
    assert words[0] == "eval"
    assert pairs["--model"] == "biovil:w"
    assert (pairs["--task"], pairs["--fraction"], pairs["--limit"]) == ("seg", "0.01", "3")
    assert (pairs["--size"], pairs["--batch-size"]) == ("64", "8")
    shots = command_of(result(shots=4))
    assert "--shots" in shots
    assert "--fraction" not in shots
    with pytest.raises(BadResult, match=r"was imported from x\.csv"):
        command_of(result(source="x.csv", details={"imported": True}))


def test_versions_that_differ_are_named() -> None:
    before = result(version="0.1", packages={"torch": "2.6", "gone": "1"}).provenance
    now = result(version="0.2", packages={"torch": "2.7"}).provenance
    assert differences(before, now) == [
        "version: 0.1 then, 0.2 now", "gone: 1 then, not installed now", "torch: 2.6 then, 2.7 now"
    ]  # fmt: skip


@pytest.mark.integration
def test_a_row_is_repeated_with_equal_scores(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--model", "random-init", "--data", "synthetic:120", "--size", "64", "--task", "cls",
             "--protocol", "sweep+uncertain=zeros", "--fraction", "0.2", "--seed", "3",
             "--subset-seed", "2", "--store", str(small_store)]  # fmt: skip
    assert CliRunner().invoke(app, ["eval", *words]).exit_code == 0
    (path,) = (tmp_path / "results").rglob(RESULT_FILE)
    printed = CliRunner().invoke(app, ["rerun", str(path), "--store", str(small_store)]).stdout
    command = shlex.split(printed.splitlines()[0])
    assert command[:2] == ["g2dbench", "eval"]
    assert CliRunner().invoke(app, command[1:]).exit_code == 0
    (first,), (second,) = load_all(tmp_path / "results"), load_all(tmp_path / "rerun")
    assert first.cell == second.cell
    assert first.model_dump_json(include={"scores"}) == second.model_dump_json(include={"scores"})
