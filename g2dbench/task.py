"""The interface of a task, and the data and settings of one run.

A task is a module with four names:

    CARD       TaskCard, literal
    PROTOCOLS  {name: frozen dataclass of settings}; keys equal CARD.protocols, in order
    predict    (model, run) -> DataFrame: slow; fits a head first if the protocol has one
    score      (predictions, protocol) -> {metric: Score}: pure, on the CPU, no model, no images

and optionally

    statistics (predictions, protocol) -> {metric: aggregate.PatientStatistic}, for `score` and for
               paired tests over patients
    fit, apply (model, run) -> SavedHead and (model, head, run) -> DataFrame: `predict` in two
               steps, for `--save-heads` and `g2dbench predict`; `apply` reads `run.test` only
    read_predictions (path, run) -> DataFrame: the table of `predict` from a file that was made
               elsewhere, for `g2dbench import`; checks it against `run.test`
    main_metric (DatasetCard) -> str: the main score, if it depends on the data set

`predict` returns one row per image and finding, with at least the columns `id` and `patient`, and
everything that `score` needs; the runner stores it as Parquet. Results must not depend on
`run.batch_size`, `run.machine.workers` or the order of files.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import pandas as pd
import torch

from g2dbench.cards import DatasetCard, TaskCard
from g2dbench.dataset import Dataset
from g2dbench.errors import Misuse
from g2dbench.model import Model
from g2dbench.progress import Progress
from g2dbench.registry import unknown_name
from g2dbench.result import Score
from g2dbench.system.machine import Machine
from g2dbench.system.overrides import join_name, override, split_name

Settings = TypeVar("Settings")

PROMPTS_MARK = "@"
"""In the name of a cell's protocol, before the name of the user's prompts."""


@dataclass
class EncodingCost:
    """What one cell's frozen encoders cost; plans of later cells are computed from it.

    images, cached: outputs that were computed, and that were read from the cache of features.
    seconds: of computing, with reading the images.
    """

    images: int = 0
    cached: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Run(Generic[Settings]):
    """The data and settings of one cell; in `Run[Protocol]`, Protocol is the type of `protocol`.

    train, valid, test: the splits; `train` is already the sampled fraction. A zero-shot task uses
    `test` only (and `valid` to choose a threshold). seed: of head initialization and shuffling.
    folder: where the task may write extra files. save_heads: whether to write the fitted head
    there. details: JSON values for the result, which the task adds: chosen epoch, validation
    curve, counts of labels. prompt_sensitivity: whether a task with text prompts adds the spread of
    its main score over paraphrases to `details`. encoding: what frozen encoders cost, counted by
    `evaluation/frozen_features.py`.
    """

    train: Dataset
    valid: Dataset
    test: Dataset
    protocol: Settings
    machine: Machine
    seed: int = 0
    fraction: float = 1.0
    folder: Path | None = None
    save_heads: bool = False
    prompt_sensitivity: bool = False
    details: dict[str, Any] = field(default_factory=dict)
    encoding: EncodingCost = field(default_factory=EncodingCost)

    @property
    def device(self) -> torch.device:
        """The device of models and tensors."""
        return self.machine.device

    @property
    def batch_size(self) -> int:
        """Images per batch; no result depends on it."""
        return self.machine.batch_size

    @property
    def progress(self) -> Progress:
        """The progress display of long work."""
        return self.machine.progress

    def generator(self, *stream: int) -> torch.Generator:
        """A CPU generator that depends only on the run's seed and the stream's numbers."""
        state = np.random.SeedSequence([self.seed, *stream]).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(state) % 2**63)

    def autocast(self) -> torch.autocast:
        """Mixed precision for the encoder's forward pass; disabled for fp32."""
        return self.machine.autocast()


class Task(Protocol):
    """The interface of a file in `tasks/`."""

    CARD: TaskCard
    PROTOCOLS: Mapping[str, Any]

    def predict(self, model: Model, run: Run[Any]) -> pd.DataFrame:
        """Predictions on `run.test`; Unsupported if the model lacks a capability."""
        ...

    def score(self, predictions: pd.DataFrame, protocol: Any) -> dict[str, Score]:
        """Scores with confidence intervals, from stored predictions only."""
        ...


def protocol_of(task: Task, name: str | None) -> tuple[str, Any]:
    """A task's protocol by name, the default for None; Misuse for an unknown name.

    `NAME+FIELD=VALUE` is the protocol with changed settings; the name that is returned has the
    changes in their one written form.
    """
    chosen, changes = split_name(name or task.CARD.protocols[0])
    if chosen not in task.PROTOCOLS:
        raise Misuse(unknown_name(f"protocol of {task.CARD.name}", chosen, list(task.PROTOCOLS)))
    settings, written = override(task.PROTOCOLS[chosen], changes)
    return join_name(chosen, written), settings


def main_metric(task: Task, data: DatasetCard) -> str:
    """The name of the task's main score on a data set: its card's, or by its `main_metric`."""
    by_dataset = getattr(task, "main_metric", None)
    return str(by_dataset(data)) if by_dataset is not None else task.CARD.metric


def protocol_of_cell(task: Task, name: str) -> Any:
    """The settings with which a stored cell is scored; name: its `Cell.protocol`.

    `g2d@mine-1a2b3c4d` is the protocol g2d with the user's prompts, which scoring does not need.
    """
    return protocol_of(task, name.partition(PROMPTS_MARK)[0])[1]


def check_fraction(fraction: float) -> float:
    """The fraction, a share of the training patients in (0, 1]; Misuse if it is outside."""
    if not 0 < fraction <= 1:
        raise Misuse(f"--fraction {fraction:g} is not in (0, 1]: 0.01 is one per cent")
    return fraction
