"""Every protocol of segmentation learns, is saved and reloaded, and says what it did."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import toy
from support.spots import Decoder, Memory, Pools, Trainable, part, sample, spot

from g2dbench.cards import TaskCard
from g2dbench.errors import BadCheckpoint, BadResult
from g2dbench.evaluation.fit_head import FitSettings
from g2dbench.evaluation.heads.saved_head import HEAD_FILE, SavedHead, load_head
from g2dbench.model import Model
from g2dbench.registry import Registry
from g2dbench.system.machine import FeatureFolder, Machine
from g2dbench.task import Run

TASK = Registry().find(TaskCard, "seg").load()
QUICK = FitSettings(
    lr=1e-2, weight_decay=0, batch_size=8, epochs=6, patience=6, min_steps_per_epoch=6
)
ONCE = dataclasses.replace(QUICK, epochs=1, min_steps_per_epoch=2)
single_thread = toy.single_thread


def run_on(name: str, fit: FitSettings = QUICK, **settings: object) -> Run:
    protocol = dataclasses.replace(TASK.PROTOCOLS[name], fit=fit, valid_images=None)
    base = {"train": part("train", 24), "valid": part("va", 9), "test": part("t", 9)}
    return toy.run_with(protocol=protocol, **(base | settings))  # type: ignore[arg-type]


def shuffled(data: Memory) -> Memory:
    """Every mask is moved around the image's edges to a random place."""
    generator = np.random.default_rng(0)
    samples = []
    for given in data:
        shift = generator.integers(0, 32, 2).tolist()
        moved = {name: np.roll(m, shift, (0, 1)) for name, m in (given.masks or {}).items()}
        samples.append(dataclasses.replace(given, masks=moved))
    return Memory(samples)


def best_constant_dice(data: Memory) -> float:
    """Dice of the best prediction that does not look at the image."""
    truth = [s.masks["spot"] for s in data if s.masks]
    mean = np.mean(truth, axis=0)
    dices = []
    for level in np.unique(mean[mean > 0]):
        guess = mean >= level
        dices.append(np.mean([2 * (guess & t).sum() / (guess.sum() + t.sum()) for t in truth]))
    return float(max(dices))


@pytest.mark.parametrize("name", TASK.CARD.protocols)
def test_a_planted_finding_is_learned(name: str) -> None:
    fit = dataclasses.replace(QUICK, lr=0.1, epochs=12) if name == "dense-probe" else QUICK
    predictions = TASK.predict(Trainable(1, 2), run_on(name, fit))
    assert TASK.score(predictions, TASK.PROTOCOLS[name])["dice"].value > 0.93


@pytest.mark.parametrize("name", ["g2d", "medklip", "dense-probe"])
def test_shuffled_masks_give_chance(name: str) -> None:
    run = run_on(name, dataclasses.replace(QUICK, epochs=3))
    run = dataclasses.replace(run, train=shuffled(run.train), valid=shuffled(run.valid))
    dice = TASK.score(TASK.predict(Trainable(2), run), run.protocol)["dice"].value
    assert dice < best_constant_dice(run.test) + 0.1


@pytest.mark.parametrize("name", ["g2d", "mgca", "medklip", "dense-probe"])
def test_a_saved_head_gives_the_same_predictions_without_training_data(
    name: str, tmp_path: Path
) -> None:
    model = Trainable(4, 8)
    run = run_on(name, ONCE, save_heads=True, folder=tmp_path)
    expected = TASK.predict(model, run)
    saved = load_head(tmp_path / HEAD_FILE)
    nothing = Memory([])
    applied = dataclasses.replace(run, train=nothing, valid=nothing)
    pd.testing.assert_frame_equal(TASK.apply(model, saved, applied), expected)
    encoder = {key for key in saved.weights if key.startswith("encoder.")}
    assert bool(encoder) == (name in ("mgca", "medklip"))
    assert ("encoder.stem.0.weight" in encoder) == (name == "medklip")
    assert not any("unused" in key for key in encoder)


def test_a_head_is_applied_to_images_without_ground_truth_and_of_any_size() -> None:
    run = run_on("g2d", ONCE)
    saved = TASK.fit(Trainable(2), run)
    images = Memory([sample("x", 1, None, (20, 50)), sample("x", 2, None, (64, 33))])
    found = TASK.apply(Trainable(2), saved, dataclasses.replace(run, test=images))
    assert found["truth"].tolist() == [None, None]
    assert found[["height", "width"]].to_numpy().tolist() == [[20, 50], [64, 33]]
    with pytest.raises(BadResult, match="no ground truth for image 'x01'"):
        TASK.score(found, run.protocol)


