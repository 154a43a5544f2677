"""Gaps between groups: planted gaps, by hand, small and unknown groups, and the command."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from support.reporting.stored_predictions import predictions, store_cell
from typer.testing import CliRunner

from g2dbench.cards import TaskCard
from g2dbench.cli import app
from g2dbench.data.prepared_stores import stores_in
from g2dbench.errors import BadResult, Misuse
from g2dbench.registry import Registry
from g2dbench.reporting.fairness import GroupGap, age_bands, group_gaps
from g2dbench.result import RESULT_FILE, load, save

TASK = Registry().find(TaskCard, "zeroshot").load()
SETTINGS = TASK.PROTOCOLS["g2d"]


def planted(count: int, quality: dict[str, float], images_each: int = 2) -> pd.DataFrame:
    """Scores separate the classes by the quality of the group; patients are named by group."""
    rng = np.random.default_rng(0)
    names = list(quality)
    patients = [f"{names[n // images_each % len(names)]}{n // images_each}" for n in range(count)]
    truth = rng.integers(0, 2, count).astype(float)
    gains = np.array([quality[patient.rstrip("0123456789")] for patient in patients])
    score = 1 / (1 + np.exp(-(gains * (truth - 0.5) + rng.normal(size=count))))
    return predictions(patients, "x", list(truth), list(score))


def groups_by_name(table: pd.DataFrame) -> dict[str, str | None]:
    return {i: p.rstrip("0123456789") for i, p in zip(table["id"], table["patient"], strict=True)}


def gaps(
    table: pd.DataFrame, groups: dict[str, str | None], minimum: int = 10
) -> dict[str, GroupGap]:
    found = group_gaps(table, TASK.statistics(table, SETTINGS), ["auc", "auc:x"], groups, minimum)
    return {each.metric: each for each in found}


def test_a_planted_gap_is_found_with_the_aucs_of_scikit_learn() -> None:
    table = planted(400, {"F": 4, "M": 0})
    found = gaps(table, groups_by_name(table))["auc"]
    expected = {
        name: roc_auc_score(part["truth"], part["score"])
        for name, part in table.groupby(table["patient"].str[0])
    }
    assert {g.name: g.score.value for g in found.groups if g.score} == pytest.approx(expected)
    assert [(g.patients, g.images) for g in found.groups] == [(100, 200), (100, 200)]
    assert found.gap.value == pytest.approx(expected["F"] - expected["M"])
    assert found.gap.low > 0.2
    assert found.p_value == pytest.approx(1 / 1001)
    assert found.p_holm == pytest.approx(2 / 1001)
    assert (found.mixed, found.unknown) == (0, 0)


def test_equal_groups_have_no_significant_gap() -> None:
    table = planted(400, {"F": 1, "M": 1})
    found = gaps(table, groups_by_name(table))["auc"]
    assert found.p_value > 0.05
    assert found.gap.value >= 0


def test_small_groups_are_named_and_withheld_and_change_no_gap() -> None:
    table = planted(400, {"F": 4, "M": 0})
    groups = groups_by_name(table)
    rare = {
        i for i, p in zip(table["id"], table["patient"], strict=True) if p in ("F0", "F2", "M1")
    }
    with_rare = {i: "O" if i in rare else name for i, name in groups.items()}
    found = gaps(table, with_rare)["auc"]
    assert [(g.name, g.patients, g.score is None) for g in found.groups] == [
        ("F", 98, False), ("M", 99, False), ("O", 3, True),
    ]  # fmt: skip
    without = {i: None if i in rare else name for i, name in groups.items()}
    unknown = gaps(table, without)["auc"]
    assert (unknown.gap, unknown.p_value, unknown.unknown) == (found.gap, found.p_value, len(rare))
    assert all(math.isnan(v) for v in (gaps(table, groups, 500)["auc"].gap.value,))


def test_patients_of_two_groups_are_scored_but_not_tested() -> None:
    table = planted(200, {"F": 4, "M": 0})
    views = {image: ("AP", "PA")[n % 2] for n, image in enumerate(table["id"])}
    found = gaps(table, views)["auc"]
    assert found.mixed == 100
    assert math.isnan(found.p_value)
    assert not math.isnan(found.gap.value)


def test_a_group_with_one_class_is_undefined_and_left_out_of_gap_and_test() -> None:
    table = planted(600, {"F": 3, "M": 0, "O": 1})
    of_o = table["patient"].str.startswith("O")
    table.loc[of_o, "truth"] = 0
    found = gaps(table, groups_by_name(table))["auc"]
    values = {g.name: g.score.value for g in found.groups if g.score}
    assert math.isnan(values["O"])
    assert found.gap.value == pytest.approx(values["F"] - values["M"])
    assert found.p_value < 0.01


def test_order_of_rows_changes_nothing_and_unknown_metrics_are_refused() -> None:
    table = planted(200, {"F": 2, "M": 1})
    turned = table.sample(frac=1, random_state=1)
    assert gaps(turned, groups_by_name(table)) == gaps(table, groups_by_name(table))
    with pytest.raises(BadResult, match="no score 'dice'"):
        group_gaps(table, TASK.statistics(table, SETTINGS), ["dice"], {})
    nobody = gaps(table, {})["auc"]
    assert (nobody.groups, nobody.unknown, math.isnan(nobody.gap.value)) == ((), 200, True)


def test_age_bands() -> None:
    ages = [0, 17.9, 18, 39, 40, 79.5, 80, 101, math.nan, -1]
    assert age_bands(ages, (18, 40, 60, 80)) == [
        "0-17", "0-17", "18-39", "18-39", "40-59", "60-79", "80+", "80+", None, None,
    ]  # fmt: skip
    for edges in ((), (40, 18), (0, 18), (18, 18)):
        with pytest.raises(Misuse, match="must increase"):
            age_bands([1], edges)


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, " ".join(done.output.split())


def test_the_command_joins_by_id_or_patient_with_a_table(tmp_path: Path) -> None:
    table = planted(400, {"F": 4, "M": 0})
    folder = store_cell(tmp_path / "results" / "a", table)
    own = tmp_path / "own.csv"
    source = pd.DataFrame({"patient": table["patient"].unique()})
    source.assign(source=source["patient"].str[0]).to_csv(own, index=False)
    code, text = run("fairness", folder, "--by", "source", "--groups", own)
    assert code == 0, text
    assert "p 0.001: permutation test" in text
    by_id = tmp_path / "own.parquet"
    ages = np.where(table["patient"].str[0] == "F", 30.0, 70.0)
    table.assign(age=ages)[["id", "age"]].to_parquet(by_id)
    code, text = run("fairness", folder, "--by", "age", "--groups", by_id, "--findings")
    assert (code, "18-39" in text, "60-79" in text, "auc:x" in text) == (0, True, True, True)


def test_the_command_names_what_is_missing(tmp_path: Path) -> None:
    folder = store_cell(tmp_path / "results" / "a", planted(40, {"F": 1, "M": 1}))
    store = ("--store", tmp_path / "store")
    code, text = run("fairness", folder, "--by", "source", *store)
    assert (code, "prepared data have no 'source'" in text) == (2, True)
    code, text = run("fairness", folder, *store)
    assert (code, "are not in" in text) == (1, True)
    own = tmp_path / "own.csv"
    for content, words in (
        ("name,sex\na,F\n", "needs a column id or patient"),
        ("patient,sex\nF0,F\nF0,M\n", "two values of sex"),
        ("patient,sex\nsomebody,F\n", "has no patient of these predictions"),
    ):
        own.write_text(content)
        assert words in run("fairness", folder, "--groups", own)[1]
    assert "write years with commas" in run("fairness", folder, "--age-bands", "x")[1]


@pytest.mark.parametrize("size", [64, 48])
def test_the_command_finds_the_prepared_data_by_fingerprint(
    small_store: Path, tmp_path: Path, size: int
) -> None:
    (store,) = stores_in(small_store)
    data = store.at(size)
    table = data.split("test").table
    truth = [float(n % 2) for n in range(len(table))]
    made = predictions(list(table["patient"]), "x", truth, [0.25 + t / 2 for t in truth])
    folder = store_cell(
        tmp_path / "a", made.assign(id=table["id"].to_numpy()), data=data.fingerprint
    )
    for by in ("sex", "age", "view"):
        words = ("--by", by, "--store", small_store, "--min-patients", "2")
        code, text = run("fairness", folder, *words)
        assert code == 0, text
        assert "gap" in text
    result = load(folder / RESULT_FILE)
    other = result.provenance.model_copy(update={"data": "e" * 64})
    save(result.model_copy(update={"provenance": other}), folder)
    code, text = run("fairness", folder, "--store", small_store)
    assert (code, "--groups FILE" in text) == (1, True)
