"""The optimizer step of any method, on any number of processes, and its state."""

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
from g2dbench.recipes.recipe import OptimSettings
from g2dbench.training import distributed
from g2dbench.training.distributed import MethodWrapper
from g2dbench.training.gradient_cache import GradientCache

_DROPOUT_STREAM = 3  # the loader uses random streams 1 and 2


class MethodOptimizer:
    """AdamW on a method, prepared by accelerate; each step seeds its own random numbers."""

    def __init__(
        self, method: Method, optim: OptimSettings, seed: int, accelerator: Accelerator
    ) -> None:
        self.method, self._optim, self._seed = method, optim, seed
        self._accelerator = accelerator
        if not distributed.is_sharded(accelerator):  # FSDP refuses weights in this layout
            # Convolutions are faster with channels last, on GPUs and on the CPU (bf16: 1.15 times).
            method.to(memory_format=torch.channels_last)
        made = torch.optim.AdamW(
            parameter_groups(method, optim.weight_decay), optim.lr, optim.betas, fused=True
        )
        self._wrapper, self._optimizer = accelerator.prepare(
            MethodWrapper(method, accelerator.autocast), made
        )
        self._cache = GradientCache(self._wrapper, accelerator, optim.micro_batch)

    def step(self, batch: Batch, lr: float) -> tuple[dict[str, float], bool]:
        """One step; returns the losses, and whether they and their gradient are finite.

        If they are not, no step is taken. Losses are averaged over processes, so that all of them
        decide alike.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        losses = self.backward(batch)
        limit = self._optim.grad_clip or math.inf
        norm = self._accelerator.clip_grad_norm_(self._wrapper.parameters(), limit)
        found = [*losses.values(), distributed.full_tensors(norm).to(batch.images.device)]
        values = self._accelerator.reduce(torch.stack(found).detach(), "mean").tolist()
        # In fp16 gradients overflow now and then; the scaler skips such a step, then scales less.
        checked = values[:-1] if self._accelerator.scaler is not None else values
        finite = all(map(math.isfinite, checked))
        if finite:
            self._optimizer.step()
        self._optimizer.zero_grad()
        return dict(zip(losses, values, strict=False)), finite

    def backward(self, batch: Batch) -> dict[str, Tensor]:
        """Accumulate the gradient, for the whole batch or in micro-batches; returns the losses."""
        if 0 < self._optim.micro_batch < len(batch.images):
            return self._cache.backward(batch, lambda part: self._reseed(batch.step, part))
        self._reseed(batch.step)
        losses: dict[str, Tensor] = self._wrapper(lambda method: method.losses(batch))
        self._accelerator.backward(sum(losses.values()))
        return losses

    def weights(self) -> dict[str, Tensor]:
        """The method's full state_dict; all processes must call it."""
        state: dict[str, Tensor] = distributed.full_tensors(self.method.state_dict())
        return state

    def parts(self) -> dict[str, Any]:
        """The state_dicts that a checkpoint must hold; all processes must call it."""
        found = {
            "method": self.weights(),
            "optimizer": distributed.full_tensors(self._optimizer.state_dict()),
        }
        if self._accelerator.scaler is not None:
            found["scaler"] = self._accelerator.scaler.state_dict()
        return found

    def restore(self, parts: Mapping[str, Any], path: Path) -> None:
        """Load the parts of a checkpoint; raises BadCheckpoint if they are of another method."""
        try:
            load_state(self.method, distributed.shard_like(parts["method"], self.method), path)
            self._optimizer.load_state_dict(
                distributed.shard_optimizer_state(parts["optimizer"], self._optimizer)
            )
            if self._accelerator.scaler is not None:
                self._accelerator.scaler.load_state_dict(parts["scaler"])
        except (KeyError, ValueError) as error:
            raise BadCheckpoint(f"{path} does not fit the run: {error}") from error

    def unsharded(self) -> AbstractContextManager[None]:
        """Unsharded weights, for a forward pass that bypasses the wrapper."""
        return distributed.unsharded(self._wrapper, self._accelerator)

    def _reseed(self, *step_and_part: int) -> None:
        entropy = [self._seed, _DROPOUT_STREAM, *step_and_part, self._accelerator.process_index]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))


def parameter_groups(method: Method, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices and kernels, none for biases, norms and tokens."""
    learning = [weight for weight in method.parameters() if weight.requires_grad]
    return [
        {"params": [w for w in learning if w.ndim >= 2], "weight_decay": weight_decay},
        {"params": [w for w in learning if w.ndim < 2], "weight_decay": 0.0},
    ]
