"""Device, precision, workers and batch size in one value."""

from dataclasses import dataclass
from pathlib import Path

import torch

from g2dbench.progress import Progress, quiet
from g2dbench.system.device import choose_device, choose_precision

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class FeatureFolder:
    """Where features of frozen encoders are cached; limit: bytes of all of them."""

    path: Path
    limit: int = 20_000_000_000


@dataclass(frozen=True, kw_only=True)
class Machine:
    """How this machine is used.

    Attributes:
        device: of models and tensors.
        precision: of forward passes: "fp32", "bf16" or "fp16". It can change a score, so it is part
            of a cell's identity; everything else here changes the speed only. In this process fp32
            is without TensorFloat-32 from then on.
        workers: processes that read images; None chooses by the device.
        batch_size: images per evaluation batch; a recipe sets that of training.
        progress: the progress display of long work.
        features: the cache of features on disk; None encodes every image anew.
    """

    device: torch.device
    precision: str = "fp32"
    workers: int | None = None
    batch_size: int = 32
    progress: Progress = quiet
    features: FeatureFolder | None = None

    def __post_init__(self) -> None:
        """Make fp32 mean fp32: by default cuDNN rounds convolutions to TensorFloat-32's 10 bits."""
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False

    @classmethod
    def choose(
        cls,
        device: str = "auto",
        precision: str = "auto",
        *,
        workers: int | None = None,
        batch_size: int = 32,
        progress: Progress = quiet,
        features: FeatureFolder | None = None,
    ) -> "Machine":
        """From command-line options; Misuse for a device or precision that is not available."""
        found = choose_device(device)
        return cls(
            device=found,
            precision=choose_precision(precision, found),
            workers=workers,
            batch_size=batch_size,
            progress=progress,
            features=features,
        )

    def autocast(self) -> torch.autocast:
        """Mixed precision for a forward pass; disabled for fp32."""
        return torch.autocast(
            self.device.type, dtype=_TYPES[self.precision], enabled=self.precision != "fp32"
        )
