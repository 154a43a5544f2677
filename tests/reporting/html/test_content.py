"""What a report contains, against the leaderboard, scikit-learn and a paired comparison."""

import hashlib
import shlex
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from support.reporting.report import FINDINGS, IMAGES, decisions, write
from support.reporting.results import result, stored

from g2dbench.errors import BadData
from g2dbench.registry import Registry
from g2dbench.reporting.html import curves, records
from g2dbench.reporting.html.report import build_report
from g2dbench.reporting.paired_comparison import compare
from g2dbench.reporting.stored_results import read_results
from g2dbench.result import load, save


def area(points: list[list[float]]) -> float:
    x, y = np.array(points).T
    return float(np.trapezoid(y, x))


@pytest.mark.parametrize("seed", range(5))
def test_the_area_below_a_roc_curve_is_the_auc(seed: int) -> None:
    table = decisions(seed)
    found = curves.curves(table)
    assert set(found) == set(FINDINGS)
    for finding, rows in table.groupby("finding"):
        auc = roc_auc_score(rows["truth"], rows["score"])
        assert area(found[str(finding)]["roc"]) == pytest.approx(auc, abs=1e-5)
        assert found[str(finding)]["positives"] == IMAGES / 4
        assert sum(each[2] for each in found[str(finding)]["reliability"]) == IMAGES


def test_a_long_curve_is_thinned_and_keeps_its_area() -> None:
    random = np.random.default_rng(0)
    truth = random.random(5000) < 0.3
    score = random.random(5000) + 0.5 * truth
    points = curves._curves_of(truth, score)["roc"]
    assert len(points) <= curves.MAX_POINTS + 2
    assert area(points) == pytest.approx(roc_auc_score(truth, score), abs=2e-3)
    assert points[0] == [0.0, 0.0]
    assert points[-1] == [1.0, 1.0]


def test_scores_that_are_no_probabilities_have_no_reliability_curve() -> None:
    table = decisions(0).assign(score=lambda rows: 10 * rows["score"])
    assert curves.curves(table)["nodule"]["reliability"] is None


def test_differences_are_those_of_the_paired_comparison(tmp_path: Path) -> None:
    for model, skill in (("good", 0.4), ("bad", 0.1)):
        for seed in (0, 1):
            rows = decisions(10 * seed + int(100 * skill), skill)
            folder = tmp_path / model / str(seed)
            score = records.Score(value=skill + seed / 100, low=0.1, high=0.9, n=IMAGES)
            write(folder, rows, model=model, model_seed=seed, scores={"auc": score})
    found, _ = read_results(tmp_path)
    (record,) = build_report(found, Registry()).data["differences"]
    assert record["reference"] == "good"
    (row,) = record["rows"]
    folders = [[tmp_path / name / str(seed) for seed in (0, 1)] for name in ("bad", "good")]
    test = compare(*folders, Registry())
    assert row["seeds"] == 2
    assert row["value"] == pytest.approx(test.value, rel=1e-5)
    assert (row["low"], row["high"]) == pytest.approx((test.low, test.high), rel=1e-5)
    assert row["p_holm"] == row["p"]


def test_models_without_shared_seeds_are_not_compared_and_the_reason_is_given() -> None:
    page = build_report(stored(result(0.5), result(0.4, model="x")), Registry())
    (record,) = page.data["differences"]
    assert "no seed" in record["rows"][0]["reason"]


def test_every_result_has_a_row_and_details_in_the_same_order() -> None:
    results = [result(at / 1000, seed=at) for at in range(records.BLOCK + 3)]
    page = build_report(stored(*results), Registry())
    value = records.ROW.index("value")
    assert [row[value] for row in page.data["rows"]] == [at / 1000 for at in range(len(results))]
    assert [len(block) for block in page.details] == [records.BLOCK, 3]
    assert page.details[1][2]["cell"]["seed"] == len(results) - 1


def test_the_command_repeats_what_is_not_the_default() -> None:
    cell = result(
        source="runs/a b", limit=3, precision="bf16", subset_seed=2, draw="random",
        validation="budget",
    )  # fmt: skip
    words = shlex.split(records.command_of(cell))
    assert words[words.index("--model") + 1] == "runs/a b"
    for option, value in (("--limit", "3"), ("--precision", "bf16"), ("--draw", "random")):
        assert words[words.index(option) + 1] == value
    assert "--val-budget" in words
    assert "--limit" not in shlex.split(records.command_of(result()))


def test_without_the_images_the_report_says_why(tmp_path: Path) -> None:
    write(tmp_path / "cell", decisions(0))
    found, _ = read_results(tmp_path)

    def missing(_: object) -> None:
        raise BadData("nothing is prepared")

    page = build_report(found, Registry(), open_data=missing)
    assert page.pictures == []
    assert any("nothing is prepared" in note for note in page.notes)
    assert len(page.data["curves"]) == 1


@pytest.mark.parametrize("content", [b"", b"PAR1 no table", "text", "numbers"])
def test_broken_predictions_are_a_note_and_no_traceback(
    tmp_path: Path, content: bytes | str
) -> None:
    table = decisions(0)
    if content == "text":
        table = table.assign(truth="x")
    folder = tmp_path / "cell"
    write(folder, table.assign(score="y") if content == "numbers" else table)
    if isinstance(content, bytes):
        (folder / "predictions.parquet").write_bytes(content)
        found = load(folder / "result.json")
        digest = hashlib.sha256(content).hexdigest()
        origin = found.provenance.model_copy(update={"predictions": digest})
        save(found.model_copy(update={"provenance": origin}), folder)
    stored_results, _ = read_results(tmp_path)
    page = build_report(stored_results, Registry())
    assert page.data["curves"] == []
    assert any("cannot be read" in note for note in page.notes)
