"""The identity of a cell: everything that can change its score, and its results folder.

docs/decisions/008-what-identifies-a-cell.md lists what is in it, what is not, and why.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import g2dbench
from g2dbench.cards import TaskCard
from g2dbench.data.splits import fractions
from g2dbench.dataset import LABEL_PREFIX, Dataset
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.fingerprint import fingerprint
from g2dbench.model import Model
from g2dbench.result import Cell
from g2dbench.system.source_digest import source_digest
from g2dbench.task import Task, check_fraction

ENGINE = "g2dbench.evaluation.runner"
"""Its imports are the code that every cell runs."""


@dataclass(frozen=True)
class CellData:
    """The data splits of one cell; `ids` of the sampled training images, and a `digest`.

    The digest is of the training ids, and of the validation ids if these are sampled too. details:
    the sampling policy and each finding's prevalence in the subset and in the whole training split.
    """

    train: Dataset
    valid: Dataset
    test: Dataset
    ids: tuple[str, ...]
    digest: str
    details: dict[str, Any] = field(default_factory=dict)


def cell_of(
    spec: CellSpec, label: str, model_seed: int | None, card: TaskCard, data: Dataset, protocol: str
) -> Cell:
    """The key of a result; label and model_seed are those of the loaded model."""
    return Cell(
        model=label,
        model_seed=model_seed,
        task=card.name,
        data=data.card.name,
        protocol=protocol,
        fraction=check_fraction(spec.fraction) if card.fits else 0.0,
        seed=spec.seed if card.fits else 0,
        subset_seed=spec.subset_seed if card.fits else 0,
        draw=spec.draw if card.fits else "covering",
        shots=spec.shots if card.fits else None,
        validation=spec.validation if card.fits else "full",
        limit=spec.limit,
        precision=spec.precision,
    )


def data_of(card: TaskCard, data: Dataset, cell: Cell) -> CellData:
    """The splits that the cell uses: sampled training images, validation and test images."""
    test = data.split("test")
    if cell.limit is not None:
        test = test.take(range(min(cell.limit, len(test))))
    valid, train = data.split("valid"), data.split("train")
    if not card.fits:
        return CellData(train.take([]), valid, test, (), "zero-shot")
    findings = [
        finding for finding in data.card.findings if f"{LABEL_PREFIX}{finding}" in data.table
    ]
    subset = _sample(train, cell, findings)
    digest = subset.digest
    if cell.validation == "budget":
        valid_subset = _sample(valid, cell, findings)
        valid = valid.take(valid_subset.indices)
        digest = hashlib.sha256(f"{digest} {valid_subset.digest}".encode()).hexdigest()
    sampled = train.take(subset.indices)
    details = {
        "draw": cell.draw,
        "patients": int(sampled.table["patient"].nunique()),
        "prevalence": fractions.prevalence(sampled.table, findings),
        "prevalence_before": fractions.prevalence(train.table, findings),
    }
    return CellData(sampled, valid, test, tuple(subset.ids), digest, details)


def _sample(data: Dataset, cell: Cell, findings: list[str]) -> fractions.Subset:
    if cell.shots is not None:
        return fractions.sample_shots(data, cell.shots, cell.subset_seed, findings, cell.draw)
    return fractions.sample_fraction(data, cell.fraction, cell.subset_seed, findings, cell.draw)


def identity_of(
    cell: Cell, model: Model, task: Task, data: Dataset, subset: str, settings: Any
) -> dict[str, Any]:
    """Everything that can change a score, as JSON values; it identifies a finished cell."""
    found = fingerprint(model)
    return identity_json(
        cell,
        task,
        weights=found.weights,
        model_settings=found.settings,
        model_code=found.code,
        data=data.fingerprint,
        subset=subset,
        protocol=settings_of(settings),
        version=g2dbench.__version__,
    )


def identity_json(cell: Cell, task: Task, **others: Any) -> dict[str, Any]:
    """The identity from its parts; their order does not count."""
    code = source_digest((ENGINE, module_of(task)))
    return {"cell": cell.model_dump(), "task_code": code, **others}


def module_of(task: Task) -> str:
    """The name of the task's module, or of its class's module if the task is an object."""
    return str(getattr(task, "__name__", type(task).__module__))


def model_facts(model: Model) -> dict[str, Any]:
    """What tables say of a model beside its score: card, parameters, pre-training data sets."""
    return {
        "card": model.card.name,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "trained_on": list(model.card.trained_on),
    }


def folder_of(out: Path, cell: Cell, identity: dict[str, Any]) -> Path:
    """The folder of the cell's files; its name ends in a digest of the identity."""
    text = json.dumps(identity, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    share = "zero" if cell.fraction == 0 else f"f{cell.fraction:g}"
    if cell.shots is not None:
        share = f"k{cell.shots}"
    seeds = f"s{cell.seed}" if cell.model_seed is None else f"m{cell.model_seed}-s{cell.seed}"
    name = f"{cell.protocol}-{share}-{seeds}-{digest}"
    return out / cell.task / _safe(cell.data) / _safe(cell.model) / _safe(name)


def settings_of(settings: Any) -> dict[str, Any]:
    """A protocol's settings as plain JSON values."""
    return dict(json.loads(json.dumps(dataclasses.asdict(settings), default=str)))


def _safe(name: str) -> str:
    """A folder's name: never hidden, and never the folder itself or its parent."""
    safe = "".join(letter if letter.isalnum() or letter in "+-_.=" else "-" for letter in name)
    return f"-{safe[1:]}" if safe.startswith(".") else safe or "-"
