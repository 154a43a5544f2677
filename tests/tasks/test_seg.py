"""Segmentation: training images, transfer of a decoder, and three definitions of the score."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch
from support import toy
from support.spots import Decoder, Memory, Pools, part, sample, spot

from g2dbench.cards import TaskCard
from g2dbench.data.annotations import rle
from g2dbench.errors import BadData, BadResult, Unsupported
from g2dbench.evaluation.fit_head import FitSettings
from g2dbench.evaluation.segmentation.losses import soft_dice_and_cross_entropy
from g2dbench.model import Identity, Model
from g2dbench.registry import Registry
from g2dbench.task import Run

CPU = torch.device("cpu")
TASK = Registry().find(TaskCard, "seg").load()
G2D, ENCODER = TASK.PROTOCOLS["g2d"], TASK.PROTOCOLS["g2d-encoder"]
SHORT = FitSettings(
    lr=1e-2, weight_decay=0, batch_size=4, epochs=6, patience=6, min_steps_per_epoch=5
)
STILL = dataclasses.replace(SHORT, lr=1e-9, epochs=1, min_steps_per_epoch=1)
single_thread = toy.single_thread


def run_on(protocol: object = ENCODER, fit: FitSettings = SHORT, **settings: object) -> Run:
    base = {
        "train": part("train", 12), "valid": part("va", 6), "test": part("t", 9), "device": CPU,
        "protocol": dataclasses.replace(protocol, fit=fit),  # type: ignore[type-var]
    }  # fmt: skip
    return toy.run_with(**(base | settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("strides", [(2, 4, 8), (1, 4, 8)])
def test_a_decoder_learns_to_segment_what_the_pyramid_shows(strides: tuple[int, ...]) -> None:
    predictions = TASK.predict(Pools(*strides), run_on())
    expected = ["id", "patient", "finding", "height", "width", "truth", "predicted"]
    assert list(predictions) == expected
    scores = TASK.score(predictions, ENCODER)
    assert scores["dice"].value > 0.85
    assert scores["dice"].n == 6
    assert scores["dice_per_image"].n == 9
    shuffled = TASK.score(predictions.sample(frac=1, random_state=0), ENCODER)
    assert str(shuffled) == str(scores)  # NaN limits are equal as text


def test_a_single_coarse_map_is_enough() -> None:
    predictions = TASK.predict(Pools(16), run_on(fit=dataclasses.replace(SHORT, epochs=1)))
    assert len(predictions) == 9
    assert not math.isnan(TASK.score(predictions, ENCODER)["dice"].value)


def test_results_are_bit_identical_for_any_batch_size_and_depend_on_the_seed() -> None:
    short = dataclasses.replace(SHORT, epochs=2)
    one = TASK.predict(Pools(4, 8), run_on(fit=short, batch_size=3))
    other = TASK.predict(Pools(4, 8), run_on(fit=short, batch_size=16))
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    reseeded = TASK.predict(Pools(4, 8), run_on(fit=short, seed=1))
    assert not one["predicted"].equals(reseeded["predicted"])


def test_a_pretrained_decoder_transfers_in_g2d_and_not_in_g2d_encoder() -> None:
    kept = TASK.score(TASK.predict(Decoder(1, 2), run_on(G2D, STILL)), G2D)
    assert kept["dice"].value == kept["dice_per_image"].value == kept["iou"].value == 1
    fresh = TASK.score(TASK.predict(Decoder(1, 2), run_on(ENCODER, STILL)), ENCODER)
    assert fresh["dice"].value < 0.7
    without = TASK.predict(Pools(1, 2), run_on(G2D, STILL))
    pd.testing.assert_frame_equal(without, TASK.predict(Pools(1, 2), run_on(ENCODER, STILL)))


def test_masks_are_in_image_pixels_for_images_of_any_size() -> None:
    tests = Memory([*part("t", 3, (48, 64)), *part("u", 3, (100, 32))])
    predictions = TASK.predict(Decoder(1, 2), run_on(G2D, STILL, test=tests))
    assert predictions[["height", "width"]].iloc[[0, -1]].to_numpy().tolist() == [
        [48, 64],
        [100, 32],
    ]
    assert (TASK.score(predictions, G2D)["dice"].value) > 0.85
    truth = rle.decode(predictions["truth"].iloc[1], (48, 64))
    assert np.array_equal(truth, spot(1, (48, 64)))


def two_findings(name: str, count: int) -> Memory:
    given = []
    for i in range(count):
        masks = {"spot": spot(i)} if i % 2 else {"edge": np.arange(32)[:, None] > np.full(32, 27)}
        given.append(sample(name, i, masks, (32, 32)))
    return Memory(given)


def test_several_findings_have_a_channel_each_and_can_be_selected() -> None:
    parts = {n: two_findings(n, 6) for n in ("train", "valid", "test")}
    predictions = TASK.predict(Decoder(1, 2), run_on(G2D, STILL, **parts))
    assert len(predictions) == 6 * 2
    scores = TASK.score(predictions, G2D)
    assert scores["dice"].value == pytest.approx(
        (scores["dice:edge"].value + scores["dice:spot"].value) / 2
    )
    assert scores["dice:edge"].n == 3
    chosen = dataclasses.replace(G2D, findings=("edge",))
    assert set(TASK.predict(Decoder(1, 2), run_on(chosen, STILL, **parts))["finding"]) == {"edge"}


@pytest.mark.parametrize(("train_on", "shown"), [("positives", 4), ("balanced", 8), ("all", 12)])
def test_training_images_are_sampled_as_the_protocol_says(train_on: str, shown: int) -> None:
    data = Memory(
        [sample("train", i, {"spot": spot(i)} if i < 4 else {}, (32, 32)) for i in range(12)]
    )
    run = run_on(dataclasses.replace(ENCODER, train_on=train_on), STILL, train=data)
    ids, again = ([s.id for s in TASK._fit_data(run, run.protocol)[0]] for _ in range(2))
    assert ids == again == sorted(ids)
    assert len(ids) == shown
    assert {f"train0{i}" for i in range(4)} <= set(ids)


def test_scores_worked_by_hand() -> None:
    truth, predicted = np.zeros((2, 4, 4), bool)
    truth[:2, :2], predicted[:2, :3] = True, True  # 4 and 6 pixels, 4 shared
    nothing = np.zeros((4, 4), bool)
    pairs = [(truth, predicted), (truth, nothing), (nothing, nothing), (nothing, predicted)]
    table = pd.DataFrame(
        {
            "id": list("abcd"), "patient": list("wxyz"), "finding": "spot", "height": 4, "width": 4,
            "truth": [rle.encode(t) for t, _ in pairs],
            "predicted": [rle.encode(p) for _, p in pairs],
        }
    )  # fmt: skip
    scores = TASK.score(table, G2D)
    assert scores["dice"].value == pytest.approx((8 / 10 + 0) / 2)
    assert scores["iou"].value == pytest.approx((4 / 6 + 0) / 2)
    assert scores["dice_per_image"].value == pytest.approx((8 / 10 + 0 + 1 + 0) / 4)
    assert (scores["dice"].n, scores["dice_per_image"].n) == (2, 4)
    healthy = TASK.score(table.iloc[2:], G2D)
    assert math.isnan(healthy["dice"].value)
    assert healthy["dice_per_image"].value == 0.5
    with pytest.raises(BadResult):
        TASK.score(table.assign(predicted="!!"), G2D)
    with pytest.raises(BadResult, match="lack the columns"):
        TASK.score(table.drop(columns="truth"), G2D)


def test_the_loss_is_soft_dice_and_cross_entropy() -> None:
    loss = soft_dice_and_cross_entropy
    target = torch.zeros(2, 1, 2, 2)
    target[0] = 1
    chance = torch.full((2, 1, 2, 2), 0.5)
    expected = 1 - (2 * 2 + 1) / (4 + 4 + 1) + math.log(2)
    assert float(loss(chance.logit(), target)) == pytest.approx(expected)
    assert float(loss(200 * target - 100, target)) == pytest.approx(0, abs=1e-6)


def test_what_cannot_be_fitted_is_an_error() -> None:
    class Blind(Model):
        identity = Identity("blind", "0" * 64)

    with pytest.raises(Unsupported, match="seg needs a model that offers features"):
        TASK.predict(Blind(), run_on())
    with pytest.raises(BadData, match="no valid images"):
        TASK.predict(Pools(4), run_on(valid=Memory([])))
    unannotated = Memory([sample("v", i, None, (32, 32)) for i in range(3)])
    with pytest.raises(BadData, match="none of the 3 valid images of toy has masks"):
        TASK.predict(Pools(4), run_on(valid=unannotated))
    healthy = Memory([sample("train", i, {}, (32, 32)) for i in range(3)])
    with pytest.raises(BadData, match="none of the 3 training images of toy has a mask of any"):
        TASK.predict(Pools(4), run_on(train=healthy))


def test_images_without_masks_are_not_tested_on() -> None:
    mixed = Memory([*part("t", 3), sample("x", 9, None, (32, 32))])
    assert set(TASK.predict(Pools(4), run_on(fit=STILL, test=mixed))["id"]) == {"t00", "t01", "t02"}


def test_the_published_protocols_are_pinned() -> None:
    assert tuple(TASK.PROTOCOLS) == TASK.CARD.protocols
    for protocol in (G2D, ENCODER):
        settings = protocol.fit
        assert (settings.lr, settings.weight_decay, settings.betas) == (2e-4, 0.05, (0.9, 0.999))
        assert (settings.batch_size, settings.epochs, settings.patience) == (16, 50, 10)
        assert protocol.valid_images is None
