"""Fitting a head, frozen features, and the tables from which scores are computed."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from support import toy
from torch import Tensor, nn

from g2dbench.errors import BadData, BadResult
from g2dbench.evaluation.fit_head import FitSettings, batches, fit
from g2dbench.evaluation.fitted_task import check_splits
from g2dbench.evaluation.frozen_features import (
    FrozenEncoder,
    PyramidCache,
    chunk_size,
    encode_dataset,
)
from g2dbench.evaluation.heads.unet import linear
from g2dbench.evaluation.prediction_table import labeled_findings, labels, long_table, to_wide
from g2dbench.metrics.aggregate import per_finding
from g2dbench.metrics.aggregate import scores as scored
from g2dbench.metrics.classification import weighted_auc
from g2dbench.model import Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.sample import Sample
from g2dbench.task import Run

CPU = torch.device("cpu")
single_thread = toy.single_thread


class Images(toy.Memory):
    card, size = toy.card("toy", "labels", "a", "b"), 32


def images(count: int, seed: int = 0) -> Images:
    rng = np.random.default_rng(seed)
    return Images(
        [
            Sample(
                id=f"{seed}-{i:03d}",
                image=rng.integers(0, 256, (32, 40), dtype=np.uint8),
                patient=f"p{i // 2}",
                labels={"a": i % 2, "b": -1},
            )
            for i in range(count)
        ]
    )


class Net(Model):
    """Two convolutions with a batch norm, so that eval mode matters."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.deep = nn.Conv2d(8, 16, 3, 2, 1)
        self.preprocess = Preprocess(size=32)
        self.identity = Identity("net", "0" * 64)
        self.calls: list[tuple[int, ...]] = []

    def maps(self, x: Tensor) -> list[Tensor]:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.calls.append(tuple(x.shape))
        fine = self.stem(x)
        return [fine, self.deep(fine)]


def run_on(part: Images, **settings: object) -> Run:
    base = {"train": part, "valid": part, "test": part, "protocol": None, "device": CPU}
    return toy.run_with(**(base | settings))  # type: ignore[arg-type]


QUICK = FitSettings(lr=0.05, weight_decay=0.0, batch_size=4, epochs=40, patience=5)


def fitted(seed: int, settings: FitSettings = QUICK) -> nn.Linear:
    head = linear(3, 1, torch.Generator().manual_seed(seed))
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(9))
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 3

    def loss(rows: Tensor) -> Tensor:
        return ((head(x[rows]) - y[rows]) ** 2).mean()

    fit(
        head, 24, loss, lambda: float(loss(torch.arange(24, 30))), settings,
        torch.Generator().manual_seed(seed),
    )  # fmt: skip
    return head


def test_fit_learns_and_the_same_seed_gives_the_same_bits() -> None:
    one, same, other = fitted(1), fitted(1), fitted(2)
    assert torch.equal(one.weight, same.weight)
    assert not torch.equal(one.weight, other.weight)
    assert torch.allclose(one.weight, torch.tensor([[1.0, -2.0, 0.5]]), atol=0.1)


def test_the_best_epochs_weights_are_restored_and_patience_stops_early() -> None:
    head = nn.Linear(1, 1, bias=False)
    values = iter([3.0, 2.0, float("nan"), 5.0, 4.0, 1.0])
    seen: list[float] = []

    def validate() -> float:
        assert not head.training
        seen.append(head.weight.item())
        return next(values)

    settings = FitSettings(lr=0.1, weight_decay=0, batch_size=1, epochs=50, patience=3)
    report = fit(head, 2, lambda rows: head.weight.sum(), validate, settings, torch.Generator())
    assert (report.best_epoch, report.best, report.epochs, report.steps) == (2, 2.0, 5, 10)
    assert head.weight.item() == seen[1] != seen[-1]
    assert not head.training


def test_every_image_is_in_every_pass_and_small_sets_are_repeated() -> None:
    settings = FitSettings(lr=1, weight_decay=0, batch_size=4, min_steps_per_epoch=5)
    parts = list(batches(10, settings, torch.Generator()))
    assert [len(part) for part in parts] == [4, 4, 2, 4, 4, 2]
    first, second = torch.cat(parts[:3]), torch.cat(parts[3:])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(10))
    assert first.tolist() != second.tolist()
    assert len(list(batches(1000, settings, torch.Generator()))) == 250


def test_the_cosine_schedule_decreases_to_zero() -> None:
    head = nn.Linear(1, 1)
    rates: list[float] = []
    settings = FitSettings(
        lr=1.0, weight_decay=0, batch_size=2, epochs=4, min_steps_per_epoch=3, schedule="cosine"
    )
    before = head.weight.item()

    def loss(rows: Tensor) -> Tensor:
        nonlocal before
        rates.append(abs(head.weight.item() - before))
        before = head.weight.item()
        return head.weight.sum()

    fit(head, 3, loss, lambda: -len(rates), settings, torch.Generator())
    # Adam's steps under a constant gradient are as long as the rate.
    expected = [0.5 * (1 + math.cos(math.pi * step / 16)) for step in range(15)]
    assert rates[1:] == pytest.approx(expected, abs=1e-3)


def test_diverging_and_empty_fits_are_errors() -> None:
    head = nn.Linear(1, 1)
    with pytest.raises(BadData, match="not finite in any of 5 epochs"):
        fit(head, 2, lambda rows: head.weight.sum(), lambda: math.nan, QUICK, torch.Generator())
    with pytest.raises(BadData, match="no training image"):
        fit(head, 0, lambda rows: head.weight.sum(), lambda: 0.0, QUICK, torch.Generator())
    with pytest.raises(BadData, match=r"toy has no valid images at --fraction 0\.01"):
        check_splits(run_on(images(2), valid=images(0), fraction=0.01))


