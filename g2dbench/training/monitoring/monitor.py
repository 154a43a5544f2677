"""What is watched while a method trains, besides the held-out pairs.

Every N steps a closer look at few pairs: `steps.csv`. At the end of an epoch, or every N steps, a
contact sheet. Signs of failure are told when they show. All of it goes to the trackers too.
Nothing here changes weights, buffers or random numbers: a run ends in the same bits without it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from accelerate import Accelerator

from g2dbench.figures import contact_sheet
from g2dbench.figures.contact_sheet import Subject
from g2dbench.method import Batch, Method
from g2dbench.model import Embeds, Shows
from g2dbench.runs import state
from g2dbench.runs.folder import RunFolder
from g2dbench.runs.log import Log, Row
from g2dbench.system.files import replace_file
from g2dbench.system.peak_memory import process_peak_mib
from g2dbench.training.batches.source import Batches, TrainingPairs
from g2dbench.training.monitoring import trackers
from g2dbench.training.monitoring.gradient_shares import gradient_shares
from g2dbench.training.monitoring.held_out import Heldout, evaluated, mean_recalls
from g2dbench.training.monitoring.warnings import WarningLog

STEPS_FILE, SHEETS = "steps.csv", "sheets"
PAIRS = 32
"""Pairs of a batch that a closer look takes, so that its cost does not grow with the batch."""

SHOWN = 6
"""Rows of a contact sheet."""

_EARLY = 1000  # steps after which signs are told at the latest


@dataclass(frozen=True)
class Watching:
    """How closely a training is watched; nothing of it changes what is trained.

    track: trackers by accelerate's name. every: steps between two closer looks, 0 for none.
    sheet_every: steps between two contact sheets, 0 for one per epoch, None for none.
    """

    track: tuple[str, ...] = ()
    every: int = 50
    sheet_every: int | None = 0

    def __post_init__(self) -> None:
        trackers.check(self.track)

    def from_afar(self) -> "Watching":
        """Without looks and sheets: one process cannot run a model whose weights are sharded."""
        return replace(self, every=0, sheet_every=None)


class Watch:
    """Watches one training; the loop calls `step`, `epoch` and `close`."""

    def __init__(
        self,
        watching: Watching,
        run: RunFolder,
        method: Method,
        pairs: TrainingPairs,
        loader: Batches,
        heldout: Heldout | None,
        looks: Log,
        accelerator: Accelerator,
        echo: Callable[[str], object],
    ) -> None:
        self._watching, self._run, self._method = watching, run, method
        self._pairs, self._loader, self._heldout = pairs, loader, heldout
        self._accelerator, self._echo = accelerator, echo
        self._optim = run.info.recipe.optim
        self._steps = looks
        self._trackers = trackers.Trackers(watching.track, echo)
        self._warnings = WarningLog(method.warning_rules)
        self._images, self._since = 0, time.perf_counter()

    def start(self, step: int, epochs: Sequence[Mapping[str, Any]]) -> None:
        """Begin, or go on after `step` steps whose looks and epochs are known: nothing twice."""
        if not self._accelerator.is_main_process:
            return
        # The look at an epoch's last step comes before the epoch's own row.
        for row in sorted([*self._steps.rows, *epochs], key=lambda row: int(row["step"])):
            self._news({name: float(value) for name, value in row.items()})
        name = f"{self._run.label}-s{self._run.info.seed}"
        config = _flat(self._run.info.recipe.model_dump())
        self._trackers.start(self._run.folder, name, config, step)
        self._images, self._since = 0, time.perf_counter()

    def step(self, batch: Batch, losses: Mapping[str, float]) -> None:
        """After every optimiser step: its batch and its losses."""
        self._images += len(batch.images) * self._accelerator.num_processes
        if not self._accelerator.is_main_process:
            return
        done = batch.step + 1
        if self._watching.every and done % self._watching.every == 0:
            self._look(batch, losses)
        if self._watching.sheet_every and done % self._watching.sheet_every == 0:
            self._draw(done)

    def epoch(self, row: Mapping[str, float]) -> None:
        """After an epoch: its row of log.csv."""
        if not self._accelerator.is_main_process:
            return
        step = int(row["step"])
        self._trackers.log({f"epoch/{name}": value for name, value in row.items()}, step)
        for sentence in self._news(row):
            self._echo(sentence)
        if self._watching.sheet_every == 0:
            self._draw(step)

    def close(self) -> None:
        """Let the trackers finish."""
        self._trackers.close()

    def _look(self, batch: Batch, losses: Mapping[str, float]) -> None:
        seconds = time.perf_counter() - self._since
        row = {
            "step": batch.step + 1,
            "epoch": batch.step // self._loader.steps + 1,
            "lr": self._optim.lr_at(batch.step, self._total),
            **losses,
            **self._closer(_first(batch)),
            "images_per_s": round(self._images / seconds, 2),
            "memory_mib": round(_memory(batch.images.device)),
        }
        self._write("the log of steps", lambda: self._steps.add(row))
        self._trackers.log({f"step/{name}": value for name, value in row.items()}, batch.step + 1)
        for sentence in self._news(row):
            self._echo(sentence)
        self._images, self._since = 0, time.perf_counter()

    def _closer(self, few: Batch) -> Row:
        """Retrieval within these pairs, gradients, and the method's monitors."""
        cast = self._accelerator.autocast
        with evaluated(self._method), cast():
            found = self._retrieval(few)
            found |= self._method.monitors(replace(self._probe, step=few.step))
        # Gathered negatives would wait for other processes, which do not look.
        if self._accelerator.num_processes == 1:
            scaler = self._accelerator.scaler
            scale = 1.0 if scaler is None else scaler.get_scale()
            found |= gradient_shares(self._method, few, cast, scale)
        return found

    def _retrieval(self, few: Batch) -> Row:
        model = self._method.as_model()
        if not isinstance(model, Embeds):
            return {}
        groups = self._loader.words(few.ids)
        texts = model.embed_texts([str(report) for _, report in groups])
        found = mean_recalls(model.embed_images(few.images), texts, groups)
        return {f"batch_{name}": value for name, value in found.items()}

    @cached_property
    def _probe(self) -> Batch:
        """The pairs that the monitors see: always the same, and held out where there are any."""
        loader = self._heldout.loader if self._heldout else self._loader
        return _first(next(iter(loader.plain())))

    def _news(self, row: Mapping[str, float]) -> list[str]:
        return self._warnings.look(row) if row["step"] >= self._settled else []

    @property
    def _total(self) -> int:
        return self._optim.epochs * self._loader.steps

    @property
    def _settled(self) -> int:
        """The step from which signs mean something: every training begins at chance."""
        return max(self._optim.warmup(self._total), min(self._total // 4, _EARLY))

    def _draw(self, step: int) -> None:
        """A sheet of the probe's first images, where the method has something to show."""
        model = self._method.as_model()
        if not isinstance(model, Shows):
            return
        pairs = (self._heldout.pairs if self._heldout else self._pairs).first(SHOWN)
        chosen = range(len(pairs))
        with evaluated(self._method), self._accelerator.autocast():
            rows = contact_sheet.rows(
                model,
                [Subject(pairs.ids[i], pairs.dataset[i].image, pairs.reports[i]) for i in chosen],
            )
        title = f"{self._run.label}, seed {self._run.info.seed}, step {step} of {self._total}"
        picture = contact_sheet.draw(title, rows, self._method.preprocess)
        path = self._run.folder / SHEETS / f"step-{step:06d}.png"
        self._write("a contact sheet", lambda: replace_file(path, picture.save))
        self._trackers.show("masks", picture, step)

    def _write(self, what: str, action: Callable[[], object]) -> None:
        state.write(self._run.folder, what, action)


def line(row: Mapping[str, float], epochs: int, losses: Sequence[str]) -> str:
    """An epoch of the log in one line of 80 columns; the learning rate is in the log alone."""
    words = [f"epoch {row['epoch']:.0f}/{epochs}"]
    words += [f"{name} {row[name]:.2f}" for name in losses]
    if "r10" in row:
        words.append(f"R@10 {row['r10']:.2f} (chance {row['chance_r10']:.2f})")
    if "attention_entropy" in row:
        words.append(f"entropy {row['attention_entropy']:.2f}")
    words.append(f"{row['images_per_s']:.0f}/s, {row['seconds']:.0f} s")
    return "  ".join(words)


def _first(batch: Batch) -> Batch:
    """The first pairs of a batch."""
    return Batch(
        batch.images[:PAIRS],
        batch.tokens[:PAIRS],
        batch.attention[:PAIRS],
        batch.ids[:PAIRS],
        batch.step,
    )


def _memory(device: torch.device) -> float:
    """The highest so far, in MiB: of the GPU's memory, or else of the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return process_peak_mib()


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A recipe as trackers keep it: dotted keys; numbers and text, all else as text."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, int | float) else str(value)
    return found
