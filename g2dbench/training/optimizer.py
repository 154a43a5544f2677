"""One optimiser step of any method, on any number of processes: what it does, and its state."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from g2dbench.errors import BadCheckpoint
from g2dbench.method import Batch, Method
from g2dbench.pretrained.weights import load_state
from g2dbench.recipes.recipe import Optim
from g2dbench.training import distributed
from g2dbench.training.distributed import Steps
from g2dbench.training.gradient_cache import GradientCache

_DROPOUT = 3  # a stream of random numbers, beside those of the loader


class Optimisation:
    """AdamW on a method, wrapped by accelerate; the random numbers of a step are its own."""

    def __init__(self, method: Method, optim: Optim, seed: int, accelerator: Accelerator) -> None:
        self.method, self._optim, self._seed = method, optim, seed
        self._accelerator = accelerator
        if not distributed.is_sharded(accelerator):  # FSDP refuses weights in this layout
            # Convolutions are faster with channels last, on GPUs and on the CPU (bf16: 1.15 times).
            method.to(memory_format=torch.channels_last)
        made = torch.optim.AdamW(
            groups(method, optim.weight_decay), optim.lr, optim.betas, fused=True
        )
        self._steps, self._optimizer = accelerator.prepare(
            Steps(method, accelerator.autocast), made
        )
        self._cache = GradientCache(self._steps, accelerator, optim.micro_batch)

    def step(self, batch: Batch, lr: float) -> tuple[dict[str, float], bool]:
        """One step; the losses, and whether they and their gradient are finite: else none is taken.

        Of several processes the losses are the mean, so that all of them decide alike.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        losses = self.backward(batch)
        limit = self._optim.grad_clip or math.inf
        norm = self._accelerator.clip_grad_norm_(self._steps.parameters(), limit)
        found = [*losses.values(), distributed.joined(norm).to(batch.images.device)]
        values = self._accelerator.reduce(torch.stack(found).detach(), "mean").tolist()
        # fp16 overflows now and then; its scaler skips such a step and tries a smaller scale.
        checked = values[:-1] if self._accelerator.scaler is not None else values
        finite = all(map(math.isfinite, checked))
        if finite:
            self._optimizer.step()
        self._optimizer.zero_grad()
        return dict(zip(losses, values, strict=False)), finite

    def backward(self, batch: Batch) -> dict[str, Tensor]:
        """Add the losses' gradient, of the whole batch at once or part by part; the losses."""
        if 0 < self._optim.micro_batch < len(batch.images):
            return self._cache.backward(batch, lambda part: self._reseed(batch.step, part))
        self._reseed(batch.step)
        losses: dict[str, Tensor] = self._steps(lambda method: method.losses(batch))
        self._accelerator.backward(sum(losses.values()))
        return losses

    def weights(self) -> dict[str, Tensor]:
        """The method's whole state_dict; all processes must ask for it."""
        state: dict[str, Tensor] = distributed.joined(self.method.state_dict())
        return state

    def parts(self) -> dict[str, Any]:
        """Everything that a checkpoint must hold of this; all processes must ask for it."""
        found = {
            "method": self.weights(),
            "optimizer": distributed.joined(self._optimizer.state_dict()),
        }
        if self._accelerator.scaler is not None:
            found["scaler"] = self._accelerator.scaler.state_dict()
        return found

    def restore(self, parts: Mapping[str, Any], path: Path) -> None:
        """Take up the parts of a checkpoint; BadCheckpoint where they are another method's."""
        try:
            load_state(self.method, distributed.cut_like(parts["method"], self.method), path)
            self._optimizer.load_state_dict(
                distributed.cut_optimizer(parts["optimizer"], self._optimizer)
            )
            if self._accelerator.scaler is not None:
                self._accelerator.scaler.load_state_dict(parts["scaler"])
        except (KeyError, ValueError) as error:
            raise BadCheckpoint(f"{path} does not fit the run: {error}") from error

    def whole(self) -> AbstractContextManager[None]:
        """The method's weights whole for a forward pass that goes around the wrapper."""
        return distributed.whole(self._steps, self._accelerator)

    def _reseed(self, *step_and_part: int) -> None:
        entropy = [self._seed, _DROPOUT, *step_and_part, self._accelerator.process_index]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))


def groups(method: Method, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters with and without weight decay: matrices and kernels; biases, norms and tokens."""
    learning = [weight for weight in method.parameters() if weight.requires_grad]
    return [
        {"params": [w for w in learning if w.ndim >= 2], "weight_decay": weight_decay},
        {"params": [w for w in learning if w.ndim < 2], "weight_decay": 0.0},
    ]
