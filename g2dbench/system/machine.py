"""Device, precision, workers and batch size in one value."""

from dataclasses import dataclass
from pathlib import Path

import torch

from g2dbench.progress import Progress, quiet
from g2dbench.system.device import (
    AUTO,
    check_precision,
    choose_device,
    choose_precision,
    parse_device,
)

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
        device: str = AUTO,
        precision: str = AUTO,
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


@dataclass(frozen=True, kw_only=True)
class MachineRequest:
    """What the user asks of a machine; the machine that does the work chooses by it.

    It can be sent to another machine: one without a GPU can start work on one that has some.

    Attributes:
        device, precision: as `--device` and `--precision`, with "auto".
        workers, batch_size, features: as of `Machine`.

    Raises Misuse for a device or a precision that no machine has.
    """

    device: str = AUTO
    precision: str = AUTO
    workers: int | None = None
    batch_size: int = 32
    features: FeatureFolder | None = None

    def __post_init__(self) -> None:
        """Find wrong names before the work begins."""
        parse_device(self.device)
        check_precision(self.precision)

    def choose(self, progress: Progress = quiet) -> Machine:
        """This machine, used as requested; Misuse if it lacks the device or the precision."""
        return Machine.choose(
            self.device,
            self.precision,
            workers=self.workers,
            batch_size=self.batch_size,
            progress=progress,
            features=self.features,
        )
