"""The pre-training loop of every method.

AdamW, learning-rate schedule, mixed precision, gradient clipping; one log row per epoch; a
checkpoint per epoch, on Ctrl-C and as `CheckpointPolicy` says. A resumed training ends in the same
weights, on the CPU bit for bit: all random numbers are a function of the seed and the epoch or
step, so checkpoints need no generator state. Under `torchrun`, `batch_size` is per process.
docs/training.md describes its use.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator

from g2dbench.cards import MethodCard
from g2dbench.data.shards.stream import Stream
from g2dbench.dataset import Dataset
from g2dbench.errors import Stopped
from g2dbench.method import Batch, Method
from g2dbench.pretrained.text.tokenizer import load_tokenizer, make_tokenizer
from g2dbench.progress import quiet
from g2dbench.recipes.recipe import OptimSettings, Recipe, check_method, override
from g2dbench.registry import Registry
from g2dbench.runs import checkpoints, location, state
from g2dbench.runs import folder as runs
from g2dbench.runs.checkpoints import CheckpointPolicy, Checkpoints
from g2dbench.runs.folder import RunFolder
from g2dbench.runs.log import Log
from g2dbench.runs.state import TrainingState, resume_hint
from g2dbench.system.machine import Machine
from g2dbench.training import distributed
from g2dbench.training.batches import source
from g2dbench.training.batches.collate import LoaderSettings
from g2dbench.training.batches.pair_loader import Pairs
from g2dbench.training.batches.source import BatchLoader, TrainingPairs
from g2dbench.training.distributed import Strategy, make_accelerator, on_main_process
from g2dbench.training.gradient_cache import check_separable
from g2dbench.training.interrupts import Interrupts
from g2dbench.training.monitoring.held_out import HeldOut
from g2dbench.training.monitoring.monitor import (
    STEPS_FILE,
    Monitor,
    MonitoredTraining,
    MonitorSettings,
    epoch_line,
)
from g2dbench.training.optimizer import MethodOptimizer

Echo = Callable[[str], object]

_GPU_WORKERS = 4  # processes that read and augment images for a GPU


def fit(
    recipe: Recipe,
    dataset: Dataset | Stream,
    out: Path | None,
    *,
    seed: int,
    machine: Machine,
    epochs: int | None = None,
    resume: bool = False,
    checkpointing: CheckpointPolicy | None = None,
    strategy: Strategy = "ddp",
    monitoring: MonitorSettings | None = None,
    registry: Registry | None = None,
    echo: Echo = print,
) -> RunFolder:
    """Train a recipe on the training split of a data set; returns the finished run folder.

    out: a new folder, by default runs/LABEL-sSEED; with `resume`, the run to continue.
    epochs: replaces the recipe's number, which gives the changed recipe its own label.
    checkpointing: when to write checkpoints besides each epoch's end, and how many to keep.
    machine: by default 4 processes read images for a GPU and none for the CPU; its batch size is
    ignored.
    monitoring: what is measured during training; it does not change the weights.

    Raises:
        Misuse: unknown method or setting, a folder that is not empty, nothing to resume.
        BadData: no pairs. Stopped: interrupted, a loss that is not finite, or a full disk.
        BadCheckpoint: all checkpoints to resume from are damaged. Busy: another process trains it.
    """
    registry = registry or Registry()
    if epochs is not None:
        recipe = override(recipe, [f"optim.epochs={epochs}"])
    check_method(recipe, None, registry)
    accelerator = make_accelerator(machine.device, machine.precision, strategy)
    if not accelerator.is_main_process:
        machine, echo = replace(machine, progress=quiet), lambda _: None
    processes = accelerator.num_processes
    with ExitStack() as held:
        started = None
        if resume:
            started = location.find_run_to_resume(
                out, recipe, dataset, seed, machine.precision, processes
            )
        if started is not None and started.info.status != "complete":
            started = distributed.lock_run(started, accelerator, held)
        if started is not None and started.info.status == "complete":
            echo(f"{started.folder} is already complete")
            return started
        pairs = source.training_pairs(dataset, recipe.data, recipe.optim.batch_size * processes)
        method = _build(recipe, pairs, seed, started, registry)
        info = runs.new_run_info(
            recipe, dataset, method, seed, len(pairs),
            device=str(machine.device), precision=machine.precision, processes=processes,
        )  # fmt: skip
        _check(method, recipe, strategy)
        run = started or distributed.start_run(info, out, method, accelerator, held)
        trainer = Trainer(
            run, method, pairs, accelerator, machine, checkpointing or CheckpointPolicy(), echo
        )
        trainer.set_held_out(source.held_out_pairs(dataset, recipe.data))
        trainer.restore()
        monitoring = monitoring or MonitorSettings()
        trainer.train(monitoring.for_sharded_weights() if strategy == "fsdp" else monitoring)
    return run


def _check(method: Method, recipe: Recipe, strategy: Strategy) -> None:
    """Raise Misuse for settings that the method cannot use, before anything is written."""
    check_separable(method, recipe.optim.micro_batch)
    if strategy == "fsdp":
        distributed.check_shardable(method)


def _build(
    recipe: Recipe, pairs: TrainingPairs, seed: int, started: RunFolder | None, registry: Registry
) -> Method:
    """The method with fresh weights; a resumed run already has a tokenizer."""
    if started is None:
        tokenizer = make_tokenizer(recipe.model.get("text", {}), pairs.reports)
    else:
        tokenizer = load_tokenizer(started.folder)
    module = registry.find(MethodCard, recipe.method).load()
    method: Method = module.build(recipe.model, tokenizer, seed)
    return method


class Trainer:
    """The training loop of one run.

    A checkpoint holds `state`, both logs and the state_dicts of `MethodOptimizer.parts`.
    """

    def __init__(
        self,
        run: RunFolder,
        method: Method,
        pairs: TrainingPairs,
        accelerator: Accelerator,
        machine: Machine,
        checkpointing: CheckpointPolicy,
        echo: Echo,
    ) -> None:
        self.run, self.method, self.accelerator = run, method, accelerator
        self.progress, self.echo = machine.progress, echo
        self.optim: OptimSettings = run.info.recipe.optim
        single_process = accelerator.num_processes == 1
        self.device = machine.device if single_process else accelerator.device
        default = 0 if self.device.type == "cpu" else _GPU_WORKERS
        self.workers = default if machine.workers is None else machine.workers
        self.pairs, self.loader = pairs, self.load(pairs, self.optim.batch_size)
        self.held_out: HeldOut | None = None
        method.to(self.device).train()
        self.optimizer = MethodOptimizer(method, self.optim, run.info.seed, accelerator)
        self.state, self.log = TrainingState(), Log(run.folder / runs.LOG_FILE)
        self.step_log = Log(run.folder / STEPS_FILE)
        self.checkpoints = Checkpoints(run.folder / runs.CHECKPOINTS, checkpointing)

    def load(self, pairs: TrainingPairs, batch_size: int) -> BatchLoader:
        """A loader of these pairs for this process."""
        info, accelerator = self.run.info, self.accelerator
        settings = LoaderSettings(
            preprocess=self.method.preprocess,
            tokenize=self.method.tokenize,
            batch_size=batch_size,
            seed=info.seed,
            device=self.device,
            policy=info.recipe.augment.policy,
            workers=self.workers,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
        )
        return source.make_loader(pairs, settings)

    def set_held_out(self, pairs: Pairs | None) -> None:
        """Evaluate retrieval on these held-out pairs after every epoch, if there are any."""
        if pairs is None or not len(pairs):
            return
        loader = self.load(pairs, self.optim.batch_size)
        self.held_out = HeldOut(pairs, loader, self.accelerator.autocast)

    def restore(self) -> None:
        """Load the newest intact checkpoint; a run without any starts from the beginning."""
        path, warnings = on_main_process(self.accelerator, self.checkpoints.newest)
        for warning in warnings:
            self.echo(f"warning: {warning}")
        if path is None:
            return
        self.state, parts = checkpoints.read_checkpoint(path)
        self.optimizer.restore(parts, path)
        self.log.restore(parts["log"])
        self.step_log.restore(parts["looks"])

    def train(self, monitoring: MonitorSettings) -> None:
        """Train to the end, then write the weights."""
        monitored = MonitoredTraining(
            self.run, self.method, self.pairs, self.loader, self.held_out, self.accelerator
        )
        monitor = Monitor(monitoring, monitored, self.step_log, self.echo)
        devices = [self.device] if self.device.type == "cuda" else []
        with Interrupts() as interrupts, torch.random.fork_rng(devices=devices), closing(monitor):
            monitor.start(self._steps_done, self.log.rows)
            for epoch in range(self.state.epoch, self.optim.epochs):
                self._epoch(epoch, interrupts, monitor)
        weights = self.optimizer.weights()
        self._write("the weights", lambda: self.run.finish(weights))

    @property
    def _steps_done(self) -> int:
        return self.state.epoch * self.loader.steps + self.state.batch

    def _epoch(self, epoch: int, interrupts: Interrupts, monitor: Monitor) -> None:
        start_time, first, steps = time.perf_counter(), self.state.batch, self.loader.steps
        batches = self.loader.epoch(epoch, first)
        title = f"epoch {epoch + 1}/{self.optim.epochs}"
        for batch in self.progress(batches, title, steps - first):
            losses = self._step(batch)
            self.state.add(losses)
            monitor.step(batch, losses)
            due = self.state.batch < steps and self.checkpoints.due(batch.step + 1)
            stop, due = distributed.any_process(self.accelerator, [interrupts.requested, due])
            if stop or due:
                self._save()
            if stop:
                raise Stopped(
                    f"stopped in epoch {epoch + 1} after batch {self.state.batch} of {steps} and "
                    f"saved: continue with {resume_hint(self.run.folder)}"
                )
        seconds = time.perf_counter() - start_time
        images = (steps - first) * self.optim.batch_size * self.accelerator.num_processes
        self._end_epoch(seconds, images / seconds, monitor)

    def _step(self, batch: Batch) -> dict[str, float]:
        """One optimizer step; returns the losses, raises Stopped if one is not finite."""
        lr = self.optim.lr_at(batch.step, self.optim.epochs * self.loader.steps)
        losses, finite = self.optimizer.step(batch, lr)
        if not finite:
            raise Stopped(self._diverged(batch.step, losses))
        return losses

    def _diverged(self, step: int, losses: dict[str, float]) -> str:
        found = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        epoch, batch = divmod(step, self.loader.steps)
        return (
            f"the loss or its gradient is not finite in epoch {epoch + 1}, batch {batch + 1} "
            f"({found}): start again with a lower --set optim.lr (now {self.optim.lr:g}) or "
            f"--precision fp32; {self.run.folder} keeps its last good checkpoint"
        )

    def _end_epoch(self, seconds: float, rate: float, monitor: Monitor) -> None:
        """Evaluate on the held-out pairs, log and print the epoch, save a checkpoint."""
        done = self.state.epoch + 1
        step = done * self.loader.steps
        losses = self.state.end_epoch()
        held_out = self._evaluate_held_out(step)
        last = {"lr": self.optim.lr_at(step - 1, self.optim.epochs * self.loader.steps)}
        speed = {"images_per_s": round(rate, 2), "seconds": round(seconds, 2)}
        row = {"epoch": done, "step": step, **last, **losses, **held_out, **speed}
        self._write("the log", lambda: self.log.add(row))
        self.echo(epoch_line(row, self.optim.epochs, list(losses)))
        self._save()
        monitor.epoch(row)

    def _evaluate_held_out(self, step: int) -> dict[str, float]:
        """Values on the held-out pairs; every process computes them, as FSDP requires."""
        if self.held_out is None:
            return {}
        with self.optimizer.unsharded():
            return self.held_out.evaluate(self.method, step)

    def _save(self) -> None:
        parts = {
            **self.optimizer.parts(), "log": self.log.rows, "looks": self.step_log.rows
        }  # fmt: skip
        step = self._steps_done
        self._write("a checkpoint", lambda: self.checkpoints.save(step, self.state, parts))

    def _write(self, what: str, action: Callable[[], object]) -> None:
        """Write in the main process while the others wait; if that fails, all stop."""
        folder = self.run.folder
        on_main_process(self.accelerator, lambda: state.write_or_stop(folder, what, action))
