"""A toy method on toy radiographs: trainings that take a second."""

import csv
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from g2dbench.cards import DatasetCard, MethodCard
from g2dbench.data.store.memory import MemoryDataset
from g2dbench.method import Batch, Method
from g2dbench.methods.g2d.warnings import WARNING_RULES
from g2dbench.model import Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.text.tokenizer import Tokenize
from g2dbench.recipes.recipe import Recipe
from g2dbench.registry import Entry, Registry
from g2dbench.runs import folder as runs
from g2dbench.runs.folder import RunFolder
from g2dbench.sample import Sample
from g2dbench.system.machine import Machine
from g2dbench.training import fit as train

CPU = torch.device("cpu")


WORDS = ("left", "right", "effusion", "nodule", "clear", "lungs", "heart", "normal")


CARD = MethodCard(name="toy", summary="a toy", paper="none", capabilities=("embeds",))


FAKE = DatasetCard(name="fake", summary="", offers=("reports",), findings=(), url="", licence="")


def some(
    train_count: int = 34, valid_count: int = 10, fingerprint: str = "f" * 64
) -> MemoryDataset:
    rng = np.random.default_rng(0)
    samples = []
    for number in range(train_count + valid_count):
        image = rng.integers(0, 128, (32, 32), dtype=np.uint8)
        side = number % 2
        image[:, 16 * side : 16 * side + 16] += 100
        said = " ".join(rng.choice(WORDS[2:], 3))
        samples.append(
            Sample(
                id=f"i{number:03d}",
                image=image,
                patient=f"p{number}",
                view="PA",
                split="train" if number < train_count else "valid",
                report=f"{WORDS[side]} {said} {number}.",
            )
        )
    return MemoryDataset(samples, FAKE, 32, fingerprint)


class Toy(Method):
    """A convolution, a bag of words, dropout on both, and batch norm: everything with state."""

    warning_rules = WARNING_RULES

    def __init__(self, config: dict[str, Any], tokenizer: Any) -> None:
        super().__init__()
        width = config.get("width", 8)
        self.conv = nn.Conv2d(3, width, 8, 8)
        self.norm = nn.BatchNorm2d(width)
        self.words = nn.Embedding(len(tokenizer), width)
        self.tied = self.words.weight  # one storage under two names
        self.dropout = nn.Dropout(0.2)
        self.preprocess = Preprocess(size=32)
        self.tokenize = Tokenize(tokenizer, 16)
        self.architecture = dict(config)
        self.blow_up = config.get("blow_up_at", -1)

    def image(self, images: Tensor) -> Tensor:
        return F.normalize(self.dropout(self.norm(self.conv(images))).mean((2, 3)), dim=-1)

    def text(self, tokens: Tensor, attention: Tensor) -> Tensor:
        mask = attention.unsqueeze(-1)
        return F.normalize((self.dropout(self.words(tokens)) * mask).sum(1), dim=-1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.image(batch.images) @ self.text(batch.tokens, batch.attention).T / 0.1
        found = {"vla": F.cross_entropy(logits, torch.arange(len(logits)))}
        if batch.step >= 6:
            found["pa"] = self.conv.weight.square().mean()
        if batch.step == self.blow_up:
            found["vla"] = found["vla"] * float("nan")
        return found

    def monitors(self, batch: Batch) -> dict[str, float]:
        assert not self.training
        return {"attention_entropy": 0.999}

    def as_model(self) -> Model:
        return ToyModel(self)


class ToyModel(Model):
    def __init__(self, toy: Toy) -> None:
        super().__init__()
        self.toy, self.preprocess = toy, toy.preprocess

    def embed_images(self, images: Tensor) -> Tensor:
        return self.toy.image(images)

    def embed_texts(self, texts: Any) -> Tensor:
        return self.toy.text(*self.toy.tokenize(list(texts)))


def build(config: Any, tokenizer: Any, seed: int) -> Toy:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Toy(dict(config), tokenizer)


class Toys(Registry):
    """A registry that knows the toy."""

    def find(self, kind: Any, name: str) -> Entry:
        if name == "toy":
            return SimpleNamespace(card=CARD, load=lambda: SimpleNamespace(build=build))  # type: ignore[return-value]
        return super().find(kind, name)


def recipe(**model: Any) -> Recipe:
    table = {"text": {"vocab_size": 80}, **model}
    return Recipe.model_validate(
        {
            "name": "toy-tiny",
            "method": "toy",
            "data": {"name": "fake", "size": 32},
            "model": table,
            "optim": {"lr": 0.05, "epochs": 3, "batch_size": 8, "warmup_steps": 2},
        }
    )


def fit(out: Path | None, dataset: MemoryDataset | None = None, **changes: Any) -> RunFolder:
    chosen = changes.pop("recipe", None) or recipe()
    settings: dict[str, Any] = {"seed": 0, "registry": Toys(), "echo": lambda _: None}
    machine = machine_of(changes)
    return train.fit(chosen, dataset or some(), out, machine=machine, **settings | changes)


def machine_of(changes: dict[str, Any]) -> Machine:
    """Takes what is the machine's out of the changes; by default the CPU in fp32."""
    names = ("device", "precision", "workers", "progress")
    given = {name: changes.pop(name) for name in names if name in changes}
    return Machine(**{"device": CPU} | given)


def log_of(run: RunFolder) -> list[dict[str, str]]:
    with (run.folder / runs.LOG_FILE).open(newline="") as file:
        return list(csv.DictReader(file))


def interrupt_at(step: int) -> Callable[..., Iterator[Batch]]:
    """A progress that sends this process Ctrl-C while a step is running."""

    def progress(items: Any, title: str, total: int | None = None) -> Iterator[Batch]:
        for batch in items:
            if batch.step == step:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    return progress