def test_the_model_itself_is_not_changed_by_updating_it() -> None:
    model = Trainable(2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    TASK.predict(model, run_on("medklip", ONCE))
    assert all(bool((before[name] == value).all()) for name, value in model.state_dict().items())


def test_a_head_of_another_model_or_task_is_refused() -> None:
    run = run_on("g2d", ONCE)
    saved = TASK.fit(Trainable(2), run)
    with pytest.raises(BadCheckpoint, match="does not fit pools"):
        TASK.apply(Pools(2), saved, run)
    with pytest.raises(BadCheckpoint, match="for 'det', not for 'seg'"):
        TASK.apply(Trainable(2), SavedHead(saved.weights, {"task": "det"}), run)
    own = TASK.fit(Decoder(1, 2), run)
    with pytest.raises(BadCheckpoint, match="which trainable lacks"):
        TASK.apply(Trainable(1, 2), own, run)


@pytest.mark.parametrize("name", ["g2d", "mgca", "medklip"])
def test_scores_depend_on_the_seed_but_not_on_batch_size_or_order(name: str) -> None:
    def predicted(**settings: object) -> pd.DataFrame:
        found = TASK.predict(Trainable(2, 8), run_on(name, ONCE, **settings))
        return found.sort_values("id").reset_index(drop=True)

    first = predicted(batch_size=1)
    pd.testing.assert_frame_equal(predicted(batch_size=32), first)
    backwards = part("t", 9).take(range(8, -1, -1))
    pd.testing.assert_frame_equal(predicted(test=backwards), first)
    assert not predicted(seed=1)["predicted"].equals(first["predicted"])


@pytest.mark.parametrize("name", ["g2d", "dense-probe"])
def test_cached_features_give_the_same_predictions(name: str, tmp_path: Path) -> None:
    expected = TASK.predict(Trainable(2, 8), run_on(name, ONCE))
    run = run_on(name, ONCE)
    machine = Machine(device=run.device, features=FeatureFolder(tmp_path))
    cached = dataclasses.replace(run, machine=machine)
    for _ in range(2):
        pd.testing.assert_frame_equal(TASK.predict(Trainable(2, 8), cached), expected)
    assert any(tmp_path.rglob("*"))


def test_augmented_protocols_never_use_the_cache(tmp_path: Path) -> None:
    run = run_on("medklip", ONCE)
    machine = Machine(device=run.device, features=FeatureFolder(tmp_path))
    TASK.predict(Trainable(2), dataclasses.replace(run, machine=machine))
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("name", "make", "decoder"),
    [
        ("g2d", lambda: Trainable(2, 4), "unet"),
        ("g2d", lambda: Trainable(16), "setr"),
        ("mgca", lambda: Trainable(2, 4), "unet"),
        ("mgca-vit", lambda: Trainable(2, 4), "setr"),
        ("dense-probe", lambda: Trainable(16), "linear"),
        ("g2d", lambda: Decoder(1, 2), "pretrained"),
        ("g2d-encoder", lambda: Decoder(1, 2), "unet"),
    ],
)
def test_the_details_name_the_decoder(name: str, make: Callable[[], Model], decoder: str) -> None:
    run = run_on(name, ONCE)
    TASK.fit(make(), run)
    assert run.details["decoder"] == decoder
    assert run.details["training_images"] == {"annotated": 24, "with_finding": 16}


def test_settings_follow_the_data_set() -> None:
    for name in ("g2d", "g2d-encoder", "mgca", "mgca-vit"):
        protocol = TASK.PROTOCOLS[name]
        siim, rsna = protocol.on("siim"), protocol.on("rsna")
        assert (siim.fit.batch_size, siim.train_on) == (8, "balanced")
        assert (rsna.fit.batch_size, rsna.train_on) == (16, "all")


def test_the_new_protocols_are_as_published() -> None:
    mgca, medklip = TASK.PROTOCOLS["mgca"], TASK.PROTOCOLS["medklip"]
    assert (mgca.fit.lr, mgca.fit.weight_decay, mgca.fit.schedule) == (5e-4, 0.05, "constant")
    assert (mgca.loss, mgca.augment, mgca.encoder) == ("mgca", "mgca", "batch-statistics")
    fit = medklip.fit
    assert (fit.lr, fit.weight_decay, fit.batch_size, fit.epochs) == (1e-5, 0.02, 64, 1000)
    assert (medklip.loss, medklip.augment) == ("dice-ce", "resized-crop")
    assert (medklip.encoder, medklip.on("siim").train_on) == ("updated", "all")


def test_findings_of_the_test_images_alone_are_predicted_absent() -> None:
    odd = Memory([*part("t", 3), sample("o", 1, {"edge": spot(2)}, (32, 32))])
    run = run_on("g2d", ONCE, test=odd)
    found = TASK.predict(Trainable(2), run)
    assert sorted(found["finding"].unique()) == ["edge", "spot"]
    assert TASK.score(found, run.protocol)["dice:edge"].value == 0
    only = dataclasses.replace(run.protocol, findings=("spot",))
    found = TASK.predict(Trainable(2), dataclasses.replace(run, protocol=only))
    assert set(found["finding"]) == {"spot"}


def test_a_finding_of_one_pixel_is_scored() -> None:
    pixel = np.zeros((32, 32), bool)
    pixel[5, 7] = True
    test = Memory([sample("p", 1, {"spot": pixel}, (32, 32)), sample("p", 2, {}, (32, 32))])
    run = run_on("g2d", ONCE, test=test)
    scores = TASK.score(TASK.predict(Trainable(2), run), run.protocol)
    assert 0 <= scores["dice"].value <= 1
    assert (scores["dice"].n, scores["dice_per_image"].n, scores["hd95"].n) == (1, 2, 1)
    assert 0 <= scores["hd95"].value <= 224 * 2**0.5
