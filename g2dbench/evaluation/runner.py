"""Runs one cell: sample the subset, predict, store the predictions, score them, write the result.

A finished cell is a folder that later runs never change. Its name ends in a digest of everything
that determines the score (docs/decisions/008-what-identifies-a-cell.md). So a cell is run again if
and only if one of these has changed, and results of different settings never mix.
"""

import dataclasses
import math
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from g2dbench.cards import TaskCard
from g2dbench.dataset import Dataset
from g2dbench.errors import BadData, G2DBenchError, Unsupported
from g2dbench.evaluation.cell_folder import (
    CellStore,
    FolderAlone,
    finished,
    publish,
    reserved,
    store_predictions,
    store_subset,
)
from g2dbench.evaluation.cell_identity import (
    CellData,
    cell_of,
    data_of,
    folder_of,
    identity_of,
    model_facts,
    module_of,
)
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.failure import describe_failure, write_traceback
from g2dbench.evaluation.heads.saved_head import HEAD_FILE
from g2dbench.evaluation.outcome import Outcome, not_run, provenance
from g2dbench.evaluation.prompts import SENSITIVITY, with_prompts
from g2dbench.evaluation.workbench import Workbench
from g2dbench.model import Model, capabilities, missing_capability
from g2dbench.result import (
    PREDICTIONS_FILE,
    Cell,
    Provenance,
    Result,
    Score,
    plain_json,
    save,
    sealed,
)
from g2dbench.system.device import AUTO
from g2dbench.system.files import full_disk
from g2dbench.system.machine import Machine
from g2dbench.system.peak_memory import PeakMemory
from g2dbench.task import EncodingCost, Run, Task, main_metric

_FOLDER_ALONE = FolderAlone()


def run_cell(
    spec: CellSpec,
    bench: Workbench,
    machine: Machine,
    out: Path,
    rerun: bool = False,
    save_heads: bool = False,
    store: CellStore = _FOLDER_ALONE,
) -> Outcome:
    """Load what a spec names and evaluate it; if the model cannot be loaded, the cell fails.

    The precision "auto" of a spec becomes that of the machine.

    Raises Misuse or BadData if the task or the data set is not available.
    """
    began = time.perf_counter()
    if spec.precision == AUTO:
        spec = spec.model_copy(update={"precision": machine.precision})
    task, data = bench.task(spec.task), bench.dataset(spec)
    try:
        model = bench.model(spec)
    except Exception as error:  # a plug-in may raise anything
        known = isinstance(error, G2DBenchError)
        reason = str(error) if known else describe_failure(error, ())
        return not_run(spec, task, data, machine, f"the model cannot be loaded: {reason}")
    loading = time.perf_counter() - began
    return evaluate(spec, model, task, data, machine, out, rerun, save_heads, loading, store)


def evaluate(
    spec: CellSpec,
    model: Model,
    task: Task,
    data: Dataset,
    machine: Machine,
    out: Path,
    rerun: bool = False,
    save_heads: bool = False,
    loading: float = 0.0,
    store: CellStore = _FOLDER_ALONE,
) -> Outcome:
    """Evaluate a loaded model on a loaded data set, or return the stored result if nothing changed.

    save_heads: store the fitted head too; a finished cell without one is then run again. loading:
    seconds that loading took, for plans. store: keeps cells outside `out` too.

    The spec's precision overrides the machine's. A model that lacks a capability gives the status
    "unsupported", an error while predicting or scoring "failed"; both are stored with the reason.
    """
    machine = dataclasses.replace(machine, precision=spec.precision)
    name, settings = with_prompts(task, spec.protocol, spec.prompts)
    label = spec.label or model.identity.label
    cell = cell_of(spec, label, model.identity.seed, task.CARD, data, name)
    parts = data_of(task.CARD, data, cell)
    identity = identity_of(cell, model, task, data, parts.digest, settings)
    folder = folder_of(out, cell, identity)
    with reserved(folder, out) as partial:
        store.fetch(folder)
        lacks_head = save_heads and hasattr(task, "apply") and not (folder / HEAD_FILE).is_file()
        before = finished(folder)
        lacks_spread = spec.prompt_sensitivity and not (before and SENSITIVITY in before.details)
        if before is not None and not (rerun or lacks_head or lacks_spread):
            store.add(folder)
            return Outcome(before, folder, reused=True)
        command = spec.command(data.size, machine.batch_size)
        extras = {"save_heads": save_heads, "prompt_sensitivity": spec.prompt_sensitivity}
        run = _CellRun(
            cell, model, task, parts, settings, machine, partial, identity, command, extras, loading
        )
        result = sealed(run.run())
        save(result, partial)
        if before is not None and result.status != "done":
            shutil.rmtree(partial)  # a finished cell is never replaced by a failed one
            return Outcome(result, None, reused=False)
        publish(partial, folder)
        store.replace(folder)
    return Outcome(result, folder, reused=False)


