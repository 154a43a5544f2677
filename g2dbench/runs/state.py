"""The progress of a training, and the error for a run that cannot be written."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError

from g2dbench.errors import Stopped
from g2dbench.runs.log import Row
from g2dbench.system.files import full_disk


@dataclass
class TrainingState:
    """Progress: finished epochs, batches done of the current epoch, and its losses so far."""

    epoch: int = 0
    batch: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, values: Mapping[str, float]) -> None:
        """Count one more batch with these losses."""
        self.batch += 1
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def end_epoch(self) -> Row:
        """End the epoch; returns the mean of each loss over the batches that had it."""
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.epoch, self.batch, self.sums, self.counts = self.epoch + 1, 0, {}, {}
        return means


def write_or_stop(folder: Path, what: str, action: Callable[[], object]) -> None:
    """Run an action that writes `what`; raises Stopped, with the way out, if writing fails."""
    try:
        action()
    except (OSError, RuntimeError, SafetensorError) as error:
        refused = full_disk(error)
        told = error if refused is None else os.strerror(refused)
        raise Stopped(
            f"{what} of the run in {folder} cannot be written ({told}); what was saved before is "
            f"intact: free disk space, then continue with {resume_hint(folder)}"
        ) from error


def resume_hint(folder: Path) -> str:
    """The options that continue a run."""
    return f"--resume --out {folder} and the options that the run started with"
