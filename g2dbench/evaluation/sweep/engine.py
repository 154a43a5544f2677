"""What all engines share: the events of a sweep, and how a job's result becomes an event."""

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from g2dbench.evaluation.cell_folder import remove_abandoned
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.outcome import Outcome, not_run
from g2dbench.evaluation.runner import run_cell
from g2dbench.evaluation.sweep.job import JobResult, JobSettings
from g2dbench.evaluation.workbench import Workbench
from g2dbench.progress import Progress, quiet
from g2dbench.system.machine import Machine


@dataclass(frozen=True)
class Started:
    """A cell has started."""

    spec: CellSpec


@dataclass(frozen=True)
class Ended:
    """A cell has ended: done, unsupported or failed."""

    spec: CellSpec
    outcome: Outcome


@dataclass(frozen=True)
class Notice:
    """A sentence for the user: a note of a model, or a worker that was killed."""

    text: str


Event: TypeAlias = Started | Ended | Notice


class Engine(Protocol):
    """Runs cells; each one ends exactly once, and none stops the others."""

    def run(self, cells: Sequence[CellSpec]) -> Generator[Event, None, None]:
        """Yield the events of all cells; stops its workers when it is closed early."""
        ...


class InProcess:
    """Runs one cell after the other in this process: the engine of `g2dbench eval`."""

    def __init__(self, bench: Workbench, settings: JobSettings, progress: Progress = quiet) -> None:
        self._bench, self._settings = bench, settings
        self._machine, self._store = settings.machine.choose(progress), settings.store()

    def run(self, cells: Sequence[CellSpec]) -> Generator[Event, None, None]:
        """Yield the events of all cells."""
        s = self._settings
        remove_abandoned(s.out)
        for spec in cells:
            yield Started(spec)
            outcome = run_cell(
                spec, self._bench, self._machine, s.out, s.rerun, s.save_heads, self._store
            )
            yield Ended(spec, outcome)


class Receiver:
    """Turns the results of jobs into events, in the process that the user started."""

    def __init__(self, bench: Workbench, settings: JobSettings) -> None:
        self._bench, self._settings = bench, settings
        self._noted: set[str] = set()

    def events(self, spec: CellSpec, result: JobResult) -> Iterator[Event]:
        """The events of one result; OSError for a full disk, which stops the sweep."""
        if result.disk is not None:
            raise OSError(result.disk, os.strerror(result.disk), str(self._settings.out))
        for note in result.notes:
            if note not in self._noted:
                self._noted.add(note)
                yield Notice(note)
        yield Ended(spec, result.outcome or self.failed(spec, result.reason))

    def failed(self, spec: CellSpec, reason: str) -> Outcome:
        """The outcome of a cell that no worker could run."""
        task, data = self._bench.task(spec.task), self._bench.dataset(spec)
        here = Machine.choose("cpu", "fp32")  # that of the lost worker is not known
        return not_run(spec, task, data, here, reason)


def outcomes(events: Iterable[Event]) -> Iterator[Outcome]:
    """The outcomes of the cells that end."""
    return (event.outcome for event in events if isinstance(event, Ended))
