"""`report` and `errors` as commands: files, exit codes, and what is printed."""

import csv
from pathlib import Path

import pytest
from PIL import Image
from support.reporting.report import decisions, write
from typer.testing import CliRunner, Result

from g2dbench.cli import app
from g2dbench.data.opening import open_prepared
from g2dbench.registry import Registry
from g2dbench.result import load, save


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def provenance(cell: Path, **changes: object) -> None:
    found = load(cell / "result.json")
    changed = found.provenance.model_copy(update=changes)
    save(found.model_copy(update={"provenance": changed}), cell)


@pytest.fixture
def results(small_store: Path, tmp_path: Path) -> Path:
    """One result whose images are those of `synthetic:120` in the small store."""
    data = open_prepared("synthetic:120", small_store, Registry(), size=64)
    ids = data.table["id"].tolist()
    table = decisions(0).assign(id=lambda rows: [ids[int(name[1:])] for name in rows["id"]])
    cell = tmp_path / "results" / "cell"
    config = {"image_size": 64}
    write(cell, table, data.fingerprint, data="synthetic:120", config=config)
    return tmp_path / "results"


@pytest.mark.parametrize("no_images", [False, True])
def test_the_report_names_its_file_and_what_it_contains(
    results: Path, small_store: Path, tmp_path: Path, no_images: bool
) -> None:
    out = tmp_path / "report.html"
    words = ["report", results, "--out", out, "--store", small_store]
    done = run(*words, *["--no-images"] * no_images)
    assert done.exit_code == 0, done.output
    assert "report.html" in done.output
    text = out.read_text()
    assert ("of the test set" in done.output) is not no_images
    assert ("data:image/jpeg" in text) is not no_images
    assert ("s0-i0000" in text) is not no_images


def test_other_images_than_those_evaluated_are_refused(
    results: Path, small_store: Path, tmp_path: Path
) -> None:
    provenance(results / "cell", data="0" * 64)
    done = run("errors", results / "cell", "--out", tmp_path / "e.csv", "--store", small_store)
    assert done.exit_code == 1
    assert "fingerprint" in done.output
    done = run("report", results, "--out", tmp_path / "r.html", "--store", small_store)
    assert done.exit_code == 0
    assert "fingerprint" in (tmp_path / "r.html").read_text()


def test_a_broken_result_is_named_and_the_report_is_written(results: Path, tmp_path: Path) -> None:
    (results / "other").mkdir()
    (results / "other" / "result.json").write_text("{}")
    out = tmp_path / "report.html"
    done = run("report", results, "--out", out, "--no-images")
    assert done.exit_code == 1
    assert "left out" in done.output
    assert "1 file left out" in out.read_text()


def test_errors_writes_a_table_and_a_picture(
    results: Path, small_store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "errors.csv"
    words = ["--finding", "nodule", "--top", "3", "--out", out, "--store", small_store]
    done = run("errors", results / "cell" / "result.json", *words)
    assert done.exit_code == 0, done.output
    lines = list(csv.DictReader(out.read_text().splitlines()))
    assert {line["finding"] for line in lines} == {"nodule"}
    assert Image.open(out.with_suffix(".png")).width > 500


def test_errors_refuses_a_file_that_is_no_table(results: Path, tmp_path: Path) -> None:
    done = run("errors", results / "cell", "--out", tmp_path / "errors.png")
    assert done.exit_code == 2
    assert "CSV" in done.output
