"""Robustness: scores by hand, planted signals, and no dependence on batches, order or cache."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from support import toy
from torch import Tensor
from torch.nn import functional as F

from g2dbench.cards import TaskCard
from g2dbench.errors import BadData, BadResult, Unsupported
from g2dbench.evaluation.robustness.corruptions import CORRUPTIONS, STRENGTHS
from g2dbench.model import Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.registry import Registry
from g2dbench.sample import Sample
from g2dbench.system.machine import FeatureFolder
from g2dbench.task import Run

TASK = Registry().find(TaskCard, "robustness").load()
PROBE, ZERO = TASK.PROTOCOLS["probe"], TASK.PROTOCOLS["zeroshot"]
CONDITIONS = [f"{name}_{strength}" for name in CORRUPTIONS for strength in STRENGTHS]
single_thread = toy.single_thread


class Memory(toy.Memory):
    card, size = toy.card("toy", "labels", "left", "top"), 16


class Base(Model):
    def __init__(self) -> None:
        super().__init__()
        self.preprocess = Preprocess(size=16, channels=1)
        self.identity = Identity("toy-model", "0" * 64)
        self.encoded = 0


class Halves(Base):
    """Its four features are the means of the image's halves: left, right, top, bottom."""

    channels, strides, fixed_size = (1,), (16,), True

    def features(self, x: Tensor) -> list[Tensor]:
        return [x.mean((2, 3), keepdim=True)]

    def pooled(self, x: Tensor) -> Tensor:
        self.encoded += len(x)
        parts = x[..., :8], x[..., 8:], x[..., :8, :], x[..., 8:, :]
        return torch.cat([part.mean((2, 3)) for part in parts], 1)


