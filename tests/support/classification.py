"""Images whose findings are bright halves, a model that sees the halves, and a small CNN."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from g2dbench.model import Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.sample import Sample
from support import toy

SIDE = 16


class Halves(Model):
    """Its four features are the means of the image's halves: left, right, top, bottom."""

    channels, strides, fixed_size = (1,), (16,), True

    def __init__(self) -> None:
        super().__init__()
        self.preprocess = Preprocess(size=SIDE, channels=1)
        self.identity = Identity("halves", "0" * 64)

    def features(self, x: Tensor) -> list[Tensor]:
        return [x.mean((2, 3), keepdim=True)]

    def pooled(self, x: Tensor) -> Tensor:
        parts = x[..., :8], x[..., 8:], x[..., :8, :], x[..., 8:, :]
        return torch.cat([part.mean((2, 3)) for part in parts], 1)


class SmallCnn(Model):
    """Two convolutions with batch normalization and dropout, attention, and an unused part."""

    channels, strides, fixed_size = (8,), (4,), False

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.stem = nn.Sequential(nn.Conv2d(1, 8, 2, 2), nn.BatchNorm2d(8), nn.ReLU())
            self.blocks = nn.ModuleList([nn.Conv2d(8, 8, 2, 2), nn.MultiheadAttention(8, 2)])
            self.drop = nn.Dropout(0.1)
            self.text = nn.Linear(3, 3)
        self.preprocess = Preprocess(size=SIDE, channels=1, mean=(0.4,), std=(0.3,))
        self.identity = Identity("small", "0" * 64)

    def features(self, x: Tensor) -> list[Tensor]:
        return [self.blocks[0](self.stem(x))]

    def pooled(self, x: Tensor) -> Tensor:
        pixels = self.features(x)[0].flatten(2).permute(2, 0, 1)
        mixed, _ = self.blocks[1](pixels, pixels, pixels, need_weights=False)
        tokens = self.drop(pixels + mixed)
        return torch.cat([tokens[[2, 3, 6, 7]].mean(0), tokens[[8, 9, 12, 13]].mean(0)], 1)


class Memory(toy.Memory):
    card, size = toy.card("toy", "labels", "left", "top"), SIDE


def sample(name: str, number: int, labels: Mapping[str, float] | None = None) -> Sample:
    """Its labels say which halves are bright; `labels` replaces them."""
    rng = np.random.default_rng([len(name), number])
    left, top = number % 2, number // 2 % 2
    image = rng.integers(0, 60, (SIDE, SIDE))
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


def shuffled(name: str, count: int) -> Memory:
    """Images whose labels are random."""
    rng = np.random.default_rng(count)
    labels = rng.integers(0, 2, (count, 2))
    rows = [{"left": int(a), "top": int(b)} for a, b in labels]
    return Memory([sample(name, i, given) for i, given in enumerate(rows)])


class Classes(toy.Memory):
    """Three classes that exclude each other: where the bright stripe is."""

    card, size = toy.exclusive_card("stripes", "one", "two", "three"), SIDE


def stripes(name: str, count: int) -> Classes:
    rng = np.random.default_rng(count)
    samples = []
    for number in range(count):
        image = rng.integers(0, 60, (SIDE, SIDE))
        where = number % 3
        image[:, 5 * where : 5 * where + 5] += 120
        labels = {finding: int(k == where) for k, finding in enumerate(Classes.card.findings)}
        samples.append(
            Sample(
                id=f"{name}{number:03d}",
                image=image.astype(np.uint8),
                patient=f"{name}{number}",
                labels=labels,
            )
        )
    return Classes(samples)
