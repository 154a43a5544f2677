"""One pre-training loop for every method.

AdamW, warm-up and cosine, mixed precision, gradient clipping; a log line per epoch; a checkpoint
per epoch and on Ctrl-C, from which training goes on to the same weights, bit for bit on the CPU.
Every random number is a function of (seed, epoch or step), so no generator's state is kept.
Several GPUs: start it under `torchrun`; then `batch_size` is that of each process.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from g2dbench import runs, training_state, watch
from g2dbench.cards import MethodCard
from g2dbench.checkpoint import load_state
from g2dbench.dataset import Dataset
from g2dbench.errors import BadCheckpoint
from g2dbench.loader import Loader, Pairs, find_pairs, training_pairs
from g2dbench.method import Batch, Method
from g2dbench.parallel import Losses, accelerator_for, start
from g2dbench.recipe import Optim, Recipe, check_method, override
from g2dbench.registry import Registry
from g2dbench.runs import RunFolder
from g2dbench.task import Progress, quiet
from g2dbench.text import load_tokenizer, make_tokenizer
from g2dbench.training_state import Interrupts, Log, State, Stopped, again
from g2dbench.watch import Heldout

Echo = Callable[[str], object]

_DROPOUT = 3  # a stream of random numbers, beside those of the loader
_WORKERS = 4  # processes that read images for a GPU, where they do not fit in memory


def fit(
    recipe: Recipe,
    dataset: Dataset,
    out: Path | None,
    *,
    seed: int,
    device: torch.device,
    precision: str,
    epochs: int | None = None,
    resume: bool = False,
    registry: Registry | None = None,
    progress: Progress = quiet,
    echo: Echo = print,
) -> RunFolder:
    """Train a recipe on the pairs of a data set's training split; the finished run folder.

    out: a new folder, runs/LABEL-sSEED by default; with `resume` the one to go on with.
    epochs: instead of the recipe's, which makes it a changed recipe with a label of its own.

    Raises:
        Misuse: unknown method or setting, a folder that is taken, nothing to resume.
        BadData: no pairs. Stopped: interrupted, a loss that is not finite, or a full disk.
    """
    registry = registry or Registry()
    if epochs is not None:
        recipe = override(recipe, [f"optim.epochs={epochs}"])
    check_method(recipe, None, registry)
    started = runs.find_started(out, recipe, dataset, seed, precision) if resume else None
    if started is not None and started.info.status == "complete":
        echo(f"{started.folder} is complete already")
        return started
    accelerator = accelerator_for(device, precision)
    pairs = training_pairs(
        dataset, recipe.data.views, recipe.optim.batch_size, recipe.data.cleaning
    )
    method = _build(recipe, pairs, seed, started, registry)
    info = runs.describe(
        recipe, dataset, method, seed, len(pairs), device=str(device), precision=precision
    )
    run = started or start(info, out, method, accelerator)
    training = Training(run, method, pairs, accelerator, device, progress, echo)
    if (dataset.table["split"] == "valid").any():
        held_out = find_pairs(dataset.split("valid"), recipe.data.views, recipe.data.cleaning)
        training.watch(held_out.first(watch.MOST))
    training.restore()
    training.run_all()
    return run


def _build(
    recipe: Recipe, pairs: Pairs, seed: int, started: RunFolder | None, registry: Registry
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
        pairs: Pairs,
        accelerator: Accelerator,
        device: torch.device,
        progress: Progress,
        echo: Echo,
    ) -> None:
        self.run, self.method, self.accelerator = run, method, accelerator
        self.progress, self.echo = progress, echo
        self.optim: Optim = run.info.recipe.optim
        alone = accelerator.num_processes == 1
        self.device = device if alone else accelerator.device
        self.loader = self.load(pairs, self.optim.batch_size)
        self.heldout: Heldout | None = None
        # Convolutions are faster with channels last, on GPUs and on the CPU (bf16: 1.15 times).
        method.to(self.device).to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.AdamW(
            _groups(method, self.optim.weight_decay),
            lr=self.optim.lr,
            betas=self.optim.betas,
        )
        self.losses, self.optimizer = accelerator.prepare(Losses(method), optimizer)
        self.state, self.log = State(), Log(run.folder / runs.LOG_FILE)

    def load(self, pairs: Pairs, batch_size: int) -> Loader:
        """A loader of these pairs for this process."""
        info, accelerator = self.run.info, self.accelerator
        return Loader(
            pairs,
            self.method.preprocess,
            self.method.tokenize,
            batch_size=batch_size,
            seed=info.seed,
            device=self.device,
            policy=info.recipe.augment.policy,
            workers=0 if self.device.type == "cpu" else _WORKERS,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
        )

    def watch(self, pairs: Pairs) -> None:
        """Rank these held-out pairs after every epoch, if there are any."""
        if not len(pairs):
            return
        loader = self.load(pairs, self.optim.batch_size)
        self.heldout = Heldout(pairs, loader, self.accelerator.autocast)

    def restore(self) -> None:
        """Take up the last checkpoint; a run that was stopped before its first begins anew."""
        path = self.run.folder / runs.STATE_FILE
        if not path.is_file():
            return
        self.state, parts = training_state.restore(path)
        try:
            load_state(self.method, parts["method"], path)
            self.optimizer.load_state_dict(parts["optimizer"])
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(parts["scaler"])
        except (KeyError, ValueError) as error:
            raise BadCheckpoint(f"{path} does not fit the run: {error}") from error
        self.log.restore(self.state.epoch)

    def run_all(self) -> None:
        """Train to the end, then write the weights."""
        devices = [self.device] if self.device.type == "cuda" else []
        with Interrupts() as interrupts, torch.random.fork_rng(devices=devices):
            for epoch in range(self.state.epoch, self.optim.epochs):
                self._epoch(epoch, interrupts)
        if self.accelerator.is_main_process:
            training_state.write(
                self.run.folder, "the weights", lambda: self.run.finish(self.method)
            )
        self.accelerator.wait_for_everyone()

    def _epoch(self, epoch: int, interrupts: Interrupts) -> None:
        began, first, steps = time.perf_counter(), self.state.batch, self.loader.steps
        batches = self.loader.epoch(epoch, first)
        title = f"epoch {epoch + 1}/{self.optim.epochs}"
        for batch in self.progress(batches, title, steps - first):
            self.state.add(self._step(batch))
            if interrupts.asked:
                self._save()
                raise Stopped(
                    f"stopped in epoch {epoch + 1} after batch {self.state.batch} of {steps} and "
                    f"saved: go on with {again(self.run.folder)}"
                )
        seconds = time.perf_counter() - began
        images = (steps - first) * self.optim.batch_size * self.accelerator.num_processes
        self._end_epoch(seconds, images / seconds)

    def _step(self, batch: Batch) -> dict[str, float]:
        """One optimiser step; the losses. Stopped where one of them is not finite."""
        total = self.optim.epochs * self.loader.steps
        for group in self.optimizer.param_groups:
            group["lr"] = self.optim.lr_at(batch.step, total)
        torch.manual_seed(self._seed_of(batch.step))
        losses = self.losses(batch)
        self.accelerator.backward(sum(losses.values()))
        limit = self.optim.grad_clip or math.inf
        norm = self.accelerator.clip_grad_norm_(self.losses.parameters(), limit)
        values = torch.stack([*losses.values(), norm]).tolist()
        # fp16 overflows now and then; its scaler skips such a step and tries a smaller scale.
        checked = values[:-1] if self.accelerator.scaler is not None else values
        if not all(map(math.isfinite, checked)):
            raise Stopped(self._diverged(batch.step, dict(zip(losses, values, strict=False))))
        self.optimizer.step()
        self.optimizer.zero_grad()
        return dict(zip(losses, values, strict=False))

    def _seed_of(self, step: int) -> int:
        entropy = [self.run.info.seed, _DROPOUT, step, self.accelerator.process_index]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])

    def _diverged(self, step: int, losses: dict[str, float]) -> str:
        found = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        epoch, batch = divmod(step, self.loader.steps)
        return (
            f"the loss or its gradient is not finite in epoch {epoch + 1}, batch {batch + 1} "
            f"({found}): start anew with a lower --set optim.lr (now {self.optim.lr:g}) or "
            f"--precision fp32; {self.run.folder} keeps its last good checkpoint"
        )

    def _end_epoch(self, seconds: float, rate: float) -> None:
        """Look at the held-out pairs, log, say so, save."""
        done = self.state.epoch + 1
        step = done * self.loader.steps
        losses = self.state.close()
        if not self.accelerator.is_main_process:
            self.accelerator.wait_for_everyone()
            return
        figures = self.heldout.figures(self.method, step) if self.heldout else {}
        last = {"lr": self.optim.lr_at(step - 1, self.optim.epochs * self.loader.steps)}
        speed = {"images_per_s": round(rate, 2), "seconds": round(seconds, 2)}
        row = {"epoch": done, "step": step, **last, **losses, **figures, **speed}
        training_state.write(self.run.folder, "the log", lambda: self.log.add(row))
        self.echo(watch.line(row, self.optim.epochs, list(losses)))
        self._save()
        if done == self.optim.epochs:
            for warning in watch.warnings(figures):
                self.echo(f"warning: {warning}")
        self.accelerator.wait_for_everyone()

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        parts = {"method": self.method.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.accelerator.scaler is not None:
            parts["scaler"] = self.accelerator.scaler.state_dict()
        path = self.run.folder / runs.STATE_FILE
        training_state.write(
            self.run.folder, "a checkpoint", lambda: training_state.save(path, self.state, parts)
        )


def _groups(method: Method, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters with and without weight decay: matrices and kernels; biases, norms and tokens."""
    learning = [weight for weight in method.parameters() if weight.requires_grad]
    return [
        {"params": [w for w in learning if w.ndim >= 2], "weight_decay": weight_decay},
        {"params": [w for w in learning if w.ndim < 2], "weight_decay": 0.0},
    ]
