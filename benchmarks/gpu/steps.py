"""Our method, its batches and its optimizer step at a given size, and the limits of the card."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lengths import open_i_reports, with_median
from meter import seconds

from g2dbench.cards import MethodCard
from g2dbench.data.synthetic.synthetic import generate
from g2dbench.method import Batch, Method
from g2dbench.pretrained.text.tokenizer import make_tokenizer
from g2dbench.recipes import recipe as recipes
from g2dbench.recipes.recipe import OptimSettings
from g2dbench.registry import Registry
from g2dbench.sample import Sample
from g2dbench.training.batches.collate import LoaderSettings
from g2dbench.training.batches.pair_loader import PairLoader, Pairs
from g2dbench.training.distributed import make_accelerator
from g2dbench.training.optimizer import MethodOptimizer

Step = Callable[[Batch], None]
BATCHES = 3
MEDIANS = {"short": 41, "long": 90}
"""Median tokens of Open-i's reports, and of reports as long as those of MIMIC-CXR."""
TEXT = {
    "source": "scratch", "layers": 12, "hidden": 768, "heads": 12, "frozen_layers": 9,
    "frozen_embeddings": True, "frozen_mode": "eval", "frozen_cache": 8192,
}  # fmt: skip
SMALL_TEXT = {**TEXT, "layers": 2, "hidden": 32, "heads": 2, "frozen_layers": 1}


@dataclass(frozen=True)
class Setup:
    """A method on the device, and three batches for each length of reports."""

    method: Method
    batches: dict[str, list[Batch]]


class SyntheticImages:
    """Synthetic radiographs of 256 px; a few are drawn, and repeated."""

    def __init__(self, count: int, drawn: int) -> None:
        self._count = count
        self._samples = _drawn(drawn)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index % len(self._samples)]


@cache
def _drawn(count: int) -> list[Sample]:
    return [generate(index, 256) for index in range(count)]


@cache
def reports() -> list[str]:
    return open_i_reports(Path("../shared/data/open_i"))


def our_method(size: int, small: bool) -> Method:
    """The recipe g2d with a BERT of the published size and random weights."""
    table = recipes.load("g2d").model
    image = {**table["image"], "weights": "", "size": size}
    table = {
        **table,
        "image": {**image, "encoder": "resnet18" if small else "resnet50"},
        "text": {**table["text"], **(SMALL_TEXT if small else TEXT)},
        "pixel": {**table["pixel"], "start": 0},
    }
    tokenizer = make_tokenizer(table["text"], reports())
    method: Method = Registry().find(MethodCard, "g2d").load().build(table, tokenizer, 0)
    return method


def our_step(method: Method, device: torch.device) -> Step:
    """The optimizer step of the training loop, in bf16."""
    method.to(device).train()
    optimizer = MethodOptimizer(method, OptimSettings(lr=1e-4), 0, make_accelerator(device, "bf16"))

    def step(batch: Batch) -> None:
        optimizer.step(batch, 1e-4)

    return step


def setup(size: int, batch: int, device: torch.device, small: bool) -> Setup:
    """A new method, and batches from the real loader."""
    method = our_method(size, small)
    found = {}
    for kind, median in MEDIANS.items():
        chosen = with_median(reports(), method.tokenize, median, BATCHES * batch)
        found[kind] = batches(method, chosen, batch, device, small)
    return Setup(method.to(device), found)


def batches(
    method: Any, chosen: list[str], batch: int, device: torch.device, small: bool
) -> list[Batch]:
    names = tuple(map(str, range(len(chosen))))
    groups = np.array([[name, name] for name in names], dtype=object)
    images: Any = SyntheticImages(len(chosen), 8 if small else 128)
    settings = LoaderSettings(
        preprocess=method.preprocess, tokenize=method.tokenize,
        batch_size=batch, seed=0, device=device, policy="light",
    )  # fmt: skip
    return list(PairLoader(Pairs(images, tuple(chosen), names, groups), settings).epoch(0))


def peak_flops(device: torch.device, dtype: torch.dtype, small: bool) -> float:
    """FLOP/s of a product of two random matrices of 8192 x 8192, median of 5 times 10."""
    side, times = (256, 1) if small else (8192, 10)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    runs = [seconds(lambda: [a @ b for _ in range(times)], device) / times for _ in range(6)]
    return 2 * side**3 / statistics.median(runs[1:])


def bytes_per_s(device: torch.device, small: bool) -> float:
    """Bytes per second that a copy of 4 GiB reads and writes, median of 5."""
    source = torch.randn(2**20 if small else 2**30, device=device)
    target = torch.empty_like(source)
    runs = [seconds(lambda: target.copy_(source), device) for _ in range(6)]
    return 2 * source.nbytes / statistics.median(runs[1:])
