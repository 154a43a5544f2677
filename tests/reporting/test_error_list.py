"""The list of the worst errors: order, limits, and texts that are no formulas."""

import csv
from pathlib import Path

import pytest
from support.reporting.report import FINDINGS, decisions, write

from g2dbench.errors import BadResult, Misuse
from g2dbench.reporting.errors.error_list import to_csv, worst_errors
from g2dbench.reporting.stored_results import StoredResult


def test_the_worst_come_first_and_each_kind_is_limited(tmp_path: Path) -> None:
    table = decisions(0)
    folder = tmp_path / "cell"
    stored = StoredResult(write(folder, table), folder)
    found = worst_errors(stored, "nodule", 3)
    lines = list(csv.DictReader(to_csv(found.cases).splitlines()))
    alarms = table.query("finding == 'nodule' and truth == 0 and claim == 1")
    wanted = alarms.sort_values("score", ascending=False)["id"].tolist()[:3]
    assert [line["id"] for line in lines if line["kind"] == "false positive"] == wanted
    misses = table.query("finding == 'nodule' and truth == 1 and claim == 0")
    wanted = misses.sort_values("score")["id"].tolist()[:3]
    assert [line["id"] for line in lines if line["kind"] == "miss"] == wanted
    assert {line["finding"] for line in lines} == {"nodule"}
    both = worst_errors(stored, None, 100).cases
    assert {case.finding for case in both} == set(FINDINGS)


def test_an_unknown_finding_and_missing_predictions_are_errors(tmp_path: Path) -> None:
    folder = tmp_path / "cell"
    stored = StoredResult(write(folder, decisions(0)), folder)
    with pytest.raises(Misuse, match="did you mean 'nodule'"):
        worst_errors(stored, "nodul", 3)
    (folder / "predictions.parquet").write_bytes(b"other")
    with pytest.raises(BadResult, match="--rerun"):
        worst_errors(stored, None, 3)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_a_formula_in_a_text_is_inert(tmp_path: Path, text: str) -> None:
    table = decisions(0).assign(patient=text)
    folder = tmp_path / "cell"
    found = worst_errors(StoredResult(write(folder, table), folder), None, 3)
    (line, *_) = csv.DictReader(to_csv(found.cases).splitlines())
    assert line["patient"] == f"'{text}"
