"""Small radiographs with a bright spot, and models that see it, for tests of segmentation."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from g2dbench.model import Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.sample import Sample
from support import toy

Masks = Mapping[str, NDArray[np.bool_]]


class Memory(toy.Memory):
    card, size = toy.card("toy", "masks", "spot"), 32


class Pools(Model):
    """Its pyramid is the image, average-pooled by its strides."""

    fixed_size = False

    def __init__(self, *strides: int) -> None:
        super().__init__()
        self.strides, self.channels = strides, (1,) * len(strides)
        self.preprocess = Preprocess(size=32, channels=1, fit="crop", resize=40)
        self.identity = Identity("pools", "0" * 64)

    def features(self, x: Tensor) -> list[Tensor]:
        assert not self.training
        return [F.avg_pool2d(x, stride) for stride in self.strides]

    def pooled(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class Bright(nn.Module):
    """A trained decoder: bright pixels are the finding."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(1, 1, 1)
        nn.init.constant_(self.classifier.weight, 40.0)
        nn.init.constant_(self.classifier.bias, -20.0)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        logits: Tensor = self.classifier(pyramid[0])
        return logits


class Decoder(Pools):
    def pretrained_decoder(self) -> nn.Module:
        return Bright()


class Trainable(Model):
    """Can be updated: convolution, batch norm and dropout; one map per stride."""

    fixed_size = False

    def __init__(self, *strides: int) -> None:
        super().__init__()
        self.strides, self.channels = strides, (4,) * len(strides)
        self.preprocess = Preprocess(size=32, channels=1)
        self.identity = Identity("trainable", "0" * 64)
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.1))
        with torch.no_grad():
            self.stem[0].weight.fill_(1.0)
            self.stem[0].bias.copy_(torch.arange(4) / 4)
        self.unused = nn.Linear(3, 3)

    def features(self, x: Tensor) -> list[Tensor]:
        wide = self.stem(x)
        return [F.avg_pool2d(wide, stride) for stride in self.strides]

    def pooled(self, x: Tensor) -> Tensor:
        return self.stem(x).mean((2, 3))


def spot(number: int, size: tuple[int, int] = (32, 32)) -> NDArray[np.bool_]:
    mask = np.zeros(size, bool)
    y, x = (4 * (number % 4), 4 * (number // 4 % 4))
    mask[y : y + 12, x : x + 12] = True
    return mask


def sample(name: str, number: int, masks: Masks | None, size: tuple[int, int]) -> Sample:
    """Dark, bright where any mask is."""
    image = np.full(size, 20 + number % 7, np.uint8)
    for mask in (masks or {}).values():
        image[mask] = 240
    return Sample(id=f"{name}{number:02d}", image=image, patient=f"{name}{number}", masks=masks)


def part(name: str, count: int, size: tuple[int, int] = (32, 32)) -> Memory:
    """Two of three images have the finding."""
    given = [{"spot": spot(i, size)} if i % 3 else {} for i in range(count)]
    return Memory([sample(name, i, masks, size) for i, masks in enumerate(given)])
