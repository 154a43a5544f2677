"""How this machine is used: one value instead of the same arguments through every signature."""

from dataclasses import dataclass

import torch

from g2dbench.progress import Progress, quiet
from g2dbench.system.device import choose_device, choose_precision

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where and how work runs.

    Attributes:
        device: the device of models and tensors.
        precision: "fp32", "bf16" or "fp16" of forward passes. It can move a score, so that it is
            part of a cell's identity; everything else here changes speed only.
        workers: processes that read images; None chooses by the device.
        batch_size: images of one evaluation batch. Training takes its batch size from the recipe.
        progress: how long work reports itself.
    """

    device: torch.device
    precision: str = "fp32"
    workers: int | None = None
    batch_size: int = 32
    progress: Progress = quiet

    @classmethod
    def choose(
        cls,
        device: str = "auto",
        precision: str = "auto",
        *,
        workers: int | None = None,
        batch_size: int = 32,
        progress: Progress = quiet,
    ) -> "Machine":
        """From what a user typed; Misuse for a device or precision that is not to be had."""
        found = choose_device(device)
        return cls(
            device=found,
            precision=choose_precision(precision, found),
            workers=workers,
            batch_size=batch_size,
            progress=progress,
        )

    def autocast(self) -> torch.autocast:
        """Mixed precision for a forward pass; disabled for fp32."""
        return torch.autocast(
            self.device.type, dtype=_TYPES[self.precision], enabled=self.precision != "fp32"
        )
