"""Settings of fine-tuning, and the learning rate of each optimizer step."""

import math
from dataclasses import dataclass
from typing import Literal

from g2dbench.recipes.lr_schedule import learning_rate


@dataclass(frozen=True, kw_only=True)
class FineTuneSettings:
    """Settings of the optimizer and its schedule.

    Attributes:
        optimizer: "adamw" with betas .9 and .999, or "sgd" with momentum .9.
        lr: after the warm-up. end_lr: at the end of the cosine.
        layer_decay: factor of the learning rate from each layer to the one before it, see
            `layers.py`; the head has the whole rate. 1 for none.
        steps: optimizer steps instead of epochs; validation is still once for each epoch.
        warmup_epochs, warmup_steps: of the linear warm-up; at most one is above 0.
        patience: epochs without improvement before early stopping; None runs all epochs. The best
            epoch's weights are used in both cases.
        clip: largest norm of the gradient; None for no limit.
        min_steps_per_epoch: minimum optimizer steps per epoch; small training sets are repeated.
    """

    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float
    end_lr: float = 0.0
    weight_decay: float = 0.0
    batch_size: int
    epochs: int = 50
    steps: int | None = None
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_epochs: int = 0
    warmup_steps: int = 0
    patience: int | None = None
    layer_decay: float = 1.0
    clip: float | None = None
    min_steps_per_epoch: int = 1

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size, self.patience or 1, self.steps or 1) < 1:
            raise ValueError("epochs, steps, batch_size and patience are at least 1")
        if self.lr <= 0 or not 0 < self.layer_decay <= 1:
            raise ValueError("lr is above 0, and layer_decay in (0, 1]")

    def steps_per_epoch(self, count: int) -> int:
        """Optimizer steps for `count` training images.

        The last, incomplete batch is left out unless it is the only one: batch normalization
        cannot train on a single image.
        """
        return self._passes(count) * max(1, count // self.batch_size)

    def total_epochs(self, count: int) -> int:
        """Epochs at most; with `steps`, as many as these take."""
        if self.steps is None:
            return self.epochs
        return math.ceil(self.steps / self.steps_per_epoch(count))

    def rate(self, step: int, count: int) -> float:
        """The learning rate of an optimizer step, counted from 0."""
        per_epoch = self.steps_per_epoch(count)
        return learning_rate(
            step,
            self.steps or self.epochs * per_epoch,
            self.schedule,
            peak=self.lr,
            end=self.end_lr,
            warmup=self.warmup_steps or self.warmup_epochs * per_epoch,
        )

    def _passes(self, count: int) -> int:
        return math.ceil(self.min_steps_per_epoch / max(1, count // self.batch_size))
