"""One pre-training loop for every method.

AdamW, warm-up and cosine, mixed precision, gradient clipping; a log line per epoch; a checkpoint
per epoch, on Ctrl-C and as `Saving` says, from which training goes on to the same weights, bit for
bit on the CPU. Every random number is a function of (seed, epoch or step), so no generator's state
is kept. Several processes: start it under `torchrun`; then `batch_size` is that of each of them.
docs/training.md says how all this is used.
"""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator

from g2dbench.cards import MethodCard
from g2dbench.data.shards.stream import Stream
from g2dbench.dataset import Dataset
from g2dbench.errors import Stopped
from g2dbench.method import Batch, Method
from g2dbench.pretrained.tokenizer import load_tokenizer, make_tokenizer
from g2dbench.progress import quiet
from g2dbench.recipes.recipe import Optim, Recipe, check_method, override
from g2dbench.registry import Registry
from g2dbench.runs import checkpoints, location, state
from g2dbench.runs import folder as runs
from g2dbench.runs.checkpoints import Checkpoints, Saving
from g2dbench.runs.folder import RunFolder
from g2dbench.runs.log import Log
from g2dbench.runs.state import State, again
from g2dbench.system.machine import Machine
from g2dbench.training import distributed
from g2dbench.training.batches import source
from g2dbench.training.batches.collate import Batching
from g2dbench.training.batches.pair_loader import Pairs
from g2dbench.training.batches.source import Batches, TrainingPairs
from g2dbench.training.distributed import Strategy, accelerator_for, on_main, start
from g2dbench.training.gradient_cache import check_separable
from g2dbench.training.interrupts import Interrupts
from g2dbench.training.monitoring import monitor
from g2dbench.training.monitoring.held_out import Heldout
from g2dbench.training.monitoring.monitor import Watch, Watching
from g2dbench.training.optimizer import Optimisation

Echo = Callable[[str], object]

_WORKERS = 4  # processes that read and vary images for a GPU


def fit(
    recipe: Recipe,
    dataset: Dataset | Stream,
    out: Path | None,
    *,
    seed: int,
    machine: Machine,
    epochs: int | None = None,
    resume: bool = False,
    saving: Saving | None = None,
    strategy: Strategy = "ddp",
    watching: Watching | None = None,
    registry: Registry | None = None,
    echo: Echo = print,
) -> RunFolder:
    """Train a recipe on the pairs of a data set's training split; the finished run folder.

    out: a new folder, runs/LABEL-sSEED by default; with `resume` the one to go on with.
    epochs: instead of the recipe's, which makes it a changed recipe with a label of its own.
    saving: when to write checkpoints besides each epoch's end, and how many to keep.
    machine: by default 4 processes read images for a GPU and none for the CPU; its batch size is
    not read.
    watching: how closely it is watched, which changes no bit of the weights.

    Raises:
        Misuse: unknown method or setting, a folder that is taken, nothing to resume.
        BadData: no pairs. Stopped: interrupted, a loss that is not finite, or a full disk.
        BadCheckpoint: all checkpoints to resume from are broken.
    """
    registry = registry or Registry()
    if epochs is not None:
        recipe = override(recipe, [f"optim.epochs={epochs}"])
    check_method(recipe, None, registry)
    accelerator = accelerator_for(machine.device, machine.precision, strategy)
    if not accelerator.is_main_process:
        machine, echo = replace(machine, progress=quiet), lambda _: None
    processes = accelerator.num_processes
    started = None
    if resume:
        started = location.find_started(out, recipe, dataset, seed, machine.precision, processes)
    if started is not None and started.info.status == "complete":
        echo(f"{started.folder} is complete already")
        return started
    least = recipe.optim.batch_size * processes
    pairs = source.training_pairs(dataset, recipe.data, least)
    method = _build(recipe, pairs, seed, started, registry)
    info = runs.describe(
        recipe, dataset, method, seed, len(pairs),
        device=str(machine.device), precision=machine.precision, processes=processes,
    )  # fmt: skip
    _check(method, recipe, strategy)
    run = started or start(info, out, method, accelerator)
    training = Training(run, method, pairs, accelerator, machine, saving or Saving(), echo)
    training.watch(source.held_out_pairs(dataset, recipe.data))
    training.restore()
    watching = watching or Watching()
    training.run_all(watching.from_afar() if strategy == "fsdp" else watching)
    return run


