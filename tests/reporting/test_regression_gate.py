"""The score gate: verdicts, exit codes, formats, noise, and what it refuses to pass."""

import math
import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from support.reporting.results import result, stored
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.errors import BadResult, Misuse
from g2dbench.evaluation.cell_folder import store_predictions
from g2dbench.registry import Registry
from g2dbench.reporting.gate import gate_formats, regression_gate
from g2dbench.reporting.gate.gate_noise import paired_test
from g2dbench.reporting.gate.regression_gate import Change, exit_code
from g2dbench.reporting.stored_results import read_results
from g2dbench.result import Result, Score, save


def compare(before: list[Result], now: list[Result], **tolerances: float) -> list[Change]:
    return regression_gate.compare(stored(*before), stored(*now), {"": 0.01, **tolerances})


def gate(before: list[Result], now: list[Result], **tolerances: float) -> list[str]:
    return [each.verdict for each in regression_gate.failing(compare(before, now, **tolerances))]


def test_the_gate_passes_on_equal_scores_and_within_the_tolerance() -> None:
    assert gate([result(0.5)], [result(0.5)]) == []
    assert gate([result(0.5)], [result(0.495)]) == []
    assert gate([result(0.5)], [result(0.9)]) == []


def test_a_fall_of_exactly_the_tolerance_passes_whatever_the_rounding() -> None:
    for before in np.arange(2, 100) / 100:
        for tolerance in (0.01, 0.02):
            now = [result(round(before - tolerance, 2))]
            changes = regression_gate.compare(stored(result(before)), stored(*now), {"": tolerance})
            assert changes[0].verdict == "same", (before, tolerance)
    assert gate([result(0.5)], [result(0.4899)]) == ["fell"]


def test_the_gate_fails_on_a_fall_a_missing_cell_and_an_undefined_score() -> None:
    assert gate([result(0.5)], [result(0.48)]) == ["fell"]
    assert gate([result(0.5)], []) == ["missing"]
    assert gate([result(0.5)], [result(math.nan)]) == ["fell"]
    assert gate([result(0.5)], [result(status="failed", reason="x", scores={})]) == ["missing"]


def test_a_failed_cell_without_a_baseline_fails_the_gate() -> None:
    broken = result(status="failed", reason="x", scores={}, model="other")
    assert gate([result(0.5)], [result(0.5), broken]) == ["failed"]


def test_a_metric_with_its_own_tolerance_is_compared_too() -> None:
    both = {"dice": Score(value=0.5), "iou": Score(value=0.5)}
    worse = both | {"iou": Score(value=0.2)}
    assert gate([result(scores=both)], [result(scores=worse)]) == []
    assert gate([result(scores=both)], [result(scores=worse)], iou=0.1) == ["fell"]
    assert gate([result(scores=both)], [result(scores={"dice": Score(value=0.5)})], iou=0.1) == [
        "fell"
    ]
    with pytest.raises(Misuse, match=r"no result has a metric 'iuo'.*dice, iou"):
        gate([result(scores=both)], [result(scores=both)], iuo=0.1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data": "other"}, "baseline's data"),
        ({"subset": "other"}, "baseline's subset"),
        ({"config": {"protocol": {"lr": 2}}}, "settings have changed \\(lr\\)"),
    ],
)
def test_other_data_subsets_and_settings_are_incomparable(change: dict, reason: str) -> None:
    before = result(0.5, config={"protocol": {"lr": 1}})
    now = result(0.1, **({"config": {"protocol": {"lr": 1}}} | change))
    if "data" in change:  # the cell's data set, not the provenance's
        now = result(0.1)
        now = now.model_copy(update={"provenance": now.provenance.model_copy(update=change)})
    (found,) = compare([before], [now])
    assert found.verdict == "incomparable"
    assert pytest.approx(found.now) == 0.1
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(found.reason)
    assert exit_code([found]) == 3


def test_exit_codes() -> None:
    other = result(0.5, model="other", data="x")
    assert exit_code(compare([result(0.5)], [result(0.5)])) == 0
    assert exit_code(compare([result(0.5)], [result(0.4)])) == 1
    assert exit_code(compare([result(0.5), other], [result(0.5)])) == 1
    assert exit_code([]) == 3
    undefined = compare([result(math.nan)], [result(math.nan)])
    assert (undefined[0].verdict, exit_code(undefined)) == ("incomparable", 3)
    empty = compare([result(scores={})], [result(scores={})])
    assert (empty[0].verdict, exit_code(empty)) == ("incomparable", 3)


def test_a_baseline_with_nothing_to_compare_is_refused() -> None:
    with pytest.raises(BadResult, match="nothing to compare with"):
        gate([result(status="failed", scores={})], [result()])


def test_a_new_cell_does_not_fail_the_gate() -> None:
    changes = compare([result()], [result(), result(model="new")])
    assert {change.verdict for change in changes} == {"same", "new"}


HOSTILE = "a|b\x1b[31m<script>\n::error::[/red]`%`"


