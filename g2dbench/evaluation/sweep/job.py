"""One cell as the job of a worker: any worker process, of any engine, runs `run_job`.

The worker chooses its device and its precision: the machine that started the sweep may have others.
"""

import os
import socket
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from g2dbench.errors import G2DBenchError, Misuse
from g2dbench.evaluation.cell_folder import CellStore, FolderAlone
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.failure import describe_failure
from g2dbench.evaluation.outcome import Outcome
from g2dbench.evaluation.runner import run_cell
from g2dbench.evaluation.workbench import Workbench
from g2dbench.registry import Registry
from g2dbench.system.files import full_disk
from g2dbench.system.machine import Machine, MachineRequest


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """What all jobs of a sweep share; it can be sent to another process.

    machine: what the user asked for; each worker chooses by it. threads: of each worker. They can
    change the last bit of a score, so every engine with workers uses the same number; `InProcess`
    leaves the threads of its process as they are. remote: the address of a store that keeps the
    cells of `out`.
    """

    machine: MachineRequest
    out: Path
    rerun: bool = False
    save_heads: bool = False
    threads: int = 1
    remote: str | None = None

    def store(self) -> CellStore:
        """Where workers keep cells besides the folder."""
        if self.remote is None:
            return FolderAlone()
        from g2dbench.evaluation.sweep.remote_cells import open_remote_cells

        return open_remote_cells(self.remote, self.out)


@dataclass(frozen=True)
class JobResult:
    """What a worker sends back.

    outcome: None if the cell could not be run at all; `reason` says why then. disk: the errno if
    the reason is a full disk, because of which all later cells would fail too. notes: sentences for
    the user, such as the license of a model.
    """

    outcome: Outcome | None
    reason: str = ""
    disk: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float | None:
        """How long the cell took; None if it was not computed now."""
        if self.outcome is None or self.outcome.reused:
            return None
        return self.outcome.result.provenance.seconds


def run_job(spec: CellSpec, settings: JobSettings) -> JobResult:
    """Run a cell in this process; never raises an Exception, as not every one can be sent."""
    torch.set_num_threads(settings.threads)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = _run(spec, settings)
    notes = [str(w.message) for w in caught if w.category.__module__.startswith("g2dbench.")]
    return JobResult(result.outcome, result.reason, result.disk, tuple(dict.fromkeys(notes)))


def run_job_in(folder: Path, spec: CellSpec, settings: JobSettings) -> JobResult:
    """The same in another current folder: relative paths mean what they mean for the user."""
    os.chdir(folder)
    return run_job(spec, settings)


def _run(spec: CellSpec, settings: JobSettings) -> JobResult:
    try:
        machine, bench = _machine(settings.machine), _workbench(spec.plugins)
        return JobResult(
            run_cell(
                spec, bench, machine, settings.out, settings.rerun, settings.save_heads,
                settings.store(),
            )
        )  # fmt: skip
    except G2DBenchError as error:
        return JobResult(None, str(error))
    except Exception as error:  # a plug-in may raise anything
        disk = full_disk(error)
        reason = describe_failure(error, ()) if disk is None else os.strerror(disk)
        return JobResult(None, reason, disk)


def _machine(request: MachineRequest) -> Machine:
    """The machine of this worker; Misuse, which names it, if it lacks what was asked for."""
    try:
        return request.choose()
    except Misuse as error:
        raise Misuse(f"the worker on {socket.gethostname()} cannot run it: {error}") from error


@lru_cache(maxsize=1)
def _workbench(plugins: tuple[Path, ...]) -> Workbench:
    """The workbench of this process: the next cell of the same model does not load it again."""
    return Workbench(Registry(plugins))
