"""The training loop of fine-tuning: schedule, mixed precision, early stopping, resume.

Everything random in an epoch comes from the run's seed and the epoch's number, dropout included, so
that a stopped training goes on to the same result, to the last bit on the CPU.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from g2dbench.errors import BadData
from g2dbench.evaluation.fine_tuning.checkpoint import (
    CHECKPOINT_FILE,
    Progress,
    load_checkpoint,
    load_trained_state,
    save_checkpoint,
    trained_state,
)
from g2dbench.evaluation.fine_tuning.settings import FineTuneSettings
from g2dbench.evaluation.fit_head import SHUFFLE, FitResult
from g2dbench.task import Run

AUGMENT, DROPOUT = 4, 5
"""Random streams of `Run.generator`: augmentation of images, and dropout."""


@dataclass(frozen=True)
class Job:
    """What is trained.

    module: with gradients where it is trained. groups: `params` and `factor`, of the learning
    rate. count: training images. loss: indices (b,) and a generator for augmentation -> scalar.
    validate: the value to minimize, in eval mode without gradient.
    """

    module: nn.Module
    groups: list[dict[str, Any]]
    count: int
    loss: Callable[[Tensor, torch.Generator], Tensor]
    validate: Callable[[], float]


def fine_tune(job: Job, settings: FineTuneSettings, run: Run[Any], title: str) -> FitResult:
    """Train in place; on return the module is in eval mode with the best epoch's weights.

    With `run.folder`, each epoch's state is written there and removed at the end; a stopped
    training goes on from it. `run.details["fit"]` gets the chosen epoch, the validation curve and
    the epoch from which it was resumed. BadData if no epoch has a finite validation value.
    """
    if job.count < 2:
        raise BadData(f"{title} needs two training images or more, not {job.count}: --fraction")
    trainer = _Trainer(job, settings, run)
    path = None if run.folder is None else run.folder / CHECKPOINT_FILE
    key = json.dumps([asdict(settings), job.count, run.seed, run.machine.precision])
    progress = (path and load_checkpoint(path, key, job.module, trainer.parts)) or Progress()
    resumed = progress.epoch
    epochs = settings.total_epochs(job.count)
    for epoch in run.progress(range(resumed + 1, epochs + 1), title, epochs - resumed):
        if _is_stopped(progress, settings):
            break
        trainer.epoch(epoch, progress)
        if path is not None:
            save_checkpoint(path, key, progress, job.module, trainer.parts)
    found = _finish(job.module, progress, title)
    details = {**asdict(found), "images": job.count, "settings": asdict(settings)}
    run.details["fit"] = details | {"resumed_after_epoch": resumed}
    if path is not None:
        path.unlink(missing_ok=True)
    return found


def _is_stopped(progress: Progress, settings: FineTuneSettings) -> bool:
    patience = settings.patience
    return patience is not None and progress.epoch - progress.best_epoch >= patience


def _finish(module: nn.Module, progress: Progress, title: str) -> FitResult:
    if progress.weights is None:
        raise BadData(
            f"{title}: the validation value was not finite in any of {progress.epoch} epochs; "
            "training diverged, or the validation split has nothing to score"
        )
    load_trained_state(module, progress.weights)
    module.eval()
    return FitResult(
        progress.best_epoch, progress.best, progress.epoch, progress.steps, tuple(progress.curve)
    )


class _Trainer:
    """The optimizer of a job; `parts` have the state that a checkpoint needs."""

    def __init__(self, job: Job, settings: FineTuneSettings, run: Run[Any]) -> None:
        self._job, self._settings, self._run = job, settings, run
        self._optimizer = _optimizer(job, settings)
        scaled = run.machine.precision == "fp16" and run.device.type == "cuda"
        self._scaler = torch.amp.GradScaler(run.device.type, enabled=scaled)
        self.parts = {"optimizer": self._optimizer, "scaler": self._scaler}

    def epoch(self, number: int, progress: Progress) -> None:
        """Train one epoch, validate, and note the result."""
        job, settings = self._job, self._settings
        augment = self._run.generator(AUGMENT, number)
        job.module.train()
        with _seeded(self._run.generator(DROPOUT, number), self._run.device):
            for rows in self._batches(number):
                if settings.steps is not None and progress.steps >= settings.steps:
                    break
                self._step(job.loss, rows, augment, progress.steps)
                progress.steps += 1
        job.module.eval()
        with torch.no_grad():
            value = job.validate()
        progress.epoch = number
        progress.curve.append(value)
        if value < progress.best:
            progress.best, progress.best_epoch = value, number
            progress.weights = trained_state(job.module)

    def _batches(self, epoch: int) -> Iterator[Tensor]:
        """Indices (b,) of one epoch's batches, see `FineTuneSettings.steps_per_epoch`."""
        count, size = self._job.count, self._settings.batch_size
        shuffle = self._run.generator(SHUFFLE, epoch)
        per_pass = max(1, count // size)
        for _ in range(self._settings.steps_per_epoch(count) // per_pass):
            yield from torch.randperm(count, generator=shuffle).split(size)[:per_pass]

    def _step(
        self,
        loss: Callable[[Tensor, torch.Generator], Tensor],
        rows: Tensor,
        augment: torch.Generator,
        step: int,
    ) -> None:
        rate = self._settings.rate(step, self._job.count)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        self._optimizer.zero_grad(set_to_none=True)
        with self._run.autocast():
            value = loss(rows, augment)
        self._scaler.scale(value).backward()
        if self._settings.clip is not None:
            self._scaler.unscale_(self._optimizer)
            weights = [weight for group in self._job.groups for weight in group["params"]]
            nn.utils.clip_grad_norm_(weights, self._settings.clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()


def _optimizer(job: Job, settings: FineTuneSettings) -> torch.optim.Optimizer:
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            job.groups, lr=settings.lr, momentum=0.9, weight_decay=settings.weight_decay
        )
    return torch.optim.AdamW(job.groups, lr=settings.lr, weight_decay=settings.weight_decay)


@contextmanager
def _seeded(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators, which dropout uses, and restore them afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        yield
