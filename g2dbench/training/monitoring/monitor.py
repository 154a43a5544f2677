"""Monitoring while a method trains, besides the held-out evaluation.

Every N steps, values on a few pairs are written to `steps.csv`; every N steps or at the end of each
epoch, a contact sheet is drawn. Warnings are printed when they first apply. The trackers get all of
this too. Nothing here changes weights, buffers or random numbers: the trained weights are the same
without monitoring.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from accelerate import Accelerator

from g2dbench.figures import contact_sheet
from g2dbench.figures.contact_sheet import CaptionedImage
from g2dbench.method import Batch, Method
from g2dbench.model import Embeds, Shows
from g2dbench.runs import state
from g2dbench.runs.folder import RunFolder
from g2dbench.runs.log import Log, Row
from g2dbench.system.files import replace_file
from g2dbench.system.peak_memory import process_peak_mib
from g2dbench.training.batches.source import BatchLoader, TrainingPairs
from g2dbench.training.monitoring import trackers
from g2dbench.training.monitoring.gradient_shares import gradient_shares
from g2dbench.training.monitoring.held_out import HeldOut, eval_mode, mean_recalls
from g2dbench.training.monitoring.warnings import WarningLog

STEPS_FILE, SHEETS = "steps.csv", "sheets"
MONITORED_PAIRS = 32
"""Pairs of a batch that are monitored, so that the cost does not grow with the batch."""

SHEET_ROWS = 6
"""Rows of a contact sheet."""

_MAX_UNJUDGED_STEPS = 1000  # warnings are checked after this many steps at the latest


@dataclass(frozen=True)
class MonitorSettings:
    """What is monitored in a training; it does not change the trained weights.

    track: trackers by accelerate's names. every: steps between two rows of `steps.csv`, 0 for none.
    sheet_every: steps between two contact sheets, 0 for one per epoch, None for none.
    """

    track: tuple[str, ...] = ()
    every: int = 50
    sheet_every: int | None = 0

    def __post_init__(self) -> None:
        trackers.check(self.track)

    def for_sharded_weights(self) -> "MonitorSettings":
        """Without monitoring steps and contact sheets: one process cannot run sharded weights."""
        return replace(self, every=0, sheet_every=None)


@dataclass(frozen=True)
class MonitoredTraining:
    """The parts of a training that are monitored."""

    run: RunFolder
    method: Method
    pairs: TrainingPairs
    loader: BatchLoader
    held_out: HeldOut | None
    accelerator: Accelerator


class Monitor:
    """Monitors one training; the loop calls `start`, `step`, `epoch` and `close`."""

    def __init__(
        self,
        settings: MonitorSettings,
        training: MonitoredTraining,
        step_log: Log,
        echo: Callable[[str], object],
    ) -> None:
        self._settings, self._step_log, self._echo = settings, step_log, echo
        self._run, self._method, self._pairs = training.run, training.method, training.pairs
        self._loader, self._held_out = training.loader, training.held_out
        self._accelerator = training.accelerator
        self._optim = self._run.info.recipe.optim
        self._trackers = trackers.Trackers(settings.track, echo)
        self._warnings = WarningLog(self._method.warning_rules)
        self._images, self._since = 0, time.perf_counter()

    def start(self, step: int, epochs: Sequence[Mapping[str, Any]]) -> None:
        """Start, or resume after `step` steps; `epochs`: rows of log.csv that are known by then.

        Warnings that were already printed are not printed again.
        """
        if not self._accelerator.is_main_process:
            return
        # For the last step of an epoch, the row of the step comes before that of the epoch.
        for row in sorted([*self._step_log.rows, *epochs], key=lambda row: int(row["step"])):
            self._check_warnings({name: float(value) for name, value in row.items()})
        name = f"{self._run.label}-s{self._run.info.seed}"
        config = _flatten(self._run.info.recipe.model_dump())
        self._trackers.start(self._run.folder, name, config, step)
        self._images, self._since = 0, time.perf_counter()

    def step(self, batch: Batch, losses: Mapping[str, float]) -> None:
        """After every optimizer step, with its batch and losses."""
        self._images += len(batch.images) * self._accelerator.num_processes
        if not self._accelerator.is_main_process:
            return
        done = batch.step + 1
        if self._settings.every and done % self._settings.every == 0:
            self._log_step(batch, losses)
        if self._settings.sheet_every and done % self._settings.sheet_every == 0:
            self._save_sheet(done)

    def epoch(self, row: Mapping[str, float]) -> None:
        """After every epoch, with its row of log.csv."""
        if not self._accelerator.is_main_process:
            return
        step = int(row["step"])
        self._trackers.log({f"epoch/{name}": value for name, value in row.items()}, step)
        for sentence in self._check_warnings(row):
            self._echo(sentence)
        if self._settings.sheet_every == 0:
            self._save_sheet(step)

    def close(self) -> None:
        """Close the trackers."""
        self._trackers.close()

    def _log_step(self, batch: Batch, losses: Mapping[str, float]) -> None:
        seconds = time.perf_counter() - self._since
        row = {
            "step": batch.step + 1,
            "epoch": batch.step // self._loader.steps + 1,
            "lr": self._optim.lr_at(batch.step, self._total_steps),
            **losses,
            **self._measure(_first_pairs(batch)),
            "images_per_s": round(self._images / seconds, 2),
            "memory_mib": round(_peak_memory_mib(batch.images.device)),
        }
        self._write("the log of steps", lambda: self._step_log.add(row))
        self._trackers.log({f"step/{name}": value for name, value in row.items()}, batch.step + 1)
        for sentence in self._check_warnings(row):
            self._echo(sentence)
        self._images, self._since = 0, time.perf_counter()

    def _measure(self, few: Batch) -> Row:
        """Retrieval within these pairs, gradient shares, and the method's monitors."""
        autocast = self._accelerator.autocast
        with eval_mode(self._method), autocast():
            found = self._retrieval(few)
            found |= self._method.monitors(replace(self._probe_batch, step=few.step))
        # Gathered negatives would wait for the other processes, which skip monitoring.
        if self._accelerator.num_processes == 1:
            scaler = self._accelerator.scaler
            scale = 1.0 if scaler is None else scaler.get_scale()
            found |= gradient_shares(self._method, few, autocast, scale)
        return found

    def _retrieval(self, few: Batch) -> Row:
        model = self._method.as_model()
        if not isinstance(model, Embeds):
            return {}
        groups = self._loader.groups(few.ids)
        texts = model.embed_texts([str(report) for _, report in groups])
        found = mean_recalls(model.embed_images(few.images), texts, groups)
        return {f"batch_{name}": value for name, value in found.items()}

    @cached_property
    def _probe_batch(self) -> Batch:
        """Fixed pairs for the method's monitors: held-out ones if there are any."""
        loader = self._held_out.loader if self._held_out else self._loader
        return _first_pairs(next(iter(loader.unaugmented())))

    def _check_warnings(self, row: Mapping[str, float]) -> list[str]:
        return self._warnings.update(row) if row["step"] >= self._first_judged_step else []

    @property
    def _total_steps(self) -> int:
        return self._optim.epochs * self._loader.steps

    @property
    def _first_judged_step(self) -> int:
        """The first step at which warnings are checked: every training starts at chance."""
        return max(
            self._optim.warmup(self._total_steps), min(self._total_steps // 4, _MAX_UNJUDGED_STEPS)
        )

    def _save_sheet(self, step: int) -> None:
        """Draw the first monitored images, if the method's model `Shows` maps."""
        model = self._method.as_model()
        if not isinstance(model, Shows):
            return
        pairs = (self._held_out.pairs if self._held_out else self._pairs).first(SHEET_ROWS)
        chosen = range(len(pairs))
        with eval_mode(self._method), self._accelerator.autocast():
            rows = contact_sheet.make_rows(
                model,
                [
                    CaptionedImage(pairs.ids[i], pairs.dataset[i].image, pairs.reports[i])
                    for i in chosen
                ],
            )
        title = f"{self._run.label}, seed {self._run.info.seed}, step {step} of {self._total_steps}"
        picture = contact_sheet.draw_sheet(title, rows, self._method.preprocess)
        path = self._run.folder / SHEETS / f"step-{step:06d}.png"
        self._write("a contact sheet", lambda: replace_file(path, picture.save))
        self._trackers.log_image("masks", picture, step)

    def _write(self, what: str, action: Callable[[], object]) -> None:
        state.write_or_stop(self._run.folder, what, action)


def epoch_line(row: Mapping[str, float], epochs: int, losses: Sequence[str]) -> str:
    """One line of 80 columns for an epoch; the learning rate is only in log.csv."""
    words = [f"epoch {row['epoch']:.0f}/{epochs}"]
    words += [f"{name} {row[name]:.2f}" for name in losses]
    if "r10" in row:
        words.append(f"R@10 {row['r10']:.2f} (chance {row['chance_r10']:.2f})")
    if "attention_entropy" in row:
        words.append(f"entropy {row['attention_entropy']:.2f}")
    words.append(f"{row['images_per_s']:.0f}/s, {row['seconds']:.0f} s")
    return "  ".join(words)


def _first_pairs(batch: Batch) -> Batch:
    """The first `MONITORED_PAIRS` pairs of a batch."""
    return Batch(
        batch.images[:MONITORED_PAIRS],
        batch.tokens[:MONITORED_PAIRS],
        batch.attention[:MONITORED_PAIRS],
        batch.ids[:MONITORED_PAIRS],
        batch.step,
    )


def _peak_memory_mib(device: torch.device) -> float:
    """Peak memory so far in MiB: of the GPU, or of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return process_peak_mib()


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A recipe for trackers: dotted keys; numbers stay numbers, everything else is text."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            found |= _flatten(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, int | float) else str(value)
    return found
