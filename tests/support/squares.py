"""Small radiographs with bright squares, and models that see them, for tests of detection."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from g2dbench.cards import ModelCard
from g2dbench.model import Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.sample import Box, Sample
from support import toy

SIDE = 64


class Memory(toy.Memory):
    card, size = toy.card("squares", "boxes", "square", "dot"), SIDE


class Pixels(Model):
    """The image as a pyramid: every cell contains its part of the image, 4 x 4 pixels."""

    card = ModelCard(
        name="pixels", summary="", paper="", source="", licence="", capabilities=("features",)
    )
    preprocess = Preprocess(size=SIDE, mean=(0.3,), std=(0.3,), channels=1)
    identity = Identity("pixels", "0")
    fixed_size = False

    def __init__(self, strides: tuple[int, ...] = (4, 8, 16, 32)) -> None:
        super().__init__()
        self.strides, self.channels = strides, (16,) * len(strides)

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [F.pixel_unshuffle(F.avg_pool2d(images, s // 4), 4) for s in self.strides]

    def pooled(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))


def square(index: int, part: str, shape: tuple[int, int] = (SIDE, SIDE)) -> Sample:
    """A dark image with a bright square; every fourth image has none."""
    generator = np.random.default_rng((index, len(part)))
    image = generator.integers(0, 40, shape).astype(np.uint8)
    boxes: tuple[Box, ...] = ()
    if index % 4:
        width, height = shape[1] * 20 // SIDE, shape[0] * 20 // SIDE
        x, y = generator.integers(0, shape[1] - width), generator.integers(0, shape[0] - height)
        image[y : y + height, x : x + width] = 230
        boxes = (Box("square", float(x), float(y), float(x + width), float(y + height)),)
    name = f"{part}{index:03d}"
    return Sample(id=name, image=image, patient=f"p-{name}", boxes=boxes)


def squares(count: int, part: str) -> Memory:
    return Memory([square(index, part) for index in range(count)])


def two_kinds(count: int, part: str) -> Memory:
    """Every other square is a dark gray "dot"."""
    samples = []
    for index in range(count):
        sample = square(index, part)
        if index % 2 and sample.boxes:
            image = np.minimum(sample.image, 120)
            boxes = tuple(box._replace(finding="dot") for box in sample.boxes)
            sample = Sample(id=sample.id, image=image, patient=sample.patient, boxes=boxes)
        samples.append(sample)
    return Memory(samples)


class TrainablePixels(Pixels):
    """Can be updated: a batch norm before the pixels."""

    def __init__(self, strides: tuple[int, ...] = (4, 8, 16, 32)) -> None:
        super().__init__(strides)
        self.norm = nn.BatchNorm2d(1)

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        return super().features(self.norm(images))
