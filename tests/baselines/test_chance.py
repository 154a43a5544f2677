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
from g2dbench.errors import Misuse
from g2dbench.evaluation.fit_head import FitSettings
from g2dbench.model import Model, capabilities
from g2dbench.registry import Registry
from g2dbench.sample import Sample
from g2dbench.system.overrides import override
from g2dbench.task import Run

REGISTRY = Registry()
BASELINE = REGISTRY.find(ModelCard, "chance").load()
TASKS = tuple(card.name for card in REGISTRY.cards(TaskCard))
single_thread = toy.single_thread

LEVEL = {"cls": ("auc", 0.5), "finetune": ("auc", 0.5), "zeroshot": ("auc", 0.5)}
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
        fit = dataclasses.replace(protocol.fit, epochs=2, least_steps=1, batch_size=8)
        return dataclasses.replace(protocol, fit=fit)
    return protocol


@pytest.mark.integration
@pytest.mark.parametrize("name", TASKS)
def test_every_task_scores_the_same_with_and_without_the_image(
    name: str, small_store: Path
) -> None:
    """Exchanging the images of the test split leaves the score within its interval."""
    task = REGISTRY.find(TaskCard, name).load()
    data = open_prepared("synthetic:120", small_store, REGISTRY, size=64)
    test = data.split("test")
    exchanged = Exchanged([test[row] for row in range(len(test))], test.card, test.size)
    protocol = small(task, name)
    found = []
    for images in (test, exchanged):
        run: Run[Any] = toy.run_with(
            train=data.split("train").take(range(40)), valid=data.split("valid"), test=images,
            protocol=protocol, device=torch.device("cpu"),
        )  # fmt: skip
        found.append(task.score(task.predict(chance(), run), protocol)[task.CARD.metric])
    one, other = found
    assert one.low <= other.high
    assert other.low <= one.high
    if name in LEVEL:
        assert one.low < LEVEL[name][1] < one.high


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
