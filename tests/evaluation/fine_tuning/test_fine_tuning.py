"""Fine-tuning: resume, layer-wise rates, adapters, schedules."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from support import toy
from support.classification import SmallCnn, part
from torch import nn

from g2dbench.errors import BadCheckpoint, BadData, Unsupported
from g2dbench.evaluation.classification.splits import labeled_splits
from g2dbench.evaluation.fine_tuning import loop
from g2dbench.evaluation.fine_tuning.checkpoint import CHECKPOINT_FILE
from g2dbench.evaluation.fine_tuning.classifier import (
    Training,
    changed_weights,
    load_classifier,
    train_classifier,
)
from g2dbench.evaluation.fine_tuning.layers import (
    layer_of,
    learning_rate_factors,
    modules_in_order,
)
from g2dbench.evaluation.fine_tuning.low_rank import add_adapters, merge_adapters
from g2dbench.evaluation.fine_tuning.settings import FineTuneSettings
from g2dbench.evaluation.label_policy import LabelPolicy
from g2dbench.model import Model
from g2dbench.task import Run

single_thread = toy.single_thread
SETTINGS = FineTuneSettings(lr=0.01, batch_size=8, epochs=5, schedule="cosine", warmup_epochs=1)


def run_in(folder: Path | None, **given: Any) -> Run[Any]:
    return toy.run_with(
        train=part("train", 20), valid=part("va", 12), test=part("t", 8),
        protocol=None, device=torch.device("cpu"), folder=folder, **given,
    )  # fmt: skip


def train(run: Run[Any], settings: FineTuneSettings = SETTINGS, **given: Any) -> dict[str, Any]:
    splits = labeled_splits(run, LabelPolicy(findings={}))
    training = Training(splits=splits, settings=settings, augmentation="resized-crop", **given)
    model = SmallCnn()
    return changed_weights(train_classifier(model, training, run, "training"), model)


def assert_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("adapters", [None, (2, 4.0)])
def test_a_stopped_training_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapters: tuple[int, float] | None
) -> None:
    whole_run = run_in(None)
    whole = train(whole_run, adapters=adapters)

    validated = 0
    macro = loop._Trainer.epoch

    def killed(self: loop._Trainer, number: int, progress: loop.Progress) -> None:
        nonlocal validated
        validated += 1
        if validated == 4:
            raise KeyboardInterrupt
        macro(self, number, progress)

    monkeypatch.setattr(loop._Trainer, "epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        train(run_in(tmp_path), adapters=adapters)
    assert (tmp_path / CHECKPOINT_FILE).is_file()
    torch.manual_seed(99)  # the global generator must not matter
    resumed = run_in(tmp_path)
    assert_equal(train(resumed, adapters=adapters), whole)
    assert resumed.details["fit"]["resumed_after_epoch"] == 3
    assert resumed.details["fit"]["curve"] == whole_run.details["fit"]["curve"]
    assert not (tmp_path / CHECKPOINT_FILE).exists()


def test_a_checkpoint_of_other_settings_is_not_used_and_a_broken_one_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    train(run_in(tmp_path))
    other = run_in(tmp_path)
    train(other, dataclasses.replace(SETTINGS, epochs=2))
    assert other.details["fit"]["resumed_after_epoch"] == 0
    (tmp_path / CHECKPOINT_FILE).write_bytes(b"half a file")
    with pytest.raises(BadCheckpoint, match=r"fine_tuning\.pt cannot be read"):
        train(run_in(tmp_path))


def test_everything_used_is_trained_and_nothing_else(tmp_path: Path) -> None:
    model = SmallCnn()
    weights = train(run_in(None))
    assert not any("text" in name for name in weights)
    trained = {name for name, _ in model.named_parameters() if not name.startswith("text")}
    assert {f"encoder.{name}" for name in trained} <= weights.keys()
    assert "encoder.stem.1.running_mean" in weights
    classifier = load_classifier(model, weights, run_in(None))
    assert_equal(changed_weights(classifier, model), weights)


def test_adapters_change_matrices_alone() -> None:
    weights = train(run_in(None), adapters=(2, 4.0))
    matrices = {"stem.0.weight", "blocks.0.weight", "blocks.1.in_proj_weight",
                "blocks.1.out_proj.weight"}  # fmt: skip
    assert weights.keys() == {f"encoder.{n}" for n in matrices} | {"head.weight", "head.bias"}


def test_merged_adapters_give_the_same_output_and_start_as_the_encoder() -> None:
    model = SmallCnn().eval()
    images = torch.rand(3, 1, 16, 16)
    before = model.pooled(images)
    names = modules_in_order(model, model.pooled)
    parameters = add_adapters(model, names, 2, 4.0, torch.Generator().manual_seed(0))
    assert torch.equal(model.pooled(images), before)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.1)
    adapted = model.pooled(images)
    assert not torch.allclose(adapted, before)
    merge_adapters(model)
    assert torch.allclose(model.pooled(images), adapted, atol=1e-6)
    assert model.state_dict().keys() == SmallCnn().state_dict().keys()


def test_an_encoder_without_matrices_has_nothing_to_adapt() -> None:
    with pytest.raises(Unsupported, match="no linear layer, attention or convolution"):
        add_adapters(nn.BatchNorm2d(3), [""], 2, 4.0, torch.Generator())


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("trunk.blocks.3.attn.qkv", "trunk.blocks.3"),
        ("encoder.layer2.0.conv1", "encoder.layer2"),
        ("encoder.conv1", "encoder.conv1"),
        ("patch_embed.proj", "patch_embed.proj"),
        ("", ""),
    ],
)
def test_a_layer_is_the_first_numbered_part_of_a_name(name: str, layer: str) -> None:
    assert layer_of(name) == layer


def test_rates_of_a_vit_fall_from_block_to_block() -> None:
    class Vit(Model):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = timm.create_model(
                "vit_tiny_patch16_224", img_size=16, num_classes=0, depth=3
            ).eval()
            self.preprocess = dataclasses.replace(SmallCnn().preprocess, channels=3)

    model = Vit()
    factors = learning_rate_factors(model, model.trunk.forward, 0.5)
    assert factors["trunk.norm.weight"] == 0.5
    assert [factors[f"trunk.blocks.{n}.mlp.fc1.weight"] for n in (2, 1, 0)] == [0.25, 0.125, 0.0625]
    assert factors["trunk.patch_embed.proj.weight"] == 2**-5
    assert factors["trunk.cls_token"] <= 2**-5


def test_steps_epochs_and_rates_by_hand() -> None:
    settings = FineTuneSettings(
        lr=1.0, batch_size=8, steps=25, schedule="cosine", warmup_steps=5, min_steps_per_epoch=3
    )
    assert settings.steps_per_epoch(20) == 4  # two whole batches, twice
    assert settings.total_epochs(20) == 7
    assert [settings.rate(step, 20) for step in (0, 4, 5, 15, 25)] == pytest.approx(
        [0.2, 1, 1, 0.5, 0]
    )
    assert FineTuneSettings(lr=1, batch_size=64).steps_per_epoch(20) == 1


def test_early_stopping_and_a_limit_of_steps() -> None:
    run = run_in(None)
    train(run, dataclasses.replace(SETTINGS, lr=1e-9, epochs=30, patience=2, warmup_epochs=0))
    assert run.details["fit"]["epochs"] < 30
    run = run_in(None)
    train(run, dataclasses.replace(SETTINGS, steps=3, warmup_epochs=0))
    assert run.details["fit"]["steps"] == 3


def test_one_training_image_is_refused() -> None:
    run = dataclasses.replace(run_in(None), train=part("train", 1))
    with pytest.raises(BadData, match="two training images"):
        train(run)