def test_formats_name_the_failure_and_escape_strangers_text() -> None:
    changes = compare([result(0.5, model=HOSTILE)], [result(0.1, model=HOSTILE)])
    suite = ElementTree.fromstring(gate_formats.junit(changes))
    assert suite.get("failures") == "1"
    assert "0.5000 -> 0.1000" in suite.find("testcase/failure").get("message")
    (line,) = gate_formats.github_annotations(changes)
    assert "\n" not in line
    assert "\x1b" not in line
    assert "%25" in line
    table = gate_formats.markdown(changes)
    assert "<script>" not in table
    assert "\x1b" not in table
    assert table.encode("utf-8")
    assert all(row.count("|") - row.count("\\|") == 8 for row in table.splitlines()[4:])


@pytest.mark.parametrize("word", ["x", "dice=", "-1", "dice=nan", "=", "inf"])
def test_a_bad_tolerance_is_misuse(word: str) -> None:
    with pytest.raises(Misuse, match="--tolerance"):
        regression_gate.parse_tolerances([word])


def test_tolerances_are_parsed() -> None:
    assert regression_gate.parse_tolerances(["0.02", "dice=0.5"]) == {"": 0.02, "dice": 0.5}


def zero_shot(folder: Path, noise: float, drop: float, seed: int) -> None:
    """A zero-shot result of 200 patients; drop: how far positive scores are lowered."""
    common, own = np.random.default_rng(0), np.random.default_rng(seed)
    truth = np.arange(200) % 2
    score = truth * (1.0 - drop) + common.normal(size=200) + noise * own.normal(size=200)
    table = pd.DataFrame({
        "id": [f"i{n:03d}" for n in range(200)],
        "patient": [f"p{n:03d}" for n in range(200)],
        "finding": "Edema",
        "truth": truth.astype(float),
        "score": 1 / (1 + np.exp(-score)),
        "claim": (score > 0).astype(float),
    })  # fmt: skip
    digest = store_predictions(table, folder)
    task = Registry().find(__import__("g2dbench.cards").cards.TaskCard, "zeroshot").load()
    protocol = task.PROTOCOLS["g2d"]
    save(
        result(
            scores=task.score(table, protocol), task="zeroshot", fraction=0.0, predictions=digest
        ).model_copy(update={"metric": "auc"}),
        folder,
    )


@pytest.mark.parametrize(
    ("noise", "drop", "verdict"), [(0.6, 0.0, "noise"), (0.02, 0.6, "fell"), (0.0, 0.0, "same")]
)
def test_the_paired_test_tells_a_fall_from_noise(
    tmp_path: Path, noise: float, drop: float, verdict: str
) -> None:
    zero_shot(tmp_path / "before" / "cell", 0.0, 0.0, 0)
    seeds = range(1, 20)
    for seed in seeds:
        zero_shot(tmp_path / "now" / "cell", noise, drop, seed)
        before, _ = read_results(tmp_path / "before")
        now, _ = read_results(tmp_path / "now")
        fell = before[0].result.main.value - now[0].result.main.value > 0.0005
        if fell or not noise:
            break
    (change,) = regression_gate.compare(before, now, {"": 0.0005}, paired_test(Registry()))
    assert change.verdict == verdict
    (strict,) = regression_gate.compare(before, now, {"": 0.0005})
    assert strict.verdict == ("fell" if verdict == "noise" else verdict)


def invoke(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["regress", *map(str, words)])
    return done.exit_code, done.output


def test_the_command_writes_reports_and_updates_the_baseline(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    save(result(0.5), old / "seg" / "cell-1")
    save(result(0.9, model="kept"), old / "seg" / "kept-1")
    save(result(0.3), new / "seg" / "cell-2")
    tolerances = tmp_path / "tolerances.txt"
    tolerances.write_text("0.05  # all\ndice=0.1\n")
    words = ("--baseline", old, new, "--tolerances", tolerances, "--github")
    code, text = invoke(*words, "--junit", tmp_path / "j.xml", "--summary", tmp_path / "s.md")
    assert code == 1
    assert "::error" in text
    assert 'failures="2"' in (tmp_path / "j.xml").read_text()
    assert "missing" in (tmp_path / "s.md").read_text()
    code, text = invoke("--baseline", old, new, "--update")
    assert code == 0
    assert sorted(path.name for path in (old / "seg").iterdir()) == ["cell-2", "kept-1"]
    assert invoke("--baseline", old, new)[0] == 1


def test_a_broken_file_is_named_and_does_not_hide_the_others(tmp_path: Path) -> None:
    save(result(0.5), tmp_path / "old" / "cell")
    save(result(0.5), tmp_path / "new" / "cell")
    broken = tmp_path / "new" / "broken" / "result.json"
    broken.parent.mkdir()
    broken.write_text("{")
    code, text = invoke("--baseline", tmp_path / "old", tmp_path / "new")
    assert code == 1
    assert "1 same" in text
    assert str(broken) in text.replace("\n", "")


def test_many_failures_take_linear_time() -> None:
    (change,) = compare([result(0.5)], [result(0.1)])
    changes = [replace(change, model=f"m{k}") for k in range(20_000)]
    began = time.process_time()
    text = gate_formats.junit(changes)
    assert time.process_time() - began < 4
    assert text.count("<failure ") == 20_000
