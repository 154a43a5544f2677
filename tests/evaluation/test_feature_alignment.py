"""Alignment of two models: planted equal, rotated and unrelated features; intervals by hand."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from support import toy
from torch import Tensor
from typer.testing import CliRunner

from g2dbench.cards import ModelCard
from g2dbench.cli import app
from g2dbench.data.store.memory import MemoryDataset
from g2dbench.errors import BadData, Unsupported
from g2dbench.evaluation.feature_alignment import (
    EncodedImages,
    align,
    encode_images,
    jackknife,
)
from g2dbench.metrics.alignment import debiased_cka, mutual_neighbors
from g2dbench.model import Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.registry import Registry
from g2dbench.sample import Sample
from g2dbench.system.machine import FeatureFolder

single_thread = toy.single_thread
CARD = toy.card("toy", "labels", "a")


def images(count: int, patients: int | None = None) -> MemoryDataset:
    noise = np.random.default_rng(0)
    samples = [
        Sample(
            id=f"i{n:03d}",
            patient=f"p{n % (patients or count)}",
            image=noise.integers(0, 255, (16, 16), np.uint8),
            labels={"a": n % 2},
        )
        for n in range(count)
    ]
    return MemoryDataset(samples, CARD, 16, "fingerprint")


class Linear(Model):
    """A linear map of the pixels as pooled features."""

    channels, strides, fixed_size = (1,), (16,), True

    def __init__(self, weights: Tensor, digest: str) -> None:
        super().__init__()
        self.preprocess = Preprocess(size=16, channels=1)
        self.identity = Identity(f"linear {digest}", digest)
        self.weights = torch.nn.Parameter(weights)

    def features(self, x: Tensor) -> list[Tensor]:
        return [x]

    def pooled(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weights


class Embedder(Model):
    def __init__(self) -> None:
        super().__init__()
        self.preprocess = Preprocess(size=16, channels=1)
        self.identity = Identity("embedder", "e")

    def embed_images(self, x: Tensor) -> Tensor:
        return torch.nn.functional.normalize(x.flatten(1), dim=1)

    def embed_texts(self, texts: list[str]) -> Tensor:
        return torch.zeros(len(texts), 256)


def weights(seed: int, width: int = 24) -> Tensor:
    return torch.randn(256, width, generator=torch.Generator().manual_seed(seed)) / 16


def compared(one: Model, other: Model, data: MemoryDataset, **settings: object) -> object:
    run = toy.run_with(train=data, valid=data, test=data, protocol=None, **settings)
    return align(encode_images(one, run), encode_images(other, run), data)


def test_one_model_in_several_forms_is_recognized() -> None:
    data, first = images(60), weights(0)
    rotation = torch.linalg.qr(torch.randn(24, 24, generator=torch.Generator().manual_seed(1)))[0]
    cases = [
        (first, "x", "same weights"),
        (first, "another file", "same features"),
        (first * (1 + 1e-5), "rounded", "same features"),
        (first.bfloat16().float(), "bfloat16", "same geometry"),
        (3 * first @ rotation, "rotated", "same geometry"),
        (first + 0.5 * weights(2), "trained on", "different"),
        (weights(2), "unrelated", "different"),
    ]
    for matrix, digest, expected in cases:
        found = compared(Linear(first, "x"), Linear(matrix, digest), data)
        assert found.verdict == expected, digest
        assert found.scores["mutual_neighbors_chance"].value == pytest.approx(10 / 59)


def test_rounding_of_a_real_encoder_stays_one_model_and_another_seed_is_another() -> None:
    load = Registry().find(ModelCard, "random-init").load().load
    first, rounded, other = load(None, 0), load(None, 0), load(None, 1)
    rounded.to(torch.bfloat16).to(torch.float32)
    data = images(30)
    assert compared(first, rounded, data).verdict in ("same features", "same geometry")
    assert compared(first, other, data).verdict == "different"


def test_values_are_those_of_the_metrics_and_unrelated_features_reach_chance() -> None:
    data = images(400)
    one, other = Linear(weights(0), "a"), Linear(weights(5, 12), "b")
    run = toy.run_with(train=data, valid=data, test=data, protocol=None)
    first, second = encode_images(one, run), encode_images(other, run)
    found = align(first, second, data)
    assert found.scores["cka"].value == pytest.approx(debiased_cka(first.features, second.features))
    assert found.scores["mutual_neighbors"].value == pytest.approx(
        mutual_neighbors(first.features, second.features).mean()
    )
    assert found.scores["cka"].n == 400
    noise = np.random.default_rng(1)
    unrelated = [EncodedImages(one, "pooled", noise.normal(size=(400, 20))) for _ in range(2)]
    chance = align(*unrelated, data).scores
    assert chance["cka"].low < 0 < chance["cka"].high
    neighbors = chance["mutual_neighbors"]
    assert neighbors.low < 10 / 399 < neighbors.high


def test_the_jackknife_of_a_mean_is_the_t_interval_of_the_group_means() -> None:
    values = np.random.default_rng(0).normal(size=20)
    found = jackknife([f"p{n}" for n in range(20)], lambda rows: float(values[rows].mean()))
    expected = stats.t.interval(0.95, 19, values.mean(), stats.sem(values))
    assert (found.low, min(1, found.high)) == pytest.approx((expected[0], min(1, expected[1])))
    assert (found.value, found.n) == (pytest.approx(values.mean()), 20)


def test_images_of_a_patient_stay_together_and_few_patients_have_no_interval() -> None:
    seen: list[set[int]] = []

    def statistic(rows: np.ndarray) -> float:
        seen.append(set(rows.tolist()))
        return 0.5

    jackknife([f"p{n // 4}" for n in range(200)], statistic)
    for rows in seen:
        assert all({4 * p, 4 * p + 3} <= rows or not {4 * p, 4 * p + 3} & rows for p in range(50))
    assert len(seen) == 1 + 20
    few = jackknife(["a", "a", "b"], lambda rows: 0.5)
    assert math.isnan(few.low)


def test_the_same_for_any_batch_size_order_and_with_the_cache(tmp_path: Path) -> None:
    data = images(60, patients=25)
    one, other = Linear(weights(0), "a"), Linear(weights(0) + 0.2 * weights(1), "b")
    expected = compared(one, other, data, batch_size=3)
    assert compared(one, other, data, batch_size=32) == expected
    order = np.random.default_rng(0).permutation(60).tolist()
    turned = compared(one, other, data.take(order))
    for name, score in turned.scores.items():
        one_way = expected.scores[name].model_dump()
        assert score.model_dump() == pytest.approx(one_way, nan_ok=True)
    run = toy.run_with(train=data, valid=data, test=data, protocol=None)
    cached = dataclasses.replace(
        run, machine=dataclasses.replace(run.machine, features=FeatureFolder(tmp_path))
    )
    for _ in range(2):
        assert align(encode_images(one, cached), encode_images(other, cached), data) == expected


def test_embeddings_stand_in_for_features_and_what_is_missing_is_named() -> None:
    data = images(30)
    run = toy.run_with(train=data, valid=data, test=data, protocol=None)
    found = encode_images(Embedder(), run)
    assert (found.output, found.features.shape) == ("embedding", (30, 256))
    bare = Model()
    bare.identity = Identity("bare")
    with pytest.raises(Unsupported, match="bare has no features to compare"):
        encode_images(bare, run)
    few = images(19)
    with pytest.raises(BadData, match="19 test images of toy are too few"):
        encode_images(Embedder(), toy.run_with(train=few, valid=few, test=few, protocol=None))


@pytest.mark.integration
def test_the_command_recognizes_one_model(small_store: Path, trained: Path, tmp_path: Path) -> None:
    words = ["--data", "synthetic:120", "--size", "64", "--store", str(small_store)]
    for other, sentence in ((trained, "One model: the weights"), ("random-init", "Two models.")):
        done = CliRunner().invoke(app, ["align", str(trained), str(other), *words])
        assert done.exit_code == 0, done.output
        assert sentence in done.output
        assert "mutual_neighbors" in done.output
    done = CliRunner().invoke(app, ["align", str(trained), "random-init", *words, "--limit", "5"])
    assert done.exit_code == 1
    assert "5 test images" in done.output
