"""Runs cells as Slurm job arrays: `--on slurm`, with the extra `g2dbench[slurm]`.

A job of an array runs a batch of cells, those of one model together. A batch that reaches its time
limit is queued again by submitit, and goes on after the cells that it has ended. Each batch writes
the results of its cells to a journal, a file beside submitit's logs, which this process reads.
"""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from g2dbench.errors import Misuse
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.sweep.engine import Ended, Event, Receiver, Started
from g2dbench.evaluation.sweep.job import JobResult, JobSettings, run_job_in
from g2dbench.evaluation.sweep.order import CellQueue
from g2dbench.evaluation.workbench import Workbench
from g2dbench.system.files import replace_file

LOGS = Path(".sweep", "slurm")
"""Folder of submitit's files and of the journals, in the results folder."""

POLL_SECONDS = 2.0

_AS_JSON = TypeAdapter(JobResult)


@dataclass
class Batch:
    """The cells of one job; callable, as submitit wants it.

    journal: an empty folder for the results of the cells, numbered as the cells.
    """

    specs: Sequence[CellSpec]
    settings: JobSettings
    folder: Path
    journal: Path

    def __call__(self) -> None:
        """Run the cells that have not ended."""
        for number, spec in enumerate(self.specs):
            path = self.journal / f"{number}.json"
            if not path.exists():
                text = _AS_JSON.dump_json(run_job_in(self.folder, spec, self.settings))
                replace_file(path, partial(_write, text))

    def checkpoint(self) -> Any:
        """What submitit queues again after a time-out."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)

    def results(self, seen: set[int]) -> Iterator[tuple[CellSpec, JobResult]]:
        """The results in the journal that are new; adds their numbers to `seen`."""
        for number, spec in enumerate(self.specs):
            path = self.journal / f"{number}.json"
            if number not in seen and path.exists():
                seen.add(number)
                yield spec, _AS_JSON.validate_json(path.read_bytes())


@dataclass
class SlurmArrays:
    """Two job arrays: first the leaders, which compute features, then all other cells.

    jobs: the most jobs at the same time, and in one array. parameters: of submitit, such as
    `timeout_min` and `slurm_partition`. cluster: "local" runs the jobs on this machine.
    """

    bench: Workbench
    settings: JobSettings
    jobs: int = 16
    parameters: Mapping[str, Any] = field(default_factory=dict)
    cluster: str = "slurm"

    def run(self, cells: Sequence[CellSpec]) -> Generator[Event, None, None]:
        """Yield the events of all cells; cancels its jobs when it is closed early."""
        executor = self._executor()
        queue = CellQueue(cells)
        receiver = Receiver(self.bench, self.settings)
        leaders = queue.take_ready()
        for spec in leaders:
            queue.ended(spec)
        for stage in (leaders, queue.take_ready()):
            yield from self._run_stage(executor, stage, receiver)

    def _run_stage(
        self, executor: Any, specs: Sequence[CellSpec], receiver: Receiver
    ) -> Iterator[Event]:
        batches = self._batches(specs, Path(executor.folder))
        seen: list[set[int]] = [set() for _ in batches]
        waiting = list(range(len(batches)))
        jobs = executor.submit_array(batches) if batches else []
        try:  # from here on: a job without a reader would run on
            for spec in specs:
                yield Started(spec)
            while waiting:
                time.sleep(POLL_SECONDS)
                for number in list(waiting):
                    over = jobs[number].done()  # before reading: nothing can be missed
                    for spec, result in batches[number].results(seen[number]):
                        yield from receiver.events(spec, result)
                    if over:
                        waiting.remove(number)
                        yield from _lost(jobs[number], batches[number], seen[number], receiver)
        finally:
            for number in waiting:
                jobs[number].cancel()

    def _batches(self, specs: Sequence[CellSpec], folder: Path) -> list[Batch]:
        """At most `jobs` batches of nearly the same number of cells, in the given order."""
        count = min(self.jobs, len(specs))
        bounds = [len(specs) * number // count for number in range(count + 1)] if count else []
        batches = []
        for start, end in pairwise(bounds):
            journal = folder / f"journal-{time.time_ns():x}-{start}"
            journal.mkdir(parents=True)
            batches.append(Batch(specs[start:end], self.settings, Path.cwd(), journal))
        return batches

    def _executor(self) -> Any:
        try:
            import submitit
        except ImportError as error:
            raise Misuse("--on slurm needs submitit: pip install 'g2dbench[slurm]'") from error
        try:
            executor = submitit.AutoExecutor(self.settings.out / LOGS, cluster=self.cluster)
            executor.update_parameters(
                name="g2dbench", cpus_per_task=self.settings.threads, **self.parameters
            )
            if self.cluster == "slurm":
                executor.update_parameters(slurm_array_parallelism=self.jobs)
        except (RuntimeError, NameError, TypeError, ValueError) as error:
            raise Misuse(f"--on slurm: {error}") from error
        return executor


def _write(text: bytes, path: Path) -> None:
    path.write_bytes(text)


def _lost(job: Any, batch: Batch, seen: set[int], receiver: Receiver) -> Iterator[Event]:
    """The events of cells whose job has ended before they did."""
    error = job.exception() if len(seen) < len(batch.specs) else None
    for number, spec in enumerate(batch.specs):
        if number not in seen:
            text = " ".join(str(error).split()) or "it was cancelled"
            reason = f"its Slurm job {job.job_id} ended before it ({text}); see {job.paths.stderr}"
            yield Ended(spec, receiver.failed(spec, reason))
