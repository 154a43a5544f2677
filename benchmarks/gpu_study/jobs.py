"""What a worker process does: train one model, or evaluate it on one cell.

Each job gets plain values and returns rows for `results.jsonl`; data and runs stay in the folder.
"""

import csv
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.gpu_study.masks import mask_precision
from benchmarks.gpu_study.plan import ARMS, CELLS, PRECISION, SCALES, UNTRAINED, Scale, Training
from benchmarks.gpu_study.told import told_method
from benchmarks.gpu_study.truth import Truth, stored_mask_bits
from g2dbench.cards import MethodCard, TaskCard
from g2dbench.data.prepare import open_or_prepare
from g2dbench.data.store.request import GenerationSettings
from g2dbench.data.store.store import Store
from g2dbench.evaluation import runner
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.model_reference import resolve
from g2dbench.pretrained.text.tokenizer import make_tokenizer
from g2dbench.progress import quiet
from g2dbench.recipes.recipe import Recipe
from g2dbench.registry import Registry
from g2dbench.runs import folder as runs
from g2dbench.system.machine import Machine
from g2dbench.training import fit
from g2dbench.training.batches.pair_loader import Pairs, training_pairs
from g2dbench.training.distributed import make_accelerator, start_run
from g2dbench.training.monitoring.monitor import MonitorSettings

Row = dict[str, Any]
"""A line of `results.jsonl`: scale, arm, seed, cell, and what was measured."""

TRAIN = "train"
"""The cell of a training's own row."""

_LOGGED = ("r10", "chance_r10", "attention_entropy", "mask_overlap", "images_per_s")


@dataclass(frozen=True)
class Place:
    """Where the study lives, and how its trainings and evaluations run."""

    folder: Path
    device: str
    workers: int

    def machine(self, precision: str = "auto") -> Machine:
        """The machine of a job."""
        torch.set_num_threads(1)
        return Machine.choose(self.device, precision, workers=self.workers, batch_size=64)

    def run(self, training: Training) -> Path:
        """The run folder of a training."""
        name = _folder_name(f"{training.scale}-{training.arm}-s{training.seed}")
        return self.folder / "runs" / name


def store(scale: Scale, folder: Path, part: str, workers: int = 0) -> Store:
    """The drawn radiographs of a scale: `part` is "pretrain" or "bench", of other patients."""
    count, seed = (scale.drawn, 0) if part == "pretrain" else (scale.bench, 1)
    return open_or_prepare(
        "synthetic", None, folder / "data",
        progress=quiet, registry=Registry(), size=scale.size, workers=workers,
        generation=GenerationSettings(seed=seed, count=count),
    )  # fmt: skip


def train(training: Training, place: Place) -> Row:
    """Train the model of an arm, or write the untrained one; returns its row."""
    began = time.perf_counter()
    scale, arm, machine = SCALES[training.scale], ARMS[training.arm], place.machine()
    data, folder, registry = store(scale, place.folder, "pretrain"), place.run(training), Registry()
    pairs = _pairs(scale, data)
    recipe = scale.recipe(len(pairs), arm.changes)
    if training.arm == UNTRAINED:
        _untrained(recipe, pairs, data, folder, training.seed, machine, registry)
        return _row(training, TRAIN, pairs=len(pairs), seconds=time.perf_counter() - began)
    with told_method(
        arm.told, _truth(scale, pairs, training, machine, place) if arm.told else None
    ):
        fit.fit(
            recipe, data, folder,
            seed=training.seed, machine=machine, registry=registry, echo=lambda line: None,
            resume=(folder / runs.RUN_FILE).is_file(),
            monitoring=MonitorSettings(every=0, sheet_every=None),
        )  # fmt: skip
    logged = {name: value for name, value in _last_log_row(folder).items() if name in _LOGGED}
    seconds = time.perf_counter() - began
    return _row(training, TRAIN, pairs=len(pairs), seconds=seconds, **logged)


