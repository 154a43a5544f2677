"""Linear classification: fitting, excluded labels, and scores."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from support import toy
from support.classification import (
    Classes,
    Halves,
    Memory,
    SmallCnn,
    part,
    sample,
    shuffled,
    stripes,
)
from torch import Tensor

from g2dbench.cards import TaskCard
from g2dbench.errors import BadData, BadResult, Unsupported
from g2dbench.evaluation.fine_tuning.settings import FineTuneSettings
from g2dbench.evaluation.fit_head import FitSettings
from g2dbench.evaluation.heads.saved_head import HEAD_FILE, load_head
from g2dbench.evaluation.label_policy import PAPER_FINDINGS
from g2dbench.model import Identity, Model
from g2dbench.registry import Registry
from g2dbench.system.machine import FeatureFolder
from g2dbench.system.overrides import override
from g2dbench.task import Run

CPU = torch.device("cpu")
CHEXPERT_FIVE = PAPER_FINDINGS["chexpert"]
TASK = Registry().find(TaskCard, "cls").load()
QUICK = dataclasses.replace(
    TASK.PROTOCOLS["g2d"],
    fit=FitSettings(lr=0.3, weight_decay=0, batch_size=8, epochs=15, min_steps_per_epoch=10),
)
single_thread = toy.single_thread


def run_on(**settings: object) -> Run:
    base = {
        "train": part("train", 24), "valid": part("va", 12), "test": part("t", 20),
        "protocol": QUICK, "device": CPU,
    }  # fmt: skip
    return toy.run_with(**(base | settings))  # type: ignore[arg-type]


def test_features_that_separate_the_findings_score_1() -> None:
    predictions = TASK.predict(Halves(), run_on())
    columns = ["id", "patient", "finding", "truth", "score", "threshold", "exclusive"]
    assert list(predictions) == columns
    assert len(predictions) == 20 * 2
    assert predictions["score"].between(0, 1).all()
    scores = TASK.score(predictions, QUICK)
    assert scores["auc"].value == 1
    assert scores["f1"].value > 0.9 < scores["acc"].value
    assert (scores["auc:left"].n, scores["auc:top"].n, scores["auc"].n) == (20, 20, 20)
    assert scores["auc"].high == 1


def test_the_same_numbers_for_any_batch_size_and_order_of_test_images() -> None:
    one = TASK.predict(Halves(), run_on(batch_size=3))
    other = TASK.predict(Halves(), run_on(batch_size=16))
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    order = np.random.default_rng(0).permutation(20)
    turned = TASK.predict(Halves(), run_on(test=part("t", 20).take(order)))
    keys = ["id", "finding"]
    pd.testing.assert_frame_equal(
        one.sort_values(keys, ignore_index=True),
        turned.sort_values(keys, ignore_index=True),
        check_exact=True,
    )
    assert str(TASK.score(turned, QUICK)) == str(TASK.score(one, QUICK))  # NaN limits


def test_the_seed_determines_the_head() -> None:
    first, again, other = (TASK.predict(Halves(), run_on(seed=s))["score"] for s in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)


def test_uncertain_and_missing_labels_do_not_train() -> None:
    def train(value: float) -> Memory:
        wrong = [sample("train", i, {"left": value, "top": 0}) for i in range(100, 108)]
        return Memory([*part("train", 24), *wrong])

    uncertain, missing = (TASK.predict(Halves(), run_on(train=train(v))) for v in (-1, math.nan))
    pd.testing.assert_frame_equal(uncertain, missing, check_exact=True)
    misled = TASK.predict(Halves(), run_on(train=train(1)))
    assert not misled["score"].equals(missing["score"])


def test_a_finding_with_one_class_is_nan_and_excluded_from_the_mean() -> None:
    labels = [{"left": i % 2, "top": 0, "rare": (-1, math.nan, 1)[i % 3]} for i in range(20)]
    test = Memory([sample("t", i, given) for i, given in enumerate(labels)])
    predictions = TASK.predict(Halves(), run_on(test=test))
    scores = TASK.score(predictions, QUICK)
    assert scores["auc"].value == scores["auc:left"].value == 1
    assert all(math.isnan(scores[f"{m}:{f}"].value) for m in ("auc", "f1") for f in ("top", "rare"))
    assert scores["auc:rare"].n == 6
    alone = predictions[predictions["finding"] == "top"]
    assert math.isnan(TASK.score(alone, QUICK)["auc"].value)


def test_scores_worked_by_hand_and_by_sklearn() -> None:
    truth = [1, 0, 1, 0, -1, math.nan, 1, 0]
    value = [0.9, 0.8, 0.7, 0.1, 0.99, 0.5, 0.35, 0.2]
    table = pd.DataFrame(
        {
            "id": [f"i{n}" for n in range(8)], "patient": [f"p{n}" for n in range(8)],
            "finding": "x", "truth": truth, "score": value, "threshold": 0.7,
        }
    )  # fmt: skip
    scores = TASK.score(table, QUICK)
    # Pairs: .9 beats three, .7 beats .1 and .2, .35 beats .1 and .2: 7 of 9.
    assert scores["auc:x"].value == pytest.approx(7 / 9)
    assert scores["auc:x"].n == 6
    known = [n for n in range(8) if truth[n] in (0, 1)]
    real, predicted = [truth[n] for n in known], [value[n] >= 0.7 for n in known]
    assert scores["auc"].value == pytest.approx(roc_auc_score(real, [value[n] for n in known]))
    assert scores["f1"].value == pytest.approx(f1_score(real, predicted))
    assert scores["acc"].value == pytest.approx(accuracy_score(real, predicted))
    assert str(TASK.score(table.sample(frac=1, random_state=1), QUICK)) == str(scores)


def test_the_threshold_is_chosen_on_validation_and_may_be_missing() -> None:
    healthy = Memory([sample("va", i, {"left": 0, "top": i // 2 % 2}) for i in range(12)])
    predictions = TASK.predict(Halves(), run_on(valid=healthy))
    thresholds = predictions.groupby("finding")["threshold"].unique()
    assert np.isnan(thresholds["left"]).all()
    assert len(thresholds["top"]) == 1
    scores = TASK.score(predictions, QUICK)
    assert math.isnan(scores["f1:left"].value)
    assert scores["f1"].value == scores["f1:top"].value


def test_what_cannot_be_fitted_is_an_error() -> None:
    class Blind(Model):
        identity = Identity("blind", "0" * 64)

    with pytest.raises(Unsupported, match="cls needs a model that offers features; blind offers"):
        TASK.predict(Blind(), run_on())
    with pytest.raises(BadData, match="no valid images"):
        TASK.predict(Halves(), run_on(valid=Memory([])))
    unlabeled = Memory([sample("train", i, {"left": -1}) for i in range(4)])
    with pytest.raises(BadData, match="none of the 4 train images of toy"):
        TASK.predict(Halves(), run_on(train=unlabeled))
    with pytest.raises(BadResult, match="lack the columns"):
        TASK.score(pd.DataFrame({"id": ["a"]}), QUICK)


def test_the_published_protocol_is_pinned() -> None:
    settings = TASK.PROTOCOLS["g2d"].fit
    assert tuple(TASK.PROTOCOLS) == TASK.CARD.protocols
    assert (settings.lr, settings.weight_decay, settings.batch_size) == (5e-4, 1e-6, 8)
    assert (settings.epochs, settings.patience, settings.schedule) == (50, 10, "constant")


FAST: dict[str, Any] = {
    **TASK.PROTOCOLS,
    "g2d": QUICK,
    "mgca": dataclasses.replace(
        TASK.PROTOCOLS["mgca"],
        fit=FitSettings(lr=0.3, weight_decay=0, batch_size=8, epochs=8, drop_last=True),
    ),
    "knn": dataclasses.replace(TASK.PROTOCOLS["knn"], k=5),
    "lora": dataclasses.replace(
        TASK.PROTOCOLS["lora"],
        train=FineTuneSettings(lr=0.05, batch_size=8, epochs=15, min_steps_per_epoch=6),
    ),
}
PROTOCOLS = tuple(FAST)


def model_of(name: str) -> Model:
    return SmallCnn() if name == "lora" else Halves()


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_finds_a_planted_signal(name: str) -> None:
    run = run_on(protocol=FAST[name], train=part("train", 40))
    scores = TASK.score(TASK.predict(model_of(name), run), FAST[name])
    assert scores["auc"].value == 1
    assert scores["balanced_acc"].value > 0.9
    assert run.details["labels"]["train"]["left"]["present"] == 20


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_scores_chance_on_shuffled_labels(name: str) -> None:
    run = run_on(
        protocol=FAST[name],
        train=shuffled("train", 32), valid=shuffled("valid", 16), test=shuffled("test", 60),
    )  # fmt: skip
    score = TASK.score(TASK.predict(model_of(name), run), FAST[name])["auc"]
    assert score.low < 0.5 < score.high


@pytest.mark.parametrize("name", PROTOCOLS)
def test_no_protocol_depends_on_batch_size_cache_or_order_of_test_images(
    name: str, tmp_path: Path
) -> None:
    order = np.random.default_rng(0).permutation(20)
    runs = (
        run_on(protocol=FAST[name], batch_size=3),
        run_on(protocol=FAST[name], features=FeatureFolder(tmp_path)),
        run_on(protocol=FAST[name], features=FeatureFolder(tmp_path)),
        run_on(protocol=FAST[name], test=part("t", 20).take(order)),
    )
    tables = [
        TASK.predict(model_of(name), run).sort_values(["id", "finding"], ignore_index=True)
        for run in runs
    ]
    for other in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], other, check_exact=True)
    assert any(tmp_path.iterdir()) == (name not in ("mgca", "lora"))


@pytest.mark.parametrize("name", ["sweep", "knn", "prototype"])
def test_protocols_without_an_optimizer_need_no_seed_and_no_order(name: str) -> None:
    order = np.random.default_rng(1).permutation(24)
    one = TASK.predict(Halves(), run_on(protocol=FAST[name]))
    train = part("train", 24).take(order)
    other = TASK.predict(Halves(), run_on(protocol=FAST[name], train=train, seed=5))
    pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_saved_head_gives_the_same_predictions(name: str, tmp_path: Path) -> None:
    run = run_on(protocol=FAST[name], folder=tmp_path, save_heads=True)
    model = model_of(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    predictions = TASK.predict(model, run)
    again = TASK.apply(model, load_head(tmp_path / HEAD_FILE), run_on(protocol=FAST[name]))
    pd.testing.assert_frame_equal(predictions, again, check_exact=True)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["g2d", "sweep", "knn", "prototype"])
def test_classes_that_exclude_each_other_are_scored_by_the_predicted_class(name: str) -> None:
    class Columns(Halves):
        def pooled(self, x: Tensor) -> Tensor:
            return x.mean((1, 2))

    run = run_on(
        protocol=FAST[name],
        train=stripes("train", 30), valid=stripes("valid", 15), test=stripes("test", 30),
    )  # fmt: skip
    predictions = TASK.predict(Columns(), run)
    scores = TASK.score(predictions, FAST[name])
    assert TASK.main_metric(Classes.card) == "acc"
    assert TASK.main_metric(Memory.card) == "auc"
    assert scores["acc"].value == scores["balanced_acc"].value == scores["macro_f1"].value == 1
    assert "acc:one" not in scores
    assert "mcc" not in scores
    sums = predictions.groupby("id")["score"].sum()
    assert np.allclose(sums, 1, atol=1e-9)
    # By hand: one wrong class of 30 images.
    wrong = predictions.copy()
    rows = wrong["id"] == wrong["id"].iloc[0]
    wrong.loc[rows, "score"] = wrong.loc[rows, "score"].to_numpy()[::-1]
    assert TASK.score(wrong, FAST[name])["acc"].value == pytest.approx(29 / 30)


@pytest.mark.parametrize(
    ("uncertain", "as_if"), [("zeros", 0), ("ones", 1), ("ignore", math.nan), ("drop", None)]
)
def test_uncertain_labels_count_as_the_policy_says(uncertain: str, as_if: float | None) -> None:
    def train(value: float | None) -> Memory:
        unclear = [sample("train", i, {"left": value, "top": 1}) for i in range(100, 108)]
        return Memory([*part("train", 24), *(unclear if value is not None else [])])

    protocol, _ = override(FAST["sweep"], [f"uncertain={uncertain}"])
    run = run_on(protocol=protocol, train=train(-1))
    found = TASK.predict(Halves(), run)
    wanted = TASK.predict(Halves(), run_on(protocol=FAST["sweep"], train=train(as_if)))
    pd.testing.assert_frame_equal(found, wanted, check_exact=True)
    assert run.details["labels"]["train"]["left"]["uncertain"] == 8
    assert run.details["labels"]["uncertain"] == uncertain


def test_chexpert_is_scored_on_five_findings() -> None:
    class Chexpert(toy.Memory):
        card = toy.card("chexpert", "labels", *CHEXPERT_FIVE, "No Finding")
        size = 16

    def rows(name: str, count: int) -> Chexpert:
        labels = dict.fromkeys(Chexpert.card.findings)
        return Chexpert([sample(name, i, dict.fromkeys(labels, i % 2)) for i in range(count)])

    run = run_on(train=rows("train", 24), valid=rows("v", 12), test=rows("t", 12))
    predictions = TASK.predict(Halves(), run)
    assert set(predictions["finding"]) == set(CHEXPERT_FIVE)


def test_scores_that_are_not_finite_are_an_error_that_names_the_image() -> None:
    table = TASK.predict(Halves(), run_on())
    table.loc[3, "score"] = math.nan
    with pytest.raises(BadResult, match=table["id"][3]):
        TASK.score(table, QUICK)
