"""Runs the study in two pools of processes until the time is up: trainings, and evaluations."""

import heapq
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
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
        wanted: trainings in the order of importance; cells: of each, likewise: the most important
            cell of all trained models comes first.
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
    _running: dict[Future[Row], tuple[Training, str, float]] = field(default_factory=dict)
    _evaluations: list[tuple[int, int, Training, str]] = field(default_factory=list)

    def run(self) -> None:
        """Train and evaluate until all is done or the time is up; unfinished work is abandoned."""
        waiting = [training for training in self.wanted if self.missing(training)]
        with self._pools() as (train_pool, eval_pool):
            while time.monotonic() < self.deadline:
                while waiting and self._busy(True) < self.trainers and self._fits(waiting[0]):
                    self._start(train_pool, jobs.train, waiting.pop(0))
                while self._evaluations and self._busy(False) < self.evaluators:
                    _, _, training, cell = heapq.heappop(self._evaluations)
                    self._start(eval_pool, jobs.evaluate, training, cell)
                if not self._running:
                    return
                for job in wait(self._running, _TICK, FIRST_COMPLETED).done:
                    self._finish(job)

    def _busy(self, training: bool) -> int:
        """How many trainings, or evaluations, are running."""
        return sum((cell == TRAIN) == training for _, cell, _ in self._running.values())

    def _start(
        self, pool: Executor, work: Callable[..., Row], training: Training, *cell: str
    ) -> None:
        job = pool.submit(work, training, *cell, self.place)
        self._running[job] = training, *(cell or (TRAIN,)), time.monotonic()  # type: ignore[assignment]

    def _finish(self, job: "Future[Row]") -> None:
        """Record a job's row; a finished training is evaluated on its missing cells."""
        training, cell, began = self._running.pop(job)
        row = _row_of(job, training, cell)
        kind = _kind(training, cell == TRAIN)
        self._slowest[kind] = max(self._slowest.get(kind, 0.0), time.monotonic() - began)
        if cell != TRAIN or key_of(row) not in self.done:
            self.record(row)
        if cell == TRAIN and "failed" not in row:
            for name in self.missing(training):
                order = self.cells.index(name), self.wanted.index(training)
                heapq.heappush(self._evaluations, (*order, training, name))

    def missing(self, training: Training) -> list[str]:
        """The cells of a training that are not measured yet."""
        where = (training.scale, training.arm, training.seed)
        return [cell for cell in self.cells if (*where, cell) not in self.done]

    def _fits(self, training: Training) -> bool:
        """Whether a training that starts now ends in time, by the slowest one so far."""
        kinds = _kind(training, True), _kind(training, False)
        needed = sum(self._slowest.get(kind, 0.0) for kind in kinds)
        return time.monotonic() + needed < self.deadline

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


def _kind(training: Training, trains: bool) -> str:
    """Jobs of one kind take about the same time."""
    quick = training.arm == UNTRAINED and trains
    return f"{training.scale} {trains} {quick}"


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
