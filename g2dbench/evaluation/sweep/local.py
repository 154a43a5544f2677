"""Runs cells in worker processes of this machine: `--on local`.

Each worker is a pool of one process, so that a killed worker takes its own cell with it only. That
cell is run again, alone, after all others: most often, memory was too small for two cells.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from types import FrameType

import torch

from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.sweep.engine import Ended, Event, Notice, Receiver, Started
from g2dbench.evaluation.sweep.job import JobResult, JobSettings, run_job
from g2dbench.evaluation.sweep.order import CellQueue
from g2dbench.evaluation.workbench import Workbench
from g2dbench.system.available_memory import available_mib
from g2dbench.system.worker_pool import default_workers, end_with

LOGS = Path(".sweep")
"""Folder of what the workers print, in the results folder; hidden, so it is no result."""

UNKNOWN_MIB = 2048.0
"""Memory that is kept free for a cell before any similar cell has been measured."""

USED_SHARE = 0.9
"""Share of the available memory that is planned for."""

GRACE_SECONDS = 20.0
"""Time in which a stopped worker writes the features that it has computed."""


@dataclass
class Worker:
    """A process, its device, the cell that it runs, and the last one.

    need: memory in MiB. timers: kill a stopped process that does not end.
    """

    device: str
    log: Path
    pool: ProcessPoolExecutor | None = None
    running: CellSpec | None = None
    last: CellSpec | None = None
    need: float = 0.0
    timers: list[threading.Timer] = field(default_factory=list)

    def submit(self, spec: CellSpec, settings: JobSettings) -> "Future[JobResult]":
        """Start a cell, and the process if there is none."""
        settings = replace(settings, machine=replace(settings.machine, device=self.device))
        self.running = self.last = spec
        try:
            return self._open().submit(run_job, spec, settings)
        except BrokenProcessPool:  # it was killed between two cells
            self.pool = None
            return self._open().submit(run_job, spec, settings)

    def _open(self) -> ProcessPoolExecutor:
        if self.pool is None:
            self.pool = ProcessPoolExecutor(
                1, get_context("spawn"), initializer=_prepare, initargs=(os.getpid(), self.log)
            )
            with _interrupts_ignored():  # the process inherits it: Ctrl-C reaches the parent alone
                self.pool.submit(os.getpid)
        return self.pool

    def stop(self) -> None:
        """Make the process leave its cell, after `GRACE_SECONDS` at the latest."""
        for pid in list(self.pool._processes or ()) if self.pool is not None else ():
            _send(pid, signal.SIGTERM)
            self.timers.append(threading.Timer(GRACE_SECONDS, _send, (pid, signal.SIGKILL)))
            self.timers[-1].start()

    def close(self) -> None:
        """Wait until the process has ended its cell, and end it."""
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)
        for timer in self.timers:
            timer.cancel()
        self.pool, self.last, self.running, self.timers = None, None, None, []


@dataclass
class LocalPool:
    """Worker processes on the given devices, one at a time per worker.

    devices: one for each worker, such as ["cpu", "cpu"] or ["cuda:0", "cuda:1"]. memory: MiB that
    the cells on each device may use together. need: the expected memory of a cell in MiB, None if
    nothing similar was measured; then the largest cell of this sweep counts, at first UNKNOWN_MIB.
    """

    bench: Workbench
    settings: JobSettings
    devices: Sequence[str]
    memory: dict[str, float]
    need: Callable[[CellSpec], float | None] = lambda spec: None
    _largest: float = field(default=0.0, init=False)

    def run(self, cells: Sequence[CellSpec]) -> Generator[Event, None, None]:
        """Yield the events of all cells; ends its workers when it is closed early."""
        logs = self.settings.out / LOGS
        logs.mkdir(parents=True, exist_ok=True)
        workers = [
            Worker(device, logs / f"worker-{number}.log")
            for number, device in enumerate(self.devices)
        ]
        receiver = Receiver(self.bench, self.settings)
        stopped = True
        try:
            killed = yield from self._run_queue(CellQueue(cells), workers, receiver)
            for worker in workers:
                worker.close()
            for spec in killed:
                yield from self._run_alone(spec, workers[0], receiver)
            stopped = False
        finally:
            for worker in workers if stopped else ():  # all at once: each may take its time
                worker.stop()
            for worker in workers:
                worker.close()

    def _run_queue(
        self, queue: CellQueue, workers: list[Worker], receiver: Receiver
    ) -> Generator[Event, None, list[CellSpec]]:
        """Run all cells; returns those whose worker was killed."""
        running: dict[Future[JobResult], Worker] = {}
        killed: list[CellSpec] = []
        while queue or running:
            for worker in workers:
                if worker.running is None and (spec := self._take(queue, worker, workers)):
                    yield Started(spec)
                    running[worker.submit(spec, self.settings)] = worker
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                worker = running.pop(future)
                spec, worker.running = worker.running, None
                assert spec is not None
                try:
                    result = future.result()
                except BrokenProcessPool:
                    queue.ended(spec)
                    worker.close()
                    killed.append(spec)
                    yield Notice(
                        f"{_killed(worker)} while it ran {spec.title}; this cell is run again, "
                        "alone, after the others"
                    )
                    continue
                queue.ended(spec, result.seconds)
                self._measure(result)
                yield from receiver.events(spec, result)
        return killed

    def _take(self, queue: CellQueue, worker: Worker, workers: list[Worker]) -> CellSpec | None:
        """The next cell whose memory fits beside the others'; a cell alone always fits."""
        beside = [w for w in workers if w.running is not None and w.device == worker.device]
        room = self.memory.get(worker.device, float("inf")) - sum(other.need for other in beside)
        spec = queue.take(worker.last, lambda spec: not beside or self._need(spec) <= room)
        worker.need = self._need(spec) if spec is not None else 0.0
        return spec

    def _need(self, spec: CellSpec) -> float:
        known = self.need(spec)
        return known if known is not None else self._largest or UNKNOWN_MIB

    def _measure(self, result: JobResult) -> None:
        if result.outcome is not None and not result.outcome.reused:
            peak = result.outcome.result.provenance.peak_memory_mib
            self._largest = max(self._largest, peak)

    def _run_alone(self, spec: CellSpec, worker: Worker, receiver: Receiver) -> Iterator[Event]:
        future = worker.submit(spec, self.settings)
        yield Started(spec)
        try:
            result = future.result()
        except BrokenProcessPool:
            worker.close()
            reason = f"{_killed(worker)} twice, the second time while it ran this cell alone"
            yield Ended(spec, receiver.failed(spec, reason))
            return
        worker.running = None
        yield from receiver.events(spec, result)


