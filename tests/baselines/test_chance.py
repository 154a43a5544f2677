"""The model `chance` scores chance in every task: its outputs say nothing about the image."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import toy
from support.classification import SIDE, Memory, shuffled

from g2dbench.cards import ModelCard, TaskCard
from g2dbench.data.opening import open_prepared
from g2dbench.dataset import Dataset
from g2dbench.errors import Misuse
from g2dbench.evaluation.fit_head import FitSettings
from g2dbench.model import Model, capabilities
from g2dbench.registry import Registry
from g2dbench.result import Score
from g2dbench.sample import Sample
from g2dbench.system.overrides import override
from g2dbench.task import Run, main_metric

REGISTRY = Registry()
BASELINE = REGISTRY.find(ModelCard, "chance").load()
TASKS = tuple(card.name for card in REGISTRY.cards(TaskCard))
single_thread = toy.single_thread

LEVEL = {"cls": 0.5, "finetune": 0.5, "zeroshot": 0.5}
"""Tasks whose main metric has a known value without information."""


def chance(seed: int = 0) -> Model:
    model: Model = BASELINE.load(None, seed)
    return model


def test_outputs_depend_on_the_image_as_a_whole_and_not_on_its_batch() -> None:
    model = chance()
    assert set(capabilities(model)) == set(model.card.capabilities)
    images = torch.rand(4, 1, 64, 64)
    for output in (
        model.pooled, model.embed_images, lambda x: model.features(x)[0],
        lambda x: model.locate(x, ["a", "b"]), lambda x: model.match(x, ["a", "b"]),
    ):  # fmt: skip
        whole = output(images)
        assert torch.equal(whole[2:3], output(images[2:3]))
        changed = images.clone()
        changed[:, :, 5, 5] += 0.01
        assert torch.isfinite(whole).all()
        correlation = np.corrcoef(whole.flatten().numpy(), output(changed).flatten().numpy())
        assert abs(correlation[0, 1]) < 0.9
        assert not torch.equal(whole, output(changed))
    assert not torch.equal(model.pooled(images), chance(1).pooled(images))
    assert chance(0).identity.digest != chance(1).identity.digest
    assert torch.allclose(model.embed_texts(["x", "y"]).norm(dim=1), torch.ones(2))
    with pytest.raises(Misuse, match="no weights"):
        BASELINE.load("file", 0)


@pytest.mark.parametrize("name", ["g2d", "sweep", "knn", "prototype"])
def test_cls_with_a_perfectly_visible_signal_scores_chance(name: str) -> None:
    task = REGISTRY.find(TaskCard, "cls").load()
    run = toy.run_with(
        train=visible("train", 60), valid=visible("valid", 30), test=visible("test", 120),
        protocol=task.PROTOCOLS[name], device=torch.device("cpu"),
    )  # fmt: skip
    score = task.score(task.predict(chance(), run), run.protocol)["auc"]
    assert score.low < 0.5 < score.high
    assert score.value == pytest.approx(0.5, abs=0.15)


def visible(name: str, count: int) -> Memory:
    """Images that are all black or all white, but for two pixels, as the label says."""
    labels = shuffled(name, count).table
    samples = []
    for number in range(count):
        left = int(labels["label:left"][number])
        image = np.full((SIDE, SIDE), 255 * left, np.uint8)
        image[0, :2] = number, len(name)  # no image is in two splits
        samples.append(
            Sample(
                id=f"{name}{number}", image=image, patient=f"{number}",
                labels={"left": left, "top": int(labels["label:top"][number])},
            )
        )  # fmt: skip
    return Memory(samples)


def small(task: Any, name: str) -> Any:
    """The default protocol with few steps."""
    protocol = next(iter(task.PROTOCOLS.values()))
    if name == "finetune":
        return override(protocol, ["epochs=2", "batch_size=16"])[0]
    if hasattr(protocol, "fit") and isinstance(protocol.fit, FitSettings):
        fit = dataclasses.replace(protocol.fit, epochs=2, min_steps_per_epoch=1, batch_size=8)
        return dataclasses.replace(protocol, fit=fit)
    return protocol


@pytest.mark.integration
@pytest.mark.parametrize("name", [name for name in TASKS if name not in LEVEL])
def test_other_tasks_score_the_same_with_the_images_of_other_annotations(
    name: str, small_store: Path
) -> None:
    test = open_prepared("synthetic:120", small_store, REGISTRY, size=64).split("test")
    exchanged = Exchanged([test[row] for row in range(len(test))], test.card, test.size)
    one, other = (main_score(name, small_store, images) for images in (test, exchanged))
    assert one.low <= other.high
    assert other.low <= one.high


@pytest.mark.integration
@pytest.mark.parametrize("name", LEVEL)
def test_over_several_seeds_the_score_is_the_known_one(name: str, small_store: Path) -> None:
    test = open_prepared("synthetic:120", small_store, REGISTRY, size=64).split("test")
    values = [main_score(name, small_store, test, seed).value for seed in range(8)]
    # One AUC of 21 images has a standard deviation of about .1.
    assert np.mean(values) == pytest.approx(LEVEL[name], abs=0.1)


def main_score(name: str, store: Path, test: Dataset, seed: int = 0) -> Score:
    """The main score of a model, fitted on 40 images if the task fits a head."""
    task = REGISTRY.find(TaskCard, name).load()
    data = open_prepared("synthetic:120", store, REGISTRY, size=64)
    protocol = small(task, name)
    run: Run[Any] = toy.run_with(
        train=data.split("train").take(range(40)), valid=data.split("valid"), test=test,
        protocol=protocol, device=torch.device("cpu"), seed=seed,
    )  # fmt: skip
    predictions = task.predict(chance(seed), run)
    score: Score = task.score(predictions, protocol)[main_metric(task, data.card)]
    return score


class Exchanged(toy.MemoryDataset):
    """The same annotations, each with the image of the next sample of the same size."""

    def __init__(self, samples: list[Sample], *rest: Any) -> None:
        images = [sample.image for sample in samples]
        moved = [
            dataclasses.replace(
                sample,
                image=next(
                    image
                    for image in images[number + 1 :] + images[: number + 1]
                    if image.shape == sample.image.shape
                ),
            )
            for number, sample in enumerate(samples)
        ]
        super().__init__(moved, *rest)