def _check(method: Method, recipe: Recipe, strategy: Strategy) -> None:
    """Misuse for what the method cannot do, before anything is written."""
    check_separable(method, recipe.optim.micro_batch)
    if strategy == "fsdp":
        distributed.check_shardable(method)


def _build(
    recipe: Recipe, pairs: TrainingPairs, seed: int, started: RunFolder | None, registry: Registry
) -> Method:
    """The method with fresh weights; a resumed run has its tokenizer already."""
    if started is None:
        tokenizer = make_tokenizer(recipe.model.get("text", {}), pairs.reports)
    else:
        tokenizer = load_tokenizer(started.folder)
    module = registry.find(MethodCard, recipe.method).load()
    method: Method = module.build(recipe.model, tokenizer, seed)
    return method


class Training:
    """The loop; what a checkpoint keeps of it is `state` and the state_dicts of `_parts`."""

    def __init__(
        self,
        run: RunFolder,
        method: Method,
        pairs: TrainingPairs,
        accelerator: Accelerator,
        machine: Machine,
        saving: Saving,
        echo: Echo,
    ) -> None:
        self.run, self.method, self.accelerator = run, method, accelerator
        self.progress, self.echo = machine.progress, echo
        self.optim: Optim = run.info.recipe.optim
        alone = accelerator.num_processes == 1
        self.device = machine.device if alone else accelerator.device
        usual = 0 if self.device.type == "cpu" else _WORKERS
        self.workers = usual if machine.workers is None else machine.workers
        self.pairs, self.loader = pairs, self.load(pairs, self.optim.batch_size)
        self.heldout: Heldout | None = None
        method.to(self.device).train()
        self.optimisation = Optimisation(method, self.optim, run.info.seed, accelerator)
        self.state, self.log = State(), Log(run.folder / runs.LOG_FILE)
        self.looks = Log(run.folder / monitor.STEPS_FILE)
        self.checkpoints = Checkpoints(run.folder / runs.CHECKPOINTS, saving)

    def load(self, pairs: TrainingPairs, batch_size: int) -> Batches:
        """A loader of these pairs for this process."""
        info, accelerator = self.run.info, self.accelerator
        how = Batching(
            preprocess=self.method.preprocess,
            tokenize=self.method.tokenize,
            batch_size=batch_size,
            seed=info.seed,
            device=self.device,
            policy=info.recipe.augment.policy,
            workers=self.workers,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
        )
        return source.load(pairs, how)

    def watch(self, pairs: Pairs | None) -> None:
        """Rank these held-out pairs after every epoch, if there are any."""
        if pairs is None or not len(pairs):
            return
        loader = self.load(pairs, self.optim.batch_size)
        self.heldout = Heldout(pairs, loader, self.accelerator.autocast)

    def restore(self) -> None:
        """Take up the newest whole checkpoint; a run stopped before its first begins anew."""
        path, warnings = on_main(self.accelerator, self.checkpoints.newest)
        for warning in warnings:
            self.echo(f"warning: {warning}")
        if path is None:
            return
        self.state, parts = checkpoints.restore(path)
        self.optimisation.restore(parts, path)
        self.log.restore(parts["log"])
        self.looks.restore(parts["looks"])

    def run_all(self, watching: Watching) -> None:
        """Train to the end, then write the weights."""
        watcher = Watch(
            watching, self.run, self.method, self.pairs, self.loader, self.heldout, self.looks,
            self.accelerator, self.echo,
        )  # fmt: skip
        devices = [self.device] if self.device.type == "cuda" else []
        with Interrupts() as interrupts, torch.random.fork_rng(devices=devices), closing(watcher):
            watcher.start(self._steps_done, self.log.rows)
            for epoch in range(self.state.epoch, self.optim.epochs):
                self._epoch(epoch, interrupts, watcher)
        weights = self.optimisation.weights()
        self._write("the weights", lambda: self.run.finish(weights))

    @property
    def _steps_done(self) -> int:
        return self.state.epoch * self.loader.steps + self.state.batch

    def _epoch(self, epoch: int, interrupts: Interrupts, watcher: Watch) -> None:
        began, first, steps = time.perf_counter(), self.state.batch, self.loader.steps
        batches = self.loader.epoch(epoch, first)
        title = f"epoch {epoch + 1}/{self.optim.epochs}"
        for batch in self.progress(batches, title, steps - first):
            losses = self._step(batch)
            self.state.add(losses)
            watcher.step(batch, losses)
            due = self.state.batch < steps and self.checkpoints.due(batch.step + 1)
            stop, due = distributed.agreed(self.accelerator, [interrupts.asked, due])
            if stop or due:
                self._save()
            if stop:
                raise Stopped(
                    f"stopped in epoch {epoch + 1} after batch {self.state.batch} of {steps} and "
                    f"saved: go on with {again(self.run.folder)}"
                )
        seconds = time.perf_counter() - began
        images = (steps - first) * self.optim.batch_size * self.accelerator.num_processes
        self._end_epoch(seconds, images / seconds, watcher)

    def _step(self, batch: Batch) -> dict[str, float]:
        """One optimiser step; the losses. Stopped where one of them is not finite."""
        lr = self.optim.lr_at(batch.step, self.optim.epochs * self.loader.steps)
        losses, finite = self.optimisation.step(batch, lr)
        if not finite:
            raise Stopped(self._diverged(batch.step, losses))
        return losses

    def _diverged(self, step: int, losses: dict[str, float]) -> str:
        found = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        epoch, batch = divmod(step, self.loader.steps)
        return (
            f"the loss or its gradient is not finite in epoch {epoch + 1}, batch {batch + 1} "
            f"({found}): start anew with a lower --set optim.lr (now {self.optim.lr:g}) or "
            f"--precision fp32; {self.run.folder} keeps its last good checkpoint"
        )

    def _end_epoch(self, seconds: float, rate: float, watcher: Watch) -> None:
        """Look at the held-out pairs, log, say so, save."""
        done = self.state.epoch + 1
        step = done * self.loader.steps
        losses = self.state.close()
        figures = self._figures(step)
        last = {"lr": self.optim.lr_at(step - 1, self.optim.epochs * self.loader.steps)}
        speed = {"images_per_s": round(rate, 2), "seconds": round(seconds, 2)}
        row = {"epoch": done, "step": step, **last, **losses, **figures, **speed}
        self._write("the log", lambda: self.log.add(row))
        self.echo(monitor.line(row, self.optim.epochs, list(losses)))
        self._save()
        watcher.epoch(row)

    def _figures(self, step: int) -> dict[str, float]:
        """What is watched on held-out pairs; every process looks, so that all agree."""
        if self.heldout is None:
            return {}
        with self.optimisation.whole():
            return self.heldout.figures(self.method, step)

    def _save(self) -> None:
        parts = {
            **self.optimisation.parts(), "log": self.log.rows, "looks": self.looks.rows
        }  # fmt: skip
        step = self._steps_done
        self._write("a checkpoint", lambda: self.checkpoints.save(step, self.state, parts))

    def _write(self, what: str, action: Callable[[], object]) -> None:
        """Write in the main process while the others wait; where that fails, all stop."""
        folder = self.run.folder
        on_main(self.accelerator, lambda: state.write(folder, what, action))