class Embedder(Base):
    """An image is the difference of its halves; a text that of the half that it names."""

    def embed_images(self, x: Tensor) -> Tensor:
        self.encoded += len(x)
        left = x[..., :8].mean((1, 2, 3)) - x[..., 8:].mean((1, 2, 3))
        top = x[..., :8, :].mean((1, 2, 3)) - x[..., 8:, :].mean((1, 2, 3))
        return F.normalize(torch.stack([left, top, torch.full_like(top, 0.05)], 1), dim=1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        signs = torch.tensor([-1.0 if text.startswith("no ") else 1.0 for text in texts])
        axes = torch.tensor([[float("left" in t), float("top" in t), 0.0] for t in texts])
        return axes * signs[:, None]


class Matcher(Base):
    """The probability of every finding is the brightness of its half."""

    def match(self, x: Tensor, findings: Sequence[str]) -> Tensor:
        halves = {"left": x[..., :8], "top": x[..., :8, :]}
        return torch.stack([halves[name].mean((1, 2, 3)) for name in findings], 1)


def sample(split: str, number: int) -> Sample:
    """Its labels say which halves are bright."""
    rng = np.random.default_rng([len(split), number])
    left, top = number % 2, number // 2 % 2
    image = rng.integers(0, 60, (16, 16))
    image[:, :8] += 90 * left
    image[:8] += 90 * top
    return Sample(
        id=f"{split}{number:03d}",
        image=image.astype(np.uint8),
        patient=f"{split}{number // 2}",
        labels={"left": left, "top": top},
    )


def part(split: str, count: int) -> Memory:
    return Memory([sample(split, number) for number in range(count)])


TEST = part("t", 20)


def run_on(**settings: object) -> Run:
    base = {
        "train": part("train", 24), "valid": part("va", 12), "test": TEST, "protocol": PROBE,
    }  # fmt: skip
    return toy.run_with(**(base | settings))  # type: ignore[arg-type]


CASES = [(Halves, PROBE), (Embedder, ZERO), (Matcher, ZERO)]


@pytest.mark.parametrize(("build", "protocol"), CASES)
def test_a_planted_signal_scores_1_on_clean_images(build: type[Base], protocol: object) -> None:
    predictions = TASK.predict(build(), run_on(protocol=protocol))
    assert list(predictions) == ["id", "patient", "finding", "truth", "clean", *CONDITIONS]
    scores = TASK.score(predictions, protocol)
    assert scores["auc_clean"].value == 1
    assert 0 <= scores["auc_corrupted"].value < 1
    assert scores["auc_clean"].n == scores["auc@noise"].n == 20


def test_inverted_images_reverse_the_scores_of_matching() -> None:
    scores = TASK.score(TASK.predict(Matcher(), run_on(protocol=ZERO)), ZERO)
    assert scores["auc@inversion_5"].value == 0
    assert scores["auc@inversion_1"].value > scores["auc@inversion_4"].value


def table(values: dict[str, list[float]], truth: list[float]) -> pd.DataFrame:
    count = len(truth)
    columns = {name: values.get(name, truth) for name in ("clean", *CONDITIONS)}
    return pd.DataFrame(
        {
            "id": [f"i{n}" for n in range(count)], "patient": [f"p{n}" for n in range(count)],
            "finding": "x", "truth": truth, **columns,
        }
    )  # fmt: skip


def test_scores_worked_by_hand_and_by_sklearn() -> None:
    truth = [1, 0, 1, 0, 0, 1]
    wrong = [0.2, 0.8, 0.7, 0.1, 0.3, 0.4]  # pairs: 1 + 3 + 2 of 9... by scikit-learn below
    predictions = table({"noise_5": wrong, "clean": [0.9, 0.1, 0.8, 0.2, 0.85, 0.95]}, truth)
    scores = TASK.score(predictions, PROBE)
    clean = roc_auc_score(truth, [0.9, 0.1, 0.8, 0.2, 0.85, 0.95])
    assert scores["auc_clean"].value == pytest.approx(clean) == pytest.approx(8 / 9)
    worst = roc_auc_score(truth, wrong)
    assert scores["auc@noise_5"].value == pytest.approx(worst)
    assert scores["auc@noise"].value == pytest.approx((4 + worst) / 5)
    assert scores["auc@blur"].value == 1
    corrupted = (7 + (4 + worst) / 5) / 8
    assert scores["auc_corrupted"].value == pytest.approx(corrupted)
    assert scores["auc_corrupted:x"].value == pytest.approx(corrupted)
    assert scores["relative_drop"].value == pytest.approx((clean - corrupted) / clean)
    assert scores["relative_drop@noise"].value == pytest.approx((clean - (4 + worst) / 5) / clean)
    assert scores["auc_clean"].low <= clean <= scores["auc_clean"].high
    assert TASK.score(predictions.sample(frac=1, random_state=1), PROBE) == scores


def test_equal_scores_in_every_condition_have_no_drop_in_any_resample() -> None:
    truth = [1, 0, 1, 0, 0, 1, 1, 0]
    same = [0.9, 0.1, 0.3, 0.2, 0.5, 0.95, 0.4, 0.45]
    scores = TASK.score(table(dict.fromkeys(("clean", *CONDITIONS), same), truth), PROBE)
    drop = scores["relative_drop"]
    assert (drop.value, drop.low, drop.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_one_class_is_undefined_and_a_score_that_is_not_finite_names_the_image() -> None:
    scores = TASK.score(table({}, [1, 1, 1]), PROBE)
    assert all(math.isnan(score.value) for score in scores.values())
    with pytest.raises(BadResult, match="'i1'"):
        TASK.score(table({"blur_2": [1, math.nan, 0]}, [1, 0, 0]), PROBE)
    with pytest.raises(BadResult, match="jpeg_3"):
        TASK.score(table({}, [1, 0]).drop(columns="jpeg_3"), PROBE)


@pytest.mark.parametrize(("build", "protocol"), CASES)
def test_the_same_predictions_for_any_batch_size_and_order(
    build: type[Base], protocol: object
) -> None:
    one, other = (
        TASK.predict(build(), run_on(protocol=protocol, batch_size=size)) for size in (3, 16)
    )
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    order = np.random.default_rng(0).permutation(20)
    turned = TASK.predict(build(), run_on(protocol=protocol, test=TEST.take(order)))
    keys = ["id", "finding"]
    pd.testing.assert_frame_equal(
        one.sort_values(keys, ignore_index=True),
        turned.sort_values(keys, ignore_index=True),
        check_exact=True,
    )
    few = TASK.predict(build(), run_on(protocol=protocol, test=TEST.take(range(7))))
    pd.testing.assert_frame_equal(few, one[: 7 * 2], check_exact=True)


@pytest.mark.parametrize(("build", "protocol"), CASES[:2])
def test_cached_and_computed_features_give_the_same_predictions(
    build: type[Base], protocol: object, tmp_path: Path
) -> None:
    plain = run_on(protocol=protocol)
    cached = dataclasses.replace(
        plain, machine=dataclasses.replace(plain.machine, features=FeatureFolder(tmp_path))
    )
    expected = TASK.predict(build(), plain)
    first, model = TASK.predict(build(), cached), build()
    again = TASK.predict(model, cached)
    assert model.encoded == 0
    for found in (first, again):
        pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_the_cells_seed_changes_nothing_and_that_of_the_corruptions_does() -> None:
    one, other = (TASK.predict(Halves(), run_on(seed=seed)) for seed in (0, 1))
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    reseeded = dataclasses.replace(PROBE, corruption_seed=1)
    changed = TASK.predict(Halves(), run_on(protocol=reseeded))
    assert changed["clean"].equals(one["clean"])
    assert not changed["noise_3"].equals(one["noise_3"])


def test_what_is_missing_is_named() -> None:
    with pytest.raises(Unsupported, match="robustness needs a model that offers features;"):
        TASK.predict(Embedder(), run_on())
    with pytest.raises(Unsupported, match="offers embeds or matches;"):
        TASK.predict(Halves(), run_on(protocol=ZERO))
    with pytest.raises(BadData, match="no train images"):
        TASK.predict(Halves(), run_on(train=Memory([])))
    with pytest.raises(BadData, match="no finding can be fitted: left has one class only"):
        TASK.predict(Halves(), run_on(train=part("train", 1)))
    only = Memory([dataclasses.replace(sample("t", 0), labels={"No Finding": 1})])
    with pytest.raises(BadData, match="no finding that a prompt can name"):
        TASK.predict(Embedder(), run_on(protocol=ZERO, test=only))
