"""The training loop for heads: AdamW with early stopping; the best epoch's weights are restored.

The loop sees only indices of training images and two functions, so that it fits a linear layer on
cached features, a U-Net decoder and a detector alike.
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

INIT, SHUFFLE, SUBSAMPLE = 1, 2, 3
"""Random streams of `Run.generator`: initial weights, order of batches, sampling of images."""


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """Settings for fitting a head.

    patience: epochs without improvement before early stopping. min_steps_per_epoch: minimum number
    of optimizer steps; small training sets are repeated within an epoch. The paper's smallest set,
    1 % of RSNA, has 160 images; 1 % of a small data set would give too few steps to learn.
    schedule: "constant", or "cosine" from `lr` to 0 over all optimizer steps. drop_last: leave out
    the last, incomplete batch of a pass, unless it is the only one.
    """

    lr: float
    weight_decay: float
    batch_size: int
    betas: tuple[float, float] = (0.9, 0.999)
    epochs: int = 50
    patience: int = 10
    min_steps_per_epoch: int = 1
    schedule: Literal["constant", "cosine"] = "constant"
    drop_last: bool = False

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size, self.patience) < 1 or self.lr <= 0:
            raise ValueError("epochs, batch_size and patience are at least 1, and lr is above 0")


@dataclass(frozen=True)
class FitResult:
    """The best epoch (from 1) and its validation value; the number of epochs and steps run.

    curve: the validation value of each epoch.
    """

    best_epoch: int
    best: float
    epochs: int
    steps: int
    curve: tuple[float, ...] = ()


@contextmanager
def single_cpu_thread() -> Iterator[None]:
    """Run torch on a single CPU thread, for heads with very short steps.

    On a busy machine a second thread made 13,000 steps of a linear layer 30 times slower. With one
    thread, sums do not depend on the number of cores either.
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
) -> FitResult:
    """Fit `head` in place; on return it is in eval mode with the weights of the best epoch.

    count: training images. loss: indices (b,) int64 -> scalar with gradient, head in train mode.
    validate: the value to minimize (a loss, or minus a metric), head in eval mode, no gradient.
    BadData if no epoch has a finite validation value.
    """
    if count == 0:
        raise BadData("there is no training image to fit a head on: increase --fraction")
    optimizer = _adamw(head, settings)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _factor(settings, count))
    best, best_epoch, weights, steps, epoch = math.inf, 0, None, 0, 0
    curve: list[float] = []
    for epoch in progress(range(1, settings.epochs + 1), title, settings.epochs):
        head.train()
        steps += _train_epoch(batches(count, settings, generator), loss, optimizer, schedule)
        value = _validated(head, validate)
        curve.append(value)
        if value < best:
            best, best_epoch, weights = value, epoch, copy.deepcopy(head.state_dict())
        if epoch - best_epoch >= settings.patience:
            break
    if weights is None:
        raise BadData(
            f"{title}: the validation value was not finite in any of {epoch} epochs; "
            "training diverged, or the validation split has nothing to score"
        )
    head.load_state_dict(weights)
    return FitResult(best_epoch, best, epoch, steps, tuple(curve))


def _train_epoch(
    epoch_batches: Iterator[Tensor],
    loss: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> int:
    """One optimizer step per batch; returns their number."""
    steps = 0
    for indices in epoch_batches:
        optimizer.zero_grad(set_to_none=True)
        loss(indices).backward()
        optimizer.step()
        schedule.step()
        steps += 1
    return steps


def batches(count: int, settings: FitSettings, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices (b,) of one epoch's batches: passes over `count` images, each newly shuffled."""
    for _ in range(_passes(count, settings)):
        parts = torch.randperm(count, generator=generator).split(settings.batch_size)
        yield from parts[: _batches_per_pass(count, settings)]


def _batches_per_pass(count: int, settings: FitSettings) -> int:
    whole = count // settings.batch_size
    return max(1, whole) if settings.drop_last else math.ceil(count / settings.batch_size)


def _passes(count: int, settings: FitSettings) -> int:
    return math.ceil(settings.min_steps_per_epoch / _batches_per_pass(count, settings))


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
    """The learning-rate factor as a function of the optimizer step; never below 0."""
    if settings.schedule == "constant":
        return lambda step: 1.0
    passes = _passes(count, settings) * settings.epochs
    steps = _batches_per_pass(count, settings) * passes
    return lambda step: cosine_factor(step / steps)


def _validated(head: nn.Module, validate: Callable[[], float]) -> float:
    head.eval()
    with torch.no_grad():
        return validate()
