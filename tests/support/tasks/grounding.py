"""Images with bright and dark marks, a model that finds them, and stored rows of its maps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from g2dbench.cards import ModelCard, TaskCard
from g2dbench.data.annotations import rle
from g2dbench.model import Grounding, Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.registry import Registry
from g2dbench.sample import Sample
from g2dbench.task import Run
from support import toy

SIDE = 32


ground = Registry().find(TaskCard, "ground").load()


PROTOCOL = ground.PROTOCOLS["g2d"]


NEAREST, WHOLE = Grounding("nearest"), Preprocess(size=SIDE, channels=1)


class Memory(toy.Memory):
    card, size = toy.card("marks", "masks", "bright", "dark"), SIDE


class Brightness(Model):
    """Finds "bright" in bright pixels and "dark" in dark ones; records the texts.

    gain, base: its maps are base + gain x brightness.
    """

    card = ModelCard(
        name="brightness", summary="", paper="", source="", licence="", capabilities=("locates",)
    )
    identity = Identity("brightness", "0")

    def __init__(
        self,
        gain: float = 1.0,
        base: float = 0.0,
        grounding: Grounding = NEAREST,
        preprocess: Preprocess = WHOLE,
    ) -> None:
        super().__init__()
        self.gain, self.base = gain, base
        self.grounding, self.preprocess = grounding, preprocess
        self.texts: set[tuple[str, ...]] = set()

    def locate(self, images: torch.Tensor, texts: Sequence[str]) -> torch.Tensor:
        self.texts.add(tuple(texts))
        bright = 2 * images[:, 0] - 1
        maps = [bright if "bright" in text else -bright for text in texts]
        return self.base + self.gain * torch.stack(maps, dim=1)


def mark(
    name: str,
    masks: Mapping[str, NDArray[np.bool_]],
    shape: tuple[int, int] = (SIDE, SIDE),
    patient: str | None = None,
    seed: int = 0,
) -> Sample:
    """Gray with noise; bright or dark in the masks."""
    image = np.random.default_rng(seed).integers(110, 140, shape).astype(np.uint8)
    for finding, mask in masks.items():
        image[mask] = {"bright": 240, "dark": 10}[finding]
    return Sample(id=name, image=image, patient=patient or f"p-{name}", masks=masks)


def patch(y0: int, y1: int, x0: int, x1: int, shape: tuple[int, int] = (SIDE, SIDE)) -> Any:
    mask = np.zeros(shape, dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def marks(count: int, part: str) -> Memory:
    """Images with "bright", with both, with "dark", with neither, in turn."""
    samples = []
    for n in range(count):
        masks = {}
        if n % 4 in (0, 1):
            masks["bright"] = patch(2 + n % 5, 12, 3, 14)
        if n % 4 in (1, 2):
            masks["dark"] = patch(18, 28, 16, 26 + n % 5)
        samples.append(mark(f"{part}{n:03d}", masks, seed=n))
    return Memory(samples)


def run_on(test: Memory, valid: Memory | None = None, **more: Any) -> Run:
    settings = {"protocol": PROTOCOL, "device": torch.device("cpu")} | more
    chosen = marks(8, "valid") if valid is None else valid
    return toy.run_with(train=test.take([]), valid=chosen, test=test, **settings)


def row(grid: Any, truth: Any, threshold: float = 0.5, **more: Any) -> dict[str, Any]:
    """A stored row, by default with one grid cell per image pixel."""
    grid, truth = np.asarray(grid, np.float32), np.asarray(truth, bool)
    height, width = truth.shape
    assert height == width
    names = {"id": "a", "patient": "p", "finding": "bright"}
    geometry = {"height": height, "width": width, "size": width, "scale_x": 1.0, "scale_y": 1.0}
    return {
        **names,
        "grid_h": grid.shape[0],
        "grid_w": grid.shape[1],
        "grid": grid.ravel().tolist(),
        **geometry,
        "offset_x": 0.0,
        "offset_y": 0.0,
        "resampling": "nearest",
        "threshold": threshold,
        "truth": rle.encode(truth),
        **more,
    }


def score(*rows: dict[str, Any]) -> dict[str, Any]:
    return ground.score(pd.DataFrame(rows), PROTOCOL)
