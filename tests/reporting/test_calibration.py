"""Calibration of stored predictions: planted temperatures, by hand, degenerate, the command."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.metrics import brier_score_loss, log_loss
from support.reporting.stored_predictions import predictions, store_cell
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.errors import BadResult
from g2dbench.reporting.calibration import calibration, crossfit_folds, why_not
from g2dbench.result import PREDICTIONS_FILE, VALID_PREDICTIONS_FILE


def planted(count: int, temperature: float, seed: int = 0, finding: str = "x") -> pd.DataFrame:
    """Outcomes of true probabilities; the scores have their logits multiplied by `temperature`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=count) * 2
    truth = (rng.random(count) < expit(logits)).astype(float)
    score = expit(logits * temperature)
    return predictions([f"p{n // 2}" for n in range(count)], finding, list(truth), list(score))


def test_a_planted_temperature_is_found_and_calibrates() -> None:
    found = calibration(planted(4000, 3.0), planted(4000, 3.0, seed=1))
    for each in found.temperatures.values():
        assert each["x"] == pytest.approx(3, rel=0.1)
    assert set(found.temperatures) == {"crossfit_1", "crossfit_2", "valid"}
    assert found.scores["ece"].value > 0.1
    for name in ("ece_crossfit", "ece_temperature"):
        assert found.scores[name].value < 0.03
    assert found.scores["brier_temperature"].value < found.scores["brier"].value
    calibrated = calibration(planted(4000, 1.0))
    assert calibrated.scores["ece"].value < 0.03
    assert "ece_temperature" not in calibrated.scores


def test_crossfit_uses_the_other_half_only_and_matches_scikit_learn() -> None:
    table = planted(300, 2.0)
    found = calibration(table)
    folds = crossfit_folds(table["patient"].to_numpy(object))
    truth, value = table["truth"].to_numpy(), table["score"].to_numpy()
    scaled = np.empty(300)
    for fold in (0, 1):
        other = folds != fold
        best = minimize_scalar(
            lambda t, rows=other: log_loss(truth[rows], expit(logit(value[rows]) / t)),
            bounds=(0.1, 20), method="bounded", options={"xatol": 1e-8},
        )  # fmt: skip
        assert found.temperatures[f"crossfit_{fold + 1}"]["x"] == pytest.approx(best.x, rel=1e-4)
        scaled[folds == fold] = expit(logit(value[folds == fold]) / best.x)
    assert found.scores["brier_crossfit"].value == pytest.approx(brier_score_loss(truth, scaled))
    assert found.scores["brier"].value == pytest.approx(brier_score_loss(truth, value))
    assert found.scores["brier_crossfit:x"].n == 300


def test_folds_are_halves_of_the_patients_and_do_not_depend_on_order() -> None:
    patients = np.array([f"p{n // 3}" for n in range(60)], dtype=object)
    folds = crossfit_folds(patients)
    halves = [set(patients[folds == fold]) for fold in (0, 1)]
    assert (len(halves[0]), len(halves[1])) == (10, 10)
    assert not halves[0] & halves[1]
    order = np.random.default_rng(0).permutation(60)
    np.testing.assert_array_equal(crossfit_folds(patients[order]), folds[order])


def test_order_of_rows_changes_nothing_and_findings_are_averaged() -> None:
    table = pd.concat([planted(200, 2.0), planted(200, 0.5, seed=3, finding="y")])
    found = calibration(table)
    again = calibration(table.sample(frac=1, random_state=1))
    assert (again.scores, again.temperatures) == (found.scores, found.temperatures)
    mean = (found.scores["ece:x"].value + found.scores["ece:y"].value) / 2
    assert found.scores["ece"].value == pytest.approx(mean)
    assert found.reliability[""].images.sum() == 400
    assert found.reliability["x"].images.sum() == 200


def test_unlabeled_images_do_not_count_and_one_class_has_no_temperature() -> None:
    table = planted(40, 1.0)
    table.loc[::2, "truth"] = np.nan
    assert calibration(table).scores["brier"].n == 20
    only = predictions([f"p{n}" for n in range(10)], "x", [1.0] * 10, [0.9] * 10)
    found = calibration(only)
    assert found.scores["ece"].value == pytest.approx(0.1)
    assert math.isnan(found.temperatures["crossfit_1"]["x"])
    assert math.isnan(found.scores["ece_crossfit"].value)
    other = calibration(planted(100, 1.0), planted(100, 1.0, finding="z"))
    assert math.isnan(other.scores["ece_temperature"].value)


def test_what_is_no_probability_is_refused() -> None:
    table = planted(20, 1.0)
    assert why_not(table) is None
    logits = table.assign(score=table["score"] * 3)
    assert "outside [0, 1]" in str(why_not(logits))
    assert "no column score" in str(why_not(table.drop(columns="score")))
    with pytest.raises(BadResult, match="calibration cannot be computed"):
        calibration(logits)
    with pytest.raises(BadResult, match="'i00003'"):
        calibration(table.assign(score=table["score"].where(table["id"] != "i00003")))


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, " ".join(done.output.split())


def test_the_command_says_what_is_missing_and_uses_validation_predictions(tmp_path: Path) -> None:
    folder = store_cell(tmp_path / "results" / "a", planted(400, 3.0))
    code, text = run("calibration", tmp_path / "results", "--reliability", "--findings")
    assert code == 0, text
    assert f"1 cell without {VALID_PREDICTIONS_FILE}" in text
    assert "ece_crossfit" in text
    assert "ece_temperature" not in text
    assert "temperatures" in text
    planted(400, 3.0, seed=1).to_parquet(folder / VALID_PREDICTIONS_FILE)
    code, text = run("calibration", folder)
    assert (code, "ece_temperature" in text, "without" in text) == (0, True, False)
    assert "temperatures" not in text


def test_the_temperature_of_an_evaluated_cell_is_fitted_on_its_validation_predictions(
    small_store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    words = ("eval", "--task", "cls", "--protocol", "prototype", "--model", "random-init")
    data = ("--data", "synthetic:120", "--store", small_store, "--size", 64, "--out", out)
    assert run(*words, *data)[0] == 0
    (path,) = out.rglob(VALID_PREDICTIONS_FILE)
    code, text = run("calibration", out)
    assert (code, "ece_temperature" in text, "without" in text) == (0, True, False)
    assert run("verify", out)[0] == 0
    table = pd.read_parquet(path)
    tested = pd.read_parquet(path.with_name(PREDICTIONS_FILE))
    assert list(table.columns) == list(tested.columns)
    assert not set(table["patient"]) & set(tested["patient"])
    table.assign(score=0.5).to_parquet(path)
    for command in ("calibration", "verify"):
        code, text = run(command, out)
        assert (code, "is not the file that the run wrote" in text) == (1, True), command


def test_the_command_leaves_out_other_tasks_and_refuses_edited_predictions(tmp_path: Path) -> None:
    folder = store_cell(tmp_path / "a", planted(40, 1.0).rename(columns={"score": "map"}))
    code, text = run("calibration", folder)
    assert (code, "left out: its predictions are no probabilities" in text) == (1, True)
    planted(40, 2.0).to_parquet(folder / PREDICTIONS_FILE)
    code, text = run("calibration", folder)
    assert (code, "is not the file from which" in text) == (1, True)
    (folder / PREDICTIONS_FILE).unlink()
    assert "has no predictions.parquet: run the cell again" in run("calibration", folder)[1]
    assert "no results folder" in run("calibration", tmp_path / "nothing")[1]
    (tmp_path / "empty").mkdir()
    assert "no finished cell" in run("calibration", tmp_path / "empty")[1]