def evaluate(training: Training, cell_name: str, place: Place) -> Row:
    """Evaluate a trained model on a cell, or measure its masks; returns its row."""
    began = time.perf_counter()
    scale, registry = SCALES[training.scale], Registry()
    data = store(scale, place.folder, "bench")
    model = resolve(str(place.run(training)), registry).load(registry, training.seed)
    if cell_name == PRECISION:
        test = data.split("test")
        found = mask_precision(model, test.take(range(min(scale.limit, len(test)))))
        return _row(training, cell_name, masks=found, seconds=time.perf_counter() - began)
    cell, machine = CELLS[cell_name], replace(place.machine("fp32"), workers=0)
    task = registry.find(TaskCard, cell.task).load()
    spec = CellSpec(
        model=str(place.run(training)), label=training.arm, task=cell.task, data=data.card.name,
        protocol=cell.protocol, fraction=min(1.0, cell.labels * scale.fraction), seed=training.seed,
        limit=scale.limit,
    )  # fmt: skip
    out = place.folder / "results" / _folder_name(training.scale) / _folder_name(cell_name)
    with _changed_protocol(task, cell_name):
        outcome = runner.evaluate(spec, model, task, data, machine, out)
    result = outcome.result
    if result.main is None:
        return _row(training, cell_name, failed=result.reason)
    return _row(
        training, cell_name,
        metric=result.metric, value=result.main.value, low=result.main.low, high=result.main.high,
        labelled=result.counts.get("train", 0), seconds=time.perf_counter() - began,
    )  # fmt: skip


@contextmanager
def _changed_protocol(task: Any, cell_name: str) -> Iterator[None]:
    """Within the block, the cell's protocol has the cell's findings and changes."""
    cell = CELLS[cell_name]
    changes = dict(cell.changes) | ({"findings": cell.findings} if cell.findings else {})
    chosen = replace(task.PROTOCOLS[cell.protocol], **changes)
    with mock.patch.dict(task.PROTOCOLS, {cell.protocol: chosen}):
        yield


def _pairs(scale: Scale, data: Store) -> Pairs:
    recipe = scale.recipe(scale.batch)
    return training_pairs(data, recipe.data.views, scale.batch, recipe.data.cleaning)


def _truth(scale: Scale, pairs: Pairs, training: Training, machine: Machine, place: Place) -> Truth:
    bits = stored_mask_bits(pairs.dataset, place.folder / f"truth-{scale.size}-{scale.drawn}.npy")
    return Truth(pairs, bits, scale.batch, training.seed, machine.device)


def _untrained(
    recipe: Recipe,
    pairs: Pairs,
    data: Store,
    folder: Path,
    seed: int,
    machine: Machine,
    registry: Registry,
) -> None:
    """Write the run folder of a model that was not trained, unless it is there."""
    if (folder / runs.RUN_FILE).is_file() and runs.read_info(folder).status == "complete":
        return
    tokenizer = make_tokenizer(recipe.model.get("text", {}), pairs.reports)
    method = registry.find(MethodCard, recipe.method).load().build(recipe.model, tokenizer, seed)
    info = runs.new_run_info(
        recipe, data, method, seed, len(pairs),
        device=str(machine.device), precision=machine.precision,
    )  # fmt: skip
    accelerator = make_accelerator(machine.device, machine.precision, "ddp")
    with ExitStack() as held:
        start_run(info, folder, method, accelerator, held).finish(method.state_dict())


def _folder_name(text: str) -> str:
    return text.replace(" ", "_").replace(",", "")


def _last_log_row(folder: Path) -> dict[str, float]:
    with (folder / runs.LOG_FILE).open(encoding="utf-8") as file:
        last = list(csv.DictReader(file))[-1]
    return {name: float(value) for name, value in last.items() if value}


def _row(training: Training, cell: str, **measured: object) -> Row:
    where: Mapping[str, object] = {
        "scale": training.scale, "arm": training.arm, "seed": training.seed, "cell": cell
    }  # fmt: skip
    return {**where, **measured}
