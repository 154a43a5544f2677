"""Evaluate one cell: draw the subset, predict, keep the predictions, score them, write the result.

A finished cell is a folder that is never changed by a later run. Its name ends in a digest of all
that decides the outcome (cell, weights, data, subset, protocol), so that a cell is run again
exactly when one of these has changed, and results of changed settings never mix.
"""

import dataclasses
import datetime
import hashlib
import json
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import g2dbench
from g2dbench.cards import TaskCard
from g2dbench.data.splits import fractions
from g2dbench.dataset import LABEL_PREFIX, Dataset
from g2dbench.errors import BadData, G2DBenchError, Unsupported
from g2dbench.model import Model, capabilities
from g2dbench.progress import Progress, quiet
from g2dbench.result import (
    PREDICTIONS_FILE,
    RESULT_FILE,
    SUBSET_FILE,
    Cell,
    Provenance,
    Result,
    load,
    save,
)
from g2dbench.system.environment import hardware, package_versions, source_state
from g2dbench.system.files import file_digest, replace_file
from g2dbench.system.peak_memory import PeakMemory
from g2dbench.task import Run, Task, check_fraction, protocol_of


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a whole evaluation shares: where results go and how the machine is used."""

    out: Path
    device: torch.device
    precision: str = "fp32"
    batch_size: int = 32
    subset_seed: int = 0
    limit: int | None = None
    rerun: bool = False
    progress: Progress = quiet


@dataclass(frozen=True)
class Outcome:
    """A cell's result, where it lies, and whether it was on disk already."""

    result: Result
    folder: Path
    reused: bool


def evaluate(
    model: Model,
    task: Task,
    data: Dataset,
    settings: Settings,
    *,
    protocol: str | None = None,
    fraction: float = 1.0,
    seed: int = 0,
) -> Outcome:
    """Run one cell, or return it from disk if nothing that decides it has changed.

    A model without the capability gives status "unsupported", an error while predicting "failed",
    both with the reason and both written down.
    """
    name, config = protocol_of(task, protocol)
    cell = _cell(model, task.CARD, data, name, settings, fraction, seed)
    parts = _parts(task.CARD, data, cell)
    folder = _folder(settings.out, cell, model, data, parts.digest, config)
    if not settings.rerun and (found := _finished(folder)) is not None:
        return Outcome(found, folder, reused=True)
    result = _run(model, task, cell, parts, config, settings, folder)
    save(result, folder)
    return Outcome(result, folder, reused=False)


@dataclass(frozen=True)
class _Parts:
    train: Dataset
    valid: Dataset
    test: Dataset
    ids: tuple[str, ...]
    digest: str


def _cell(
    model: Model,
    card: TaskCard,
    data: Dataset,
    protocol: str,
    settings: Settings,
    fraction: float,
    seed: int,
) -> Cell:
    return Cell(
        model=model.identity.label,
        model_seed=model.identity.seed,
        task=card.name,
        data=data.card.name,
        protocol=protocol,
        fraction=check_fraction(fraction) if card.fits else 0.0,
        seed=seed if card.fits else 0,
        subset_seed=settings.subset_seed if card.fits else 0,
        limit=settings.limit,
    )


def _parts(card: TaskCard, data: Dataset, cell: Cell) -> _Parts:
    test = data.split("test")
    if cell.limit is not None:
        test = test.take(range(min(cell.limit, len(test))))
    valid, train = data.split("valid"), data.split("train")
    if not card.fits:
        return _Parts(train.take([]), valid, test, (), "zero-shot")
    findings = [
        finding for finding in data.card.findings if f"{LABEL_PREFIX}{finding}" in data.table
    ]
    subset = fractions.draw(train, cell.fraction, cell.subset_seed, findings=findings)
    return _Parts(train.take(subset.indices), valid, test, tuple(subset.ids), subset.digest)


def _folder(out: Path, cell: Cell, model: Model, data: Dataset, subset: str, config: Any) -> Path:
    identity = {
        "cell": cell.model_dump(),
        "weights": model.identity.digest,
        "data": data.fingerprint,
        "subset": subset,
        "protocol": settings_of(config),
    }
    text = json.dumps(identity, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    share = "zero" if cell.fraction == 0 else f"f{cell.fraction:g}"
    seeds = f"s{cell.seed}" if cell.model_seed is None else f"m{cell.model_seed}-s{cell.seed}"
    name = f"{cell.protocol}-{share}-{seeds}-{digest}"
    return out / cell.task / _safe(cell.data) / _safe(cell.model) / _safe(name)


def settings_of(config: Any) -> dict[str, Any]:
    """A protocol's settings as plain JSON values."""
    return dict(json.loads(json.dumps(dataclasses.asdict(config), default=str)))


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "+-_.=" else "-" for letter in name)