def worker_devices(
    settings: JobSettings, cells: int, jobs: int | None, gpu_share: float
) -> list[str]:
    """The device of each worker: cores or GPUs shared out, `jobs` workers if it is given.

    A device with a number, such as cuda:1, is the only one that is used. Misuse if this machine
    lacks the requested device or precision.
    """
    device = settings.machine.choose().device
    if device.type == "cuda":
        numbers = [device.index] if device.index is not None else range(torch.cuda.device_count())
        places = [f"cuda:{number}" for _ in range(int(1 / gpu_share)) for number in numbers]
    else:
        cores = max(1, default_workers())
        places = [str(device)] * max(1, cores // settings.threads)
    count = min(jobs or len(places), max(1, cells))
    return [places[number % len(places)] for number in range(count)]


def device_memory(devices: Sequence[str]) -> dict[str, float]:
    """The memory in MiB that cells on each device may use together."""
    return {name: _memory_of(torch.device(name)) * USED_SHARE for name in set(devices)}


def _memory_of(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 2**20
    return available_mib()


def _killed(worker: Worker) -> str:
    return f"a worker process was killed or crashed (what it printed: {worker.log})"


def _prepare(parent: int, log: Path) -> None:
    """Make this process a worker: its output goes to a file, and it ends with its parent."""
    signal.signal(signal.SIGTERM, _leave)
    end_with(parent)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(file, stream.fileno())


def _leave(signum: int, frame: FrameType | None) -> None:
    """Leave the cell as after an error, so that computed features are written."""
    raise SystemExit(128 + signum)


def _send(pid: int, signum: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signum)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ignore Ctrl-C meanwhile; possible in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
