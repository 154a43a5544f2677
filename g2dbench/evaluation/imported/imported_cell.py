"""Makes an ordinary cell of predictions that were made elsewhere.

The cell has the same folder, files, scores and intervals as one that was evaluated here, and is
marked: `details.imported` is true, and its code is "imported". What cannot be checked is the
author's statement: which model it was, and that it was trained on the stated subset.
"""

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pandas as pd

import g2dbench
from g2dbench.dataset import Dataset
from g2dbench.errors import BadData, Misuse
from g2dbench.evaluation.cell_folder import (
    finished,
    publish,
    reserved,
    store_predictions,
    store_subset,
)
from g2dbench.evaluation.cell_identity import (
    cell_of,
    data_of,
    folder_of,
    identity_json,
    settings_of,
)
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.imported.mask_images import pictures_of
from g2dbench.evaluation.outcome import Outcome, provenance
from g2dbench.result import PREDICTIONS_FILE, Cell, Result, save, sealed
from g2dbench.system.files import file_digest
from g2dbench.system.machine import Machine
from g2dbench.task import Run, Task, main_metric, protocol_of

CODE = "imported"


def import_cell(path: Path, spec: CellSpec, task: Task, data: Dataset, out: Path) -> Outcome:
    """Read a file of predictions, check and score it, and store the result.

    spec.model: the label. Misuse if the task reads no files; BadData for every fault of the file.
    The same file again gives the stored result.
    """
    read = getattr(task, "read_predictions", None)
    if read is None:
        raise Misuse(
            f"the task {spec.task!r} cannot import predictions: it has no reader for files"
        )
    name, settings = protocol_of(task, spec.protocol)
    cell = cell_of(spec, spec.model, None, task.CARD, data, name)
    parts, source = data_of(task.CARD, data, cell), _digest(path)
    identity = _identity(cell, task, data, parts.digest, settings, source)
    folder = folder_of(out, cell, identity)
    with reserved(folder, out) as partial:
        if (before := finished(folder)) is not None:
            return Outcome(before, folder, reused=True)
        began, machine = time.perf_counter(), Machine.choose("cpu", spec.precision)
        run = Run(
            train=parts.train, valid=parts.valid, test=parts.test, protocol=settings,
            machine=machine, seed=cell.seed, fraction=cell.fraction,
        )  # fmt: skip
        table: pd.DataFrame = read(path, run)
        digest = store_predictions(table, partial)
        store_subset(parts.digest, parts.ids, partial)
        scores = task.score(pd.read_parquet(partial / PREDICTIONS_FILE), settings)
        metric = main_metric(task, data.card)
        if metric not in scores or scores[metric].value != scores[metric].value:
            raise BadData(f"{path}: the main score {metric} is undefined on these predictions")
        result = Result(
            cell=cell,
            status="done",
            metric=metric,
            scores=scores,
            counts={n: len(getattr(parts, n)) for n in ("train", "valid", "test")},
            details={"imported": True, "file": path.name},
            provenance=provenance(
                machine, weights=identity["weights"], source=path.name, data=data.fingerprint,
                subset=parts.digest, predictions=digest, seconds=time.perf_counter() - began,
                config={
                    "image_size": data.size,
                    **{k: identity[k] for k in _REPORTED},
                },
            ),
        )  # fmt: skip
        result = sealed(result)
        save(result, partial)
        publish(partial, folder)
    return Outcome(result, folder, reused=False)


def _digest(path: Path) -> str:
    """SHA-256 of a file; of a folder, or a table that names PNGs, also of all these PNGs."""
    pictures = pictures_of(path)
    if path.is_file() and not pictures:
        return file_digest(path)
    files = [*([path] if path.is_file() else []), *pictures]
    lines = [f"{os.path.relpath(file, path.parent)} {file_digest(file)}" for file in files]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


_REPORTED = ("protocol", "model_settings", "model_code", "task_code")


def _identity(
    cell: Cell, task: Task, data: Dataset, subset: str, settings: Any, source: str
) -> dict[str, Any]:
    """As of an evaluated cell; the weights are not known, so the label stands for them."""
    return identity_json(
        cell,
        task,
        weights=hashlib.sha256(f"imported {cell.model}".encode()).hexdigest(),
        model_settings={"file": source},
        model_code=CODE,
        data=data.fingerprint,
        subset=subset,
        protocol=settings_of(settings),
        version=g2dbench.__version__,
    )
