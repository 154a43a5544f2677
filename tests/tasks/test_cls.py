"""Linear classification: fitting, excluded labels, and scores."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from support import toy
from torch import Tensor

from g2dbench.cards import TaskCard
from g2dbench.errors import BadData, BadResult, Unsupported
from g2dbench.evaluation.fit_head import FitSettings
from g2dbench.model import Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.registry import Registry
from g2dbench.sample import Sample
from g2dbench.task import Run

CPU = torch.device("cpu")
TASK = Registry().find(TaskCard, "cls").load()
QUICK = dataclasses.replace(
    TASK.PROTOCOLS["g2d"],
    fit=FitSettings(lr=0.3, weight_decay=0, batch_size=8, epochs=15, least_steps=10),
)
single_thread = toy.single_thread


class Memory(toy.Memory):
    card, size = toy.card("toy", "labels", "left", "top"), 16


class Halves(Model):
    """Its four features are the means of the image's halves: left, right, top, bottom."""

    channels, strides, fixed_size = (1,), (16,), True

    def __init__(self) -> None:
        super().__init__()
        self.preprocess = Preprocess(size=16, channels=1)
        self.identity = Identity("halves", "0" * 64)

    def features(self, x: Tensor) -> list[Tensor]:
        return [x.mean((2, 3), keepdim=True)]

    def pooled(self, x: Tensor) -> Tensor:
        parts = x[..., :8], x[..., 8:], x[..., :8, :], x[..., 8:, :]
        return torch.cat([part.mean((2, 3)) for part in parts], 1)


def sample(name: str, number: int, labels: Mapping[str, float] | None = None) -> Sample:
    """Its labels say which halves are bright; `labels` replaces them."""
    rng = np.random.default_rng([len(name), number])
    left, top = number % 2, number // 2 % 2
    image = rng.integers(0, 60, (16, 16))
    image[:, :8] += 90 * left
    image[:8] += 90 * top
    return Sample(
        id=f"{name}{number:03d}",
        image=image.astype(np.uint8),
        patient=f"{name}{number // 2}",
        labels={"left": left, "top": top} if labels is None else labels,
    )


def part(name: str, count: int) -> Memory:
    return Memory([sample(name, i) for i in range(count)])


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
    assert (scores["auc"].low, scores["auc"].high) == (1, 1)


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
    assert TASK.score(turned, QUICK) == TASK.score(one, QUICK)


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
    assert TASK.score(table.sample(frac=1, random_state=1), QUICK) == scores


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
