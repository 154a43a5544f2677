"""The published scores: all there, carried over exactly, and beside the right results."""

import csv
import io
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from support.reporting.results import result
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.reporting.published.comparison import Beside, beside_paper, is_inside
from g2dbench.reporting.published.formats import TEXT_FORMATS
from g2dbench.reporting.published.scores import DATASETS, TASKS, paper_settings, read_published
from g2dbench.result import Score, save

TABLES = {"1": 120, "2a": 24, "2b": 68, "3": 360, "4": 81, "5a": 9, "5b": 12, "5c": 9, "5d": 6,
          "5e": 12, "5f": 9, "7": 18, "8": 6}  # fmt: skip
"""Numbers of cells, counted in the paper's tables."""


def measured(*results: object) -> list[Beside]:
    return [each for each in beside_paper(results) if each.measured]  # type: ignore[arg-type]


def test_every_table_is_complete() -> None:
    assert Counter(score.table for score in read_published()) == TABLES
    assert sum(TABLES.values()) == 734
    assert {s.task for s in read_published()} == set(TASKS)
    assert {s.dataset for s in read_published()} == set(DATASETS)


def test_some_values_as_the_paper_prints_them() -> None:
    values = {
        (s.table, s.dataset, s.metric, s.fraction, s.method): s.value for s in read_published()
    }
    assert values["1", "SIIM", "Dice", 0.01, "G2D (encoder-decoder)"] == 65.6
    assert values["1", "SIIM", "Dice", 0.01, "Random Init"] == 9.0


def test_every_table_of_the_suite_is_a_published_one() -> None:
    assert {table for table, _ in paper_settings()} == {"1", "2a", "2b", "3", "4", "7"}


@pytest.mark.parametrize(
    ("model", "protocol", "method"),
    [
        ("g2d-tiny+66b074@mimic_cxr", "g2d", "G2D (encoder-decoder)"),
        ("g2d-tiny", "g2d-encoder", "G2D (encoder)"),
        ("g2d", "small-encoder", "G2D (encoder)"),
        ("random-init", "g2d", "Random Init"),
        ("gloria-mimic", "g2d", "GLoRIA-MIMIC"),
        ("gloria-small", "g2d", "GLoRIA"),
        ("medklip:weights.pth", "g2d", "MedKLIP"),
    ],
)
def test_a_model_is_beside_its_method(model: str, protocol: str, method: str) -> None:
    found = measured(result(0.6, model=model, protocol=protocol, data="siim@mgca"))
    assert {each.published.method for each in found if each.published.table == "1"} == {method}


def test_a_model_of_another_name_is_beside_none() -> None:
    for model in ("g2dx", "own", "mgcax"):
        assert not measured(result(0.6, model=model, data="siim@mgca"))
    assert not measured(result(0.6, data="synthetic"), result(0.6, data="siim", fraction=0.5))


def test_the_difference_the_interval_and_other_settings() -> None:
    first = result(0.6, data="siim@mgca", seed=0)
    second = result(0.7, data="siim@mgca", seed=1)
    other = result(0.05, data="siim", protocol="small", model="convirt", limit=5)
    found = {each.published.method: each for each in measured(first, second, other)
             if each.published.table == "1"}  # fmt: skip
    ours = found["G2D (encoder-decoder)"]
    (value,) = ours.measured
    assert (value.value, value.low, value.high) == pytest.approx((65, 55, 75))
    assert (value.seeds, value.notes, is_inside(ours.published, value)) == (2, (), True)
    (value,) = found["ConVIRT"].measured
    assert value.notes == (
        "protocol small, not g2d or g2d-encoder", "data siim, not siim@mgca",
        "at most 5 test images",
    )  # fmt: skip
    assert is_inside(found["ConVIRT"].published, value) is False


def test_a_finding_of_its_own_is_matched() -> None:
    scores = {"auc": Score(value=0.8), "auc:Pleural_Thickening": Score(value=0.7, low=0.6, high=1)}
    found = measured(result(task="finetune", data="nih_cxr14", scores=scores))
    by_metric = {each.published.metric: each.measured[0] for each in found
                 if each.published.table == "3"}  # fmt: skip
    assert by_metric.keys() == {"AUC", "AUC/Pleural_Thickening"}
    assert by_metric["AUC/Pleural_Thickening"].value == pytest.approx(70)
    assert is_inside(found[0].published, by_metric["AUC"]) is None


def test_the_command_prints_all_cells_in_their_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(result(0.6, data="siim@mgca", model="g2d-x"), tmp_path / "a")
    run = CliRunner().invoke
    text = run(app, ["leaderboard", str(tmp_path), "--against", "paper"]).stdout
    assert max(map(len, text.splitlines())) <= 80
    printed = re.findall(r"(?<=[ │])(?:\d+\.\d(?:±\d+\.\d)?|below 1|not deployable|-)(?= *│)", text)
    assert len(printed) == 734
    assert "60.0 -5.6 =" in text
    rows = run(app, ["leaderboard", str(tmp_path), "--against", "paper", "--format", "csv"]).stdout
    assert len(list(csv.DictReader(io.StringIO(rows)))) == 734
    assert run(app, ["leaderboard", "--against", "paper", "--format", "latex"]).exit_code == 2
    alone = run(app, ["leaderboard", str(tmp_path / "none"), "--against", "paper"])
    assert alone.exit_code == 0
    assert "734 published scores, 0 measured" in " ".join(alone.stdout.split())


@pytest.mark.parametrize("form", sorted(TEXT_FORMATS))
def test_strangers_labels_are_text(form: str) -> None:
    text = TEXT_FORMATS[form](
        beside_paper([result(0.6, data="siim@mgca", model="g2d:\x1b[31m|[x](y)<b>")])
    )
    assert "\x1b" not in text
    if form == "json":
        assert len(json.loads(text)["rows"]) >= 734
    if form == "md":
        assert "<b>" not in text
        assert "[x](" not in text
