"""Runs cells on a Ray cluster: `--on ray`, with the extra `g2dbench[ray]`.

Each cell is a Ray task with its share of cores, GPU and memory. Leaders, which compute features,
come first (`order.py`). Ray starts a task again on another node when its worker or node is lost; a
cell that had ended before is found on disk then, so that it is not computed twice. The results
folder, the store and the cache of features are folders that all nodes share.

The device is the workers' affair: with "auto", cells take GPUs if the cluster has some, whatever
the machine has where the sweep starts.
"""

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from g2dbench.errors import Misuse
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.sweep.engine import Ended, Event, Notice, Receiver, Started
from g2dbench.evaluation.sweep.job import JobResult, JobSettings, run_job_in
from g2dbench.evaluation.sweep.order import CellQueue
from g2dbench.evaluation.workbench import Workbench
from g2dbench.system.device import AUTO

POLL_SECONDS = 2.0
"""How often the nodes of the cluster are counted."""

RETRIES = 3
"""How often a cell is started again after its worker or node was lost."""


@dataclass
class RayCluster:
    """A running cluster (address: "auto" or HOST:PORT), or one on this machine (None).

    jobs: the most cells at the same time; None counts the cores or GPUs of the cluster. gpu_share:
    share of a GPU that a cell takes, if it takes one. need: expected memory of a cell in MiB.
    """

    bench: Workbench
    settings: JobSettings
    address: str | None = None
    jobs: int | None = None
    gpu_share: float = 1.0
    need: Callable[[CellSpec], float | None] = lambda spec: None
    _connected: bool = field(default=False, init=False)
    _gpus: float | None = field(default=None, init=False)

    def workers(self) -> int:
        """How many cells run at the same time on the cluster as it is now; connects to it."""
        return self._slots(self._connect())

    def run(self, cells: Sequence[CellSpec]) -> Generator[Event, None, None]:
        """Yield the events of all cells; cancels those that run when it is closed early."""
        ray = self._connect()
        running: dict[Any, CellSpec] = {}
        try:
            if self._share(ray) and not _count(ray, "GPU"):
                yield Notice("no node of the cluster has a GPU: the cells wait until one joins")
            yield from self._run_queue(ray, CellQueue(cells), running)
        finally:
            for reference in running:
                ray.cancel(reference, force=True)
            if self._connected:
                ray.shutdown()
                self._connected = False

    def _connect(self) -> Any:
        ray = _ray()
        if not ray.is_initialized():
            _connect(ray, self.address)
            self._connected = True
        return ray

    def _share(self, ray: Any) -> float:
        """The share of a GPU that a cell takes, 0 on the CPU; decided once: nodes come and go."""
        if self._gpus is None:
            device = self.settings.machine.device
            takes_one = device == "cuda" or (device == AUTO and _count(ray, "GPU") > 0)
            self._gpus = self.gpu_share if takes_one else 0.0
        return self._gpus

    def _run_queue(
        self, ray: Any, queue: CellQueue, running: dict[Any, CellSpec]
    ) -> Iterator[Event]:
        receiver = Receiver(self.bench, self.settings)
        last: CellSpec | None = None
        nodes = _alive(ray)
        while queue or running:
            while len(running) < self._slots(ray) and (spec := queue.take(last)) is not None:
                yield Started(spec)
                running[self._submit(ray, spec)] = spec
            done, _ = ray.wait(list(running), timeout=POLL_SECONDS)
            for reference in done:
                last = running.pop(reference)
                result = self._result(ray, reference, last, receiver)
                queue.ended(last, result.seconds if isinstance(result, JobResult) else None)
                yield from (
                    receiver.events(last, result) if isinstance(result, JobResult) else [result]
                )
            if gone := nodes - (nodes := _alive(ray)):
                yield Notice(f"{len(gone)} of the cluster's nodes left; their cells start again")

    def _submit(self, ray: Any, spec: CellSpec) -> Any:
        settings, gpus = self.settings, self._share(ray)
        memory = None if gpus else self.need(spec)  # of the GPU, where a cell has one
        if gpus:  # a worker that got a GPU and cannot use it fails, instead of using the CPU
            settings = replace(settings, machine=replace(settings.machine, device="cuda"))
        task = ray.remote(run_job_in).options(
            num_cpus=settings.threads,
            num_gpus=gpus,
            memory=None if memory is None else int(memory * 2**20),
            max_retries=RETRIES,
            retry_exceptions=False,
        )
        return task.remote(Path.cwd(), spec, settings)

    def _result(
        self, ray: Any, reference: Any, spec: CellSpec, receiver: Receiver
    ) -> JobResult | Ended:
        """What the worker sent, or the end of a cell whose worker was lost."""
        try:
            result: JobResult = ray.get(reference)
        except ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines() or ["no message"]
            lost = f"its worker was lost {RETRIES + 1} times"
            if isinstance(error, ray.exceptions.RayTaskError):  # an exception: it is not retried
                lost = "it could not be started or sent back"
            reason = f"{lost} ({type(error).__name__}: {lines[-1]})"
            return Ended(spec, receiver.failed(spec, reason))
        return result

    def _slots(self, ray: Any) -> int:
        """The most cells that run at the same time; more would not start, and keep no order."""
        if self.jobs is not None:
            return self.jobs
        slots = _count(ray, "CPU") // self.settings.threads
        if gpus := self._share(ray):
            slots = min(slots, _count(ray, "GPU") // gpus)
        return max(1, int(slots))


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise Misuse("--on ray needs Ray: pip install 'g2dbench[ray]'") from error
    return ray


def _connect(ray: Any, address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    options = {} if address else {"include_dashboard": False}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="warning", **options)
    except (ConnectionError, ValueError) as error:
        raise Misuse(
            f"no Ray cluster answers at --address {address}: {error}; "
            "start one with `ray start --head`, or leave out --address"
        ) from error


def _count(ray: Any, resource: str) -> float:
    """How much of a resource the cluster has: cores or GPUs."""
    return float(ray.cluster_resources().get(resource, 0))


def _alive(ray: Any) -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}