def _finished(folder: Path) -> Result | None:
    path = folder / RESULT_FILE
    if not path.is_file():
        return None
    result = load(path)
    return result if result.status == "done" else None


def _run(
    model: Model,
    task: Task,
    cell: Cell,
    parts: _Parts,
    config: Any,
    settings: Settings,
    folder: Path,
) -> Result:
    began = time.perf_counter()
    status, reason, scores, counts, digest = "done", None, {}, {}, None
    with PeakMemory(settings.device) as memory:
        try:
            _check(task.CARD, model, parts.test)
            predictions = _predict(model, task, cell, parts, config, settings, folder)
            digest = store_predictions(predictions, folder)
            _store_subset(parts, folder)
            stored = pd.read_parquet(folder / PREDICTIONS_FILE)
            scores = task.score(stored, config)
            counts = {"train": len(parts.train), "valid": len(parts.valid), "test": len(parts.test)}
        except Unsupported as error:
            status, reason = "unsupported", str(error)
        except G2DBenchError as error:
            status, reason = "failed", str(error)
        except (RuntimeError, MemoryError) as error:
            status, reason = "failed", _unexpected(error, folder)
    return Result(
        cell=cell,
        status=status,  # type: ignore[arg-type]
        reason=reason,
        metric=task.CARD.metric,
        scores=scores,
        counts=counts,
        provenance=collect(
            weights=model.identity.digest,
            source=model.identity.source,
            data=parts.test.fingerprint,
            subset=parts.digest,
            predictions=digest,
            config={"protocol": settings_of(config), "batch_size": settings.batch_size},
            device=settings.device,
            precision=settings.precision,
            seconds=time.perf_counter() - began,
            peak_memory_mib=memory.mib,
        ),
    )


def _check(card: TaskCard, model: Model, test: Dataset) -> None:
    offered = [kind for kind in card.annotations if kind in test.card.offers]
    if not offered:
        raise Unsupported(
            f"{card.name} needs {' or '.join(card.annotations)}; "
            f"{test.card.name} offers {', '.join(test.card.offers)}"
        )
    able = capabilities(model)
    if not set(card.needs) & set(able):
        raise Unsupported(
            f"{card.name} needs a model that {' or '.join(card.needs)}; "
            f"{model.identity.label} {', '.join(able) or 'can do nothing'}"
        )


def _predict(
    model: Model,
    task: Task,
    cell: Cell,
    parts: _Parts,
    config: Any,
    settings: Settings,
    folder: Path,
) -> pd.DataFrame:
    run = Run(
        train=parts.train,
        valid=parts.valid,
        test=parts.test,
        protocol=config,
        device=settings.device,
        precision=settings.precision,
        batch_size=settings.batch_size,
        seed=cell.seed,
        fraction=cell.fraction,
        folder=folder,
        progress=settings.progress,
    )
    predictions = task.predict(model.to(settings.device).eval(), run)
    missing = {"id", "patient"} - set(predictions.columns)
    if missing or predictions.empty:
        raise BadData(
            f"task {cell.task} returned no usable predictions (missing: {missing or '-'})"
        )
    return predictions


def store_predictions(predictions: pd.DataFrame, folder: Path) -> str:
    """Write predictions.parquet atomically; returns its SHA-256."""
    path = folder / PREDICTIONS_FILE
    replace_file(path, lambda temporary: predictions.to_parquet(temporary, index=False))
    return file_digest(path)


def _store_subset(parts: _Parts, folder: Path) -> None:
    text = json.dumps({"digest": parts.digest, "ids": parts.ids}, indent=0)
    replace_file(folder / SUBSET_FILE, lambda temporary: temporary.write_text(text))


def _unexpected(error: BaseException, folder: Path) -> str:
    text = "".join(traceback.format_exception(error))
    path = folder / "error.txt"
    replace_file(path, lambda temporary: temporary.write_text(text))
    return f"{type(error).__name__}: {error} (the traceback is in {path.name})"


def collect(*, device: torch.device, **known: Any) -> Provenance:
    """The provenance of this process, now."""
    commit, dirty = source_state()
    return Provenance(
        version=g2dbench.__version__,
        commit=commit,
        dirty=dirty,
        packages=package_versions(),
        hardware=hardware(device),
        device=str(device),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **known,
    )
