"""What running a cell gives: its result with the provenance, or the reason why there is none."""

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import g2dbench
from g2dbench.dataset import Dataset
from g2dbench.evaluation.cell_identity import cell_of
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.result import Provenance, Result
from g2dbench.system.environment import hardware, package_versions, source_state
from g2dbench.system.machine import Machine
from g2dbench.task import Task, main_metric


@dataclass(frozen=True)
class Outcome:
    """A cell's result, its folder, and whether the result was on disk already.

    folder: None if the result is not stored: the model cannot be loaded, so that the folder's name
    is not known, or the cell was finished before and has failed now.
    """

    result: Result
    folder: Path | None
    reused: bool


def provenance(machine: Machine, **known: Any) -> Provenance:
    """The provenance of a result that this process computes now."""
    commit, dirty = source_state()
    return Provenance(
        version=g2dbench.__version__,
        commit=commit,
        dirty=dirty,
        packages=package_versions(),
        hardware=hardware(machine.device),
        device=str(machine.device),
        precision=machine.precision,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **known,
    )


def not_run(spec: CellSpec, task: Task, data: Dataset, machine: Machine, reason: str) -> Outcome:
    """The outcome of a cell that has failed before its folder was known; it is not stored."""
    result = Result(
        cell=cell_of(spec, spec.label or spec.model, None, task.CARD, data, spec.protocol),
        status="failed",
        reason=reason,
        metric=main_metric(task, data.card),
        provenance=provenance(machine, weights="", data=data.fingerprint, subset=""),
    )
    return Outcome(result, None, reused=False)