@dataclass(frozen=True)
class _CellRun:
    """One cell with everything that is needed to run it."""

    cell: Cell
    model: Model
    task: Task
    parts: CellData
    settings: Any
    machine: Machine
    folder: Path
    identity: dict[str, Any]
    command: list[str]
    extras: dict[str, bool]
    loading: float
    details: dict[str, Any] = field(default_factory=dict)
    encoding: EncodingCost = field(default_factory=EncodingCost)

    @property
    def _metric(self) -> str:
        return main_metric(self.task, self.parts.test.card)

    def run(self) -> Result:
        """Predict and score; an error becomes the cell's result."""
        began = time.perf_counter()
        status, reason, scores, counts, digest = "done", None, {}, {}, None
        with PeakMemory(self.machine.device) as memory:
            try:
                _check(self.task.CARD, self.model, self.parts.test)
                digest = self._predict()
                scores, counts = self._score(), self._counts()
            except Unsupported as error:
                status, reason = "unsupported", str(error)
            except G2DBenchError as error:
                status, reason = "failed", str(error)
            except Exception as error:  # a plug-in may raise anything
                if full_disk(error) is not None:  # every later cell would fail too
                    raise
                status, reason = "failed", self._unexpected(error)
        return Result(
            cell=self.cell,
            status=status,  # type: ignore[arg-type]
            reason=reason,
            metric=self._metric,
            scores=scores,
            counts=counts,
            details=plain_json({"subset": self.parts.details, **self.details}),
            provenance=self._provenance(
                predictions=digest,
                seconds=time.perf_counter() - began,
                peak_memory_mib=memory.mib,
            ),
        )

    def _predict(self) -> str:
        """Predict, store predictions and the subset's ids; returns the predictions' SHA-256."""
        run = Run(
            train=self.parts.train,
            valid=self.parts.valid,
            test=self.parts.test,
            protocol=self.settings,
            machine=self.machine,
            seed=self.cell.seed,
            fraction=self.cell.fraction,
            folder=self.folder,
            details=self.details,
            encoding=self.encoding,
            **self.extras,
        )
        predictions = self.task.predict(self.model.to(self.machine.device).eval(), run)
        missing = {"id", "patient"} - set(predictions.columns)
        if missing or predictions.empty:
            raise BadData(
                f"task {self.cell.task} returned no usable predictions (missing: {missing or '-'})"
            )
        digest = store_predictions(predictions, self.folder)
        store_subset(self.parts.digest, self.parts.ids, self.folder)
        return digest

    def _score(self) -> dict[str, Score]:
        stored = pd.read_parquet(self.folder / PREDICTIONS_FILE)
        scores = self.task.score(stored, self.settings)
        if self._metric not in scores:
            raise BadData(
                f"task {self.cell.task} returned no score {self._metric!r}, its main one; "
                f"it returned: {', '.join(scores) or 'none'}"
            )
        found = {name: Score.model_validate(score) for name, score in scores.items()}
        if math.isnan(found[self.task.CARD.metric].value):
            raise BadData(
                f"the main score {self.task.CARD.metric} is undefined on these "
                f"{len(self.parts.test)} test images: no positive or no negative example"
            )
        return found

    def _counts(self) -> dict[str, int]:
        return {name: len(getattr(self.parts, name)) for name in ("train", "valid", "test")}

    def _unexpected(self, error: Exception) -> str:
        path = write_traceback(error, self.folder)
        plugins = (module_of(self.task), type(self.model).__module__)
        return f"{describe_failure(error, plugins)} (full traceback: {path.name})"

    def _provenance(self, **measured: Any) -> Provenance:
        return provenance(
            self.machine,
            weights=self.identity["weights"],
            source=self.model.identity.source,
            data=self.parts.test.fingerprint,
            subset=self.parts.digest,
            config={
                "protocol": self.identity["protocol"],
                "batch_size": self.machine.batch_size,
                "image_size": self.parts.test.size,
                "command": self.command,
                "cost": {"loading": self.loading, **asdict(self.encoding)},
                **{name: self.identity[name] for name in _REPORTED_IDENTITY},
                "model": model_facts(self.model),
            },
            **measured,
        )


_REPORTED_IDENTITY = ("model_settings", "model_code", "task_code")  # why a cell was run again


def _check(card: TaskCard, model: Model, test: Dataset) -> None:
    offered = [kind for kind in card.annotations if kind in test.card.offers]
    if not offered:
        raise Unsupported(
            f"{card.name} needs {' or '.join(card.annotations)}; "
            f"{test.card.name} offers {', '.join(test.card.offers)}"
        )
    if not set(card.needs) & set(capabilities(model)):
        raise missing_capability(model, card)
