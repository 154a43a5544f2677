"""The contract of a task, and the circumstances of one run.

A task is a module with four names:

    CARD       TaskCard, literal
    PROTOCOLS  {name: frozen dataclass of settings}; keys equal CARD.protocols, in order
    predict    (model, run) -> DataFrame: slow; fits a head first where the protocol says so
    score      (predictions, protocol) -> {metric: Score}: pure, on the CPU, no model, no images

and, where two models are to be compared patient by patient, a fifth:

    statistics (predictions, protocol) -> {metric: findings.Measured}: what `score` gives values of

`predict` returns one row per image and finding, with at least the columns `id` and `patient`, and
everything that `score` needs; the runner stores it as Parquet. Results must not depend on
`run.batch_size`, `run.workers` or the order of files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import pandas as pd
import torch

from g2dbench.cards import TaskCard
from g2dbench.dataset import Dataset
from g2dbench.errors import Misuse
from g2dbench.model import Model
from g2dbench.progress import Progress
from g2dbench.registry import unknown
from g2dbench.result import Score
from g2dbench.system.machine import Machine

Settings = TypeVar("Settings")


@dataclass(frozen=True, kw_only=True)
class Run(Generic[Settings]):
    """Everything of one cell but the model; `Run[Protocol]` says of which type `protocol` is.

    `train`, `valid` and `test` are the parts of the prepared data set; `train` is already the
    drawn fraction. A zero-shot task reads `test` alone (and `valid` for a threshold).
    `seed` starts heads and shuffling; `folder` may hold the task's extra files.
    """

    train: Dataset
    valid: Dataset
    test: Dataset
    protocol: Settings
    machine: Machine
    seed: int = 0
    fraction: float = 1.0
    folder: Path | None = None

    @property
    def device(self) -> torch.device:
        """Where models and tensors are."""
        return self.machine.device

    @property
    def batch_size(self) -> int:
        """Images of one batch; no result depends on it."""
        return self.machine.batch_size

    @property
    def progress(self) -> Progress:
        """How long work reports itself."""
        return self.machine.progress

    def generator(self, *stream: int) -> torch.Generator:
        """A CPU generator that depends on the run's seed and the named stream alone."""
        state = np.random.SeedSequence([self.seed, *stream]).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(state) % 2**63)

    def autocast(self) -> torch.autocast:
        """Mixed precision for the encoder's forward pass; disabled for fp32."""
        return self.machine.autocast()


class Task(Protocol):
    """What a file in `tasks/` exports."""

    CARD: TaskCard
    PROTOCOLS: Mapping[str, Any]

    def predict(self, model: Model, run: Run[Any]) -> pd.DataFrame:
        """Predictions on `run.test`; raises Unsupported where the model cannot."""
        ...

    def score(self, predictions: pd.DataFrame, protocol: Any) -> dict[str, Score]:
        """Scores with intervals from stored predictions alone."""
        ...


def protocol_of(task: Task, name: str | None) -> tuple[str, Any]:
    """A task's protocol by name, the default for None; a wrong name is the user's to mend."""
    chosen = name or task.CARD.protocols[0]
    if chosen not in task.PROTOCOLS:
        raise Misuse(unknown(f"protocol of {task.CARD.name}", chosen, list(task.PROTOCOLS)))
    return chosen, task.PROTOCOLS[chosen]


def check_fraction(fraction: float) -> float:
    """A share of the training patients, in (0, 1]."""
    if not 0 < fraction <= 1:
        raise Misuse(f"--fraction {fraction:g} is not in (0, 1]: 0.01 is one per cent")
    return fraction