def test_frozen_features_are_bit_identical_for_any_neighbors_and_batch_size() -> None:
    net, data = Net(), images(19)
    run, small = run_on(data), run_on(data, batch_size=3)
    frozen = FrozenEncoder(net.train(), net.maps, net.preprocess, run)
    whole = encode_dataset(frozen, data, run, "")
    order = np.random.default_rng(0).permutation(19)
    shuffled = encode_dataset(frozen, data.take(order), small, "")
    alone = torch.cat([frozen([sample.image])[0] for sample in data])
    assert whole.shape == (19, 8, 16, 16)
    assert torch.equal(whole[order], shuffled)
    assert torch.equal(whole, alone)
    assert set(net.calls) == {(chunk_size(CPU), 3, 32, 32)}


def test_cached_and_recomputed_pyramids_are_equal() -> None:
    net, data = Net(), images(11)
    run = run_on(data)
    frozen = FrozenEncoder(net, net.maps, net.preprocess, run)
    kept, again = (
        PyramidCache(frozen, data, run, ""),
        PyramidCache(frozen, data, run, "", budget=1000),
    )
    assert kept.cached
    assert not again.cached
    rows = torch.tensor([10, 0, 3, 3, 7, 1, 2, 9, 8, 4])
    for one, other in zip(kept.batch(rows), again.batch(rows), strict=True):
        assert torch.equal(one, other)
    level = kept.batch([1, 2])[1].requires_grad_()
    assert nn.Conv2d(16, 1, 1)(level).sum().backward() is None


def test_output_that_is_not_finite_is_an_error_with_the_image() -> None:
    data, net = images(3), Net()
    run = run_on(data)

    def broken(x: Tensor) -> list[Tensor]:
        return [torch.where(x.mean((1, 2, 3)) == x.mean((1, 2, 3))[2], math.nan, 0.0)[:, None]]

    with pytest.raises(BadData, match="image 0-002 of toy is not finite"):
        encode_dataset(FrozenEncoder(net, broken, net.preprocess, run), data, run, "")


def test_missing_labels_are_nan_and_findings_need_labels() -> None:
    data = images(4)
    assert labeled_findings(data) == ("a",)
    table = labels(data, ("b", "a", "unheard of"))
    assert table[:, 1].tolist() == [0, 1, 0, 1]
    assert table[:, 0].tolist() == [-1] * 4
    assert np.isnan(table[:, 2]).all()
    data.table["label:a"] = np.nan
    with pytest.raises(BadData, match="toy has no labels 1 or 0"):
        labeled_findings(data)


def test_stored_predictions_are_read_in_any_order_and_validated() -> None:
    data = images(5)
    scores = np.arange(10.0).reshape(5, 2)
    stored = long_table(data, ("b", "a"), score=scores, threshold=np.array([0.5, 0.25]))
    table = to_wide(stored.sample(frac=1, random_state=0), ("score", "threshold"))
    assert table.findings == ("a", "b")
    assert np.array_equal(table["score"], scores[:, ::-1])
    assert table["threshold"][3].tolist() == [0.25, 0.5]
    assert table.patients.tolist() == ["p0", "p0", "p1", "p1", "p2"]
    with pytest.raises(BadResult, match="'b' of image '0-000' twice"):
        to_wide(pd.concat([stored, stored.iloc[:1]]), ("score",))
    with pytest.raises(BadResult, match="'0-000' to two patients"):
        to_wide(stored.assign(patient=["x", *stored["patient"][1:]]), ("score",))
    with pytest.raises(BadResult, match=r"lack the columns \['score'\]"):
        to_wide(stored.drop(columns="score"), ("score",))


def test_per_finding_averages_defined_values_and_reports_others_as_nan() -> None:
    rng = np.random.default_rng(0)
    truth = np.stack([rng.integers(0, 2, 40), rng.integers(0, 2, 40), np.zeros(40)], 1)
    value = rng.random((40, 3))
    statistics = {
        name: (lambda w, k=k: weighted_auc(truth[:, k], value[:, k], w))
        for k, name in enumerate("xyz")
    }
    patients = np.array([f"p{i // 2}" for i in range(40)], object)
    scores = scored(per_finding("auc", patients, statistics, np.ones((40, 3), bool)))
    expected = [roc_auc_score(truth[:, k], value[:, k]) for k in (0, 1)]
    assert scores["auc:x"].value == pytest.approx(expected[0])
    assert scores["auc"].value == pytest.approx(np.mean(expected))
    assert scores["auc"].low < scores["auc"].value < scores["auc"].high
    assert math.isnan(scores["auc:z"].value)
    assert scores["auc:z"].n == 40


@pytest.mark.parametrize(
    ("count", "drop_last", "sizes"),
    [(20, True, [8, 8]), (20, False, [8, 8, 4]), (5, True, [5]), (16, True, [8, 8])],
)
def test_the_incomplete_batch_is_left_out_unless_it_is_the_only_one(
    count: int, drop_last: bool, sizes: list[int]
) -> None:
    settings = FitSettings(lr=1, weight_decay=0, batch_size=8, drop_last=drop_last)
    found = list(batches(count, settings, torch.Generator()))
    assert [len(rows) for rows in found] == sizes
    assert len(set(torch.cat(found).tolist())) == sum(sizes)


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"epochs": 0}, {"lr": 0}, {"patience": 0}, {"batch_size": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            FitSettings(**({"lr": 1, "weight_decay": 0, "batch_size": 8} | wrong))  # type: ignore[arg-type]
