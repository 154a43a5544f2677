"""What the checks of a model work on: the model, its plug-in's file, and fixed inputs.

Legend: B images (`BATCH`), C channels, S input side, T texts.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from g2dbench.model import Features, Model

TEXTS = ("pleural effusion", "there is no pneumothorax", "left lung")
"""Texts of different lengths, so that padding matters."""

LONG_TEXT = "the heart is large " * 200
FINDINGS = ("Pneumonia", "Pleural Effusion", "Cardiomegaly")
"""Finding names as data sets write them; `match` is asked for these."""

BATCH = 2


@dataclass(frozen=True)
class Subject:
    """A loaded model and how it was loaded.

    load: loads the model again with a seed, always a new one. module: of the plug-in, None for a
    run folder. files: the author's own files; errors are traced to their lines.
    source: what `load` gets, None where the model needs none. device: of model and inputs.
    """

    model: Model
    load: Callable[[int], Model]
    module: ModuleType | None = None
    files: tuple[Path, ...] = ()
    source: str | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def size(self) -> int:
        """S."""
        return self.model.preprocess.size

    @property
    def other_sides(self) -> list[int]:
        """Sides beside S that the model says it accepts: one, or none if its size is fixed."""
        model = self.model
        if not isinstance(model, Features) or model.fixed_size:
            return []
        return [2 * model.strides[-1]]

    @cached_property
    def images(self) -> Tensor:
        """(B, C, S, S): two different radiograph-like images after the model's preprocessing."""
        return self.model.preprocess.batch(sample_images()).to(self.device)

    def images_of_side(self, side: int) -> Tensor:
        """(B, C, side, side)."""
        return self.model.preprocess.stretched(side).batch(sample_images()).to(self.device)


def sample_images() -> list[NDArray[np.uint8]]:
    """B gray images: smooth random fields, not square, of full contrast."""
    random = np.random.default_rng(0)
    return [_smooth_field(random, 180, 240) for _ in range(BATCH)]


def _smooth_field(random: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    coarse = torch.from_numpy(random.random((1, 1, 9, 9)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0, 0]
    noisy = smooth.numpy() + 0.1 * random.standard_normal((height, width))
    return (np.clip(noisy, 0, 1) * 255).astype(np.uint8)


def odd_images() -> dict[str, NDArray[np.uint8]]:
    """Images that data sets contain and preprocessing must accept, by a description."""
    random = np.random.default_rng(1)
    shapes = {"tiny": (1, 1), "narrow": (700, 3), "tall": (900, 60), "wide": (60, 900)}
    images = {
        f"{name} ({height} x {width})": random.integers(0, 256, (height, width), dtype=np.uint8)
        for name, (height, width) in shapes.items()
    }
    images["black"] = np.zeros((120, 100), np.uint8)
    images["white"] = np.full((120, 100), 255, np.uint8)
    return images
