"""Every model on every task: small models with seeded weights on a few embedded images.

Which cells can run is derived from the cards, so that a new model or task is checked without being
listed; tests/baselines/unsupported.toml lists the cells that need more than the cards say.
"""

import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from g2dbench.cards import ModelCard, TaskCard
from g2dbench.data.store.memory import MemoryDataset
from g2dbench.data.synthetic.synthetic import CARD, generate
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.runner import evaluate
from g2dbench.model import Model
from g2dbench.registry import Registry
from g2dbench.result import Result
from g2dbench.sample import Sample
from g2dbench.system.machine import Machine
from g2dbench.task import Task, protocol_of
from support.models.factories import FACTORIES

UNSUPPORTED = Path(__file__).resolve().parents[2] / "baselines" / "unsupported.toml"
COUNT, MAX_TRAIN, SIDE = 30, 16, 64
"""Images from the start of the embedded data set; training images are among the first 16."""
SMALL = 64
"""Side of the input of models that take any."""
PROTOCOLS = {
    "cls": "prototype",
    "det": "fcos+fit.epochs=1+fit.min_steps_per_epoch=1+width=64+convolutions=1",
    "finetune": f"g2d+size={SMALL}+train.epochs=1",
    "seg": "dense-probe+fit.epochs=1+fit.min_steps_per_epoch=1",
}
"""Short settings of tasks whose default protocol is long; the others run their default."""


def small_cases() -> dict[str, str]:
    """Name of each model -> its first case in FACTORIES."""
    first: dict[str, str] = {}
    for case, (card, _) in FACTORIES.items():
        first.setdefault(card, case)
    return {
        card.name: first[card.name] for card in Registry().cards(ModelCard) if card.name in first
    }


def tasks() -> list[TaskCard]:
    """The registered tasks, in the order of a leaderboard's columns."""
    return sorted(Registry().cards(TaskCard), key=lambda card: card.order)


def why_unsupported(model: ModelCard, task: TaskCard) -> str:
    """A pattern of the reason why a model cannot run a task; "" if it can."""
    if not set(model.capabilities) & set(task.needs):
        offered = ", ".join(model.capabilities)
        return f"{task.name} needs a model that offers {' or '.join(task.needs)}; .* {offered}$"
    for cells in tomllib.loads(UNSUPPORTED.read_text(encoding="utf-8"))["cells"]:
        named = model.name in cells.get("models", ())
        other = "except" in cells and model.name not in cells["except"]
        if cells["task"] == task.name and (named or other):
            return str(cells["reason"])
    return ""


@cache
def embedded_images() -> MemoryDataset:
    """Embedded images with the findings for which every published classifier has an output."""
    findings = tuple(name for name in CARD.findings if name != "foreign object")
    samples = [_restricted(generate(index, SIDE), findings) for index in range(COUNT)]
    few = [each for at, each in enumerate(samples) if each.split != "train" or at < MAX_TRAIN]
    return MemoryDataset(few, replace(CARD, findings=findings), SIDE)


def _restricted(sample: Sample, findings: tuple[str, ...]) -> Sample:
    return replace(
        sample,
        labels={name: sample.labels[name] for name in findings},
        boxes=tuple(box for box in sample.boxes if box.finding in findings),
        masks={name: mask for name, mask in sample.masks.items() if name in findings},
    )


@contextmanager
def small_inputs(model: Model, side: int = SMALL) -> Iterator[None]:
    """A model that takes images of any size gets smaller ones, for speed."""
    before = model.preprocess
    if not getattr(model, "fixed_size", True) and before.size > side:
        model.preprocess = before.stretched(side)
    try:
        yield
    finally:
        model.preprocess = before


def run(model: Model, task: TaskCard, out: Path) -> Result:
    """The result of one cell, as `g2dbench eval` stores it below `out`."""
    module: Task = Registry().find(TaskCard, task.name).load()
    protocol, _ = protocol_of(module, PROTOCOLS.get(task.name))
    spec = CellSpec(model=model.card.name, task=task.name, data=CARD.name, protocol=protocol)
    machine = Machine(device=torch.device("cpu"), batch_size=8)
    with small_inputs(model):
        return evaluate(spec, model, module, embedded_images(), machine, out).result


def check(result: Result, reason: str) -> None:
    """A cell that can run has scores; another is unsupported, for this reason."""
    cell = f"{result.cell.model} on {result.cell.task}: {result.status}, {result.reason}"
    if reason:
        assert result.status == "unsupported", cell
        assert re.search(reason, result.reason or ""), cell
    else:
        assert result.status == "done", cell
        assert result.metric in result.scores, cell
        assert result.scores[result.metric].value == result.scores[result.metric].value, cell
