"""One loop that fits a head on a model: AdamW, early stopping, the best weights put back.

The loop knows positions of training images and two closures, so that a linear layer on cached
features, a U-Net decoder and a detector are fitted by the same lines.
"""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from g2dbench.errors import BadData
from g2dbench.progress import Progress, quiet
from g2dbench.recipes.lr_schedule import cosine_factor

INIT, SHUFFLE, DRAW = 1, 2, 3
"""Streams of `Run.generator`: initial weights, order of the batches, choice of images."""


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How a head is fitted.

    patience: epochs without a better validation value before stopping. least_steps: an epoch of
    a small training set passes over it again until it has this many steps; the paper's smallest
    set, 1 % of RSNA, is 160 images, and 1 % of a small data set would otherwise not move a head.
    schedule: "constant", or "cosine" from `lr` to 0 over all epochs, by optimiser step.
    """

    lr: float
    weight_decay: float
    batch_size: int
    betas: tuple[float, float] = (0.9, 0.999)
    epochs: int = 50
    patience: int = 10
    least_steps: int = 1
    schedule: Literal["constant", "cosine"] = "constant"


@dataclass(frozen=True)
class Fitted:
    """What happened: the best epoch (from 1), its value, and how many epochs and steps were run."""

    best_epoch: int
    best: float
    epochs: int
    steps: int


@contextmanager
def one_thread() -> Iterator[None]:
    """Lend torch a single CPU thread: for heads whose step is shorter than waking a second one.

    On a busy machine two threads made 13,000 linear steps 30 times slower; and the sums no longer
    depend on how many cores there are.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fit(
    head: nn.Module,
    count: int,
    loss: Callable[[Tensor], Tensor],
    validate: Callable[[], float],
    settings: FitSettings,
    generator: torch.Generator,
    progress: Progress = quiet,
    title: str = "fit",
) -> Fitted:
    """Fit `head` in place; it ends in eval mode with the weights of its best epoch.

    count: training images. loss: positions (b,) int64 -> scalar with gradient, head in train mode.
    validate: the value to minimise (a loss, or minus a metric), head in eval mode, no gradient.
    The last, smaller batch of a pass is kept. BadData where the value is finite in no epoch.
    """
    if count == 0:
        raise BadData("there is no training image to fit a head on: raise --fraction")
    optimiser = _adamw(head, settings)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _factor(settings, count))
    best, best_epoch, weights, steps, epoch = math.inf, 0, None, 0, 0
    for epoch in progress(range(1, settings.epochs + 1), title, settings.epochs):
        head.train()
        for positions in batches(count, settings, generator):
            optimiser.zero_grad(set_to_none=True)
            loss(positions).backward()
            optimiser.step()
            schedule.step()
            steps += 1
        value = _validated(head, validate)
        if value < best:
            best, best_epoch, weights = value, epoch, copy.deepcopy(head.state_dict())
        if epoch - best_epoch >= settings.patience:
            break
    if weights is None:
        raise BadData(
            f"{title}: the validation value was not finite in any of {epoch} epochs; "
            "training diverged, or the validation part has nothing to score"
        )
    head.load_state_dict(weights)
    return Fitted(best_epoch, best, epoch, steps)


def batches(count: int, settings: FitSettings, generator: torch.Generator) -> Iterator[Tensor]:
    """Positions (b,) of one epoch: whole passes over `count` images, each in a fresh order."""
    for _ in range(_passes(count, settings)):
        yield from torch.randperm(count, generator=generator).split(settings.batch_size)


def _passes(count: int, settings: FitSettings) -> int:
    return math.ceil(settings.least_steps / math.ceil(count / settings.batch_size))


def _adamw(head: nn.Module, settings: FitSettings) -> torch.optim.AdamW:
    trained = [weight for weight in head.parameters() if weight.requires_grad]
    # fused: one kernel per step; a linear head takes tens of thousands of steps.
    return torch.optim.AdamW(
        trained,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        betas=settings.betas,
        fused=trained[0].device.type in ("cpu", "cuda"),
    )


def _factor(settings: FitSettings, count: int) -> Callable[[int], float]:
    """The learning rate's factor after a number of optimiser steps; never below 0."""
    if settings.schedule == "constant":
        return lambda step: 1.0
    steps = math.ceil(count / settings.batch_size) * _passes(count, settings) * settings.epochs
    return lambda step: cosine_factor(step / steps)


def _validated(head: nn.Module, validate: Callable[[], float]) -> float:
    head.eval()
    with torch.no_grad():
        return validate()
