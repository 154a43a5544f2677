"""Runs the study in two pools of processes until the time is up: trainings, and evaluations."""

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field

from benchmarks.gpu_study import jobs
from benchmarks.gpu_study.jobs import TRAIN, Place, Row
from benchmarks.gpu_study.plan import UNTRAINED, Training
from g2dbench.system.worker_pool import process_pool

Key = tuple[str, str, int, str]
"""Scale, arm, seed, cell."""

_TICK = 2.0


def key_of(row: Row) -> Key:
    """What a row measures."""
    return row["scale"], row["arm"], row["seed"], row["cell"]


@dataclass
class Study:
    """The work of a study and what of it is done.

    Attributes:
        wanted: trainings in the order of importance; cells: of each, likewise.
        done: what earlier calls have measured. deadline: of `time.monotonic`.
        record: is called with every new row.
    """

    wanted: Sequence[Training]
    cells: Sequence[str]
    place: Place
    done: set[Key]
    deadline: float
    record: Callable[[Row], None]
    trainers: int = 5
    evaluators: int = 6
    _slowest: dict[str, float] = field(default_factory=dict)

    def run(self) -> list[Training]:
        """Train and evaluate; returns the trainings that the time did not suffice for."""
        waiting = [training for training in self.wanted if self.missing(training)]
        running: dict[Future[Row], tuple[Training, str, float]] = {}
        with self._pools() as (train_pool, eval_pool):
            while (waiting or running) and time.monotonic() < self.deadline:
                busy = sum(cell == TRAIN for _, cell, _ in running.values())
                if waiting and busy < self.trainers and self._fits(waiting[0]):
                    training = waiting.pop(0)
                    job = train_pool.submit(jobs.train, training, self.place)
                    running[job] = training, TRAIN, time.monotonic()
                    continue
                if not running:
                    break
                for job in wait(running, _TICK, FIRST_COMPLETED).done:
                    training, cell, began = running.pop(job)
                    row = _row_of(job, training, cell)
                    self._measure(training, cell, time.monotonic() - began)
                    self.record(row)
                    if cell == TRAIN and "failed" not in row:
                        for name in self.missing(training):
                            new = eval_pool.submit(jobs.evaluate, training, name, self.place)
                            running[new] = training, name, time.monotonic()
        return waiting

    def missing(self, training: Training) -> list[str]:
        """The cells of a training that are not measured yet."""
        where = (training.scale, training.arm, training.seed)
        return [cell for cell in self.cells if (*where, cell) not in self.done]

    def _fits(self, training: Training) -> bool:
        """Whether a training that starts now ends in time, by the slowest one so far."""
        kind = _kind(training, TRAIN)
        needed = self._slowest.get(kind, 0.0) + self._slowest.get(_kind(training, ""), 0.0)
        return time.monotonic() + needed < self.deadline

    def _measure(self, training: Training, cell: str, seconds: float) -> None:
        kind = _kind(training, TRAIN if cell == TRAIN else "")
        self._slowest[kind] = max(self._slowest.get(kind, 0.0), seconds)

    def _pools(self) -> "_Pools":
        return _Pools(self.trainers, self.evaluators)


class _Pools:
    """Two pools; on leaving, unfinished work is abandoned."""

    def __init__(self, trainers: int, evaluators: int) -> None:
        self._pools = process_pool(trainers), process_pool(evaluators)

    def __enter__(self) -> tuple[ProcessPoolExecutor, ProcessPoolExecutor]:
        return self._pools

    def __exit__(self, *error: object) -> None:
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=True)


def _kind(training: Training, what: str) -> str:
    quick = training.arm == UNTRAINED and what == TRAIN
    return f"{training.scale} {what} {quick}"


def _row_of(job: "Future[Row]", training: Training, cell: str) -> Row:
    """The job's row, or one that says why it failed: one failure must not end the study."""
    error = job.exception()
    if error is None:
        return job.result()
    reason = f"{type(error).__name__}: {error}"[:500]
    return {
        "scale": training.scale, "arm": training.arm, "seed": training.seed,
        "cell": cell, "failed": reason,
    }  # fmt: skip


def finished_keys(rows: Iterable[Row]) -> set[Key]:
    """What these rows have measured; failed work is done again."""
    return {key_of(row) for row in rows if "failed" not in row}
