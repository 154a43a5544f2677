"""What a list of cells will cost: per cell, and together on several workers.

A cell without a similar earlier result has no estimate; it is not guessed.
"""

import heapq
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from g2dbench.evaluation import feature_cache
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.planning.timings import Cost, Timings
from g2dbench.evaluation.sweep.order import CellQueue, group_of, model_of, subset_size
from g2dbench.evaluation.workbench import Workbench
from g2dbench.system.machine import FeatureFolder


@dataclass(frozen=True)
class Estimate:
    """The expected cost of one cell; None without a similar earlier result.

    done: whether a result with the same key is on disk; it costs loading the model, to see whether
    its weights are still the same. encodes: whether the cell computes features that are not cached.
    """

    spec: CellSpec
    done: bool
    cost: Cost | None
    encodes: bool = True

    @property
    def seconds(self) -> float | None:
        """Expected time without loading."""
        if self.cost is None:
            return None
        return self.cost.seconds + (self.cost.encoding if self.encodes else 0.0)


@dataclass(frozen=True)
class Total:
    """The cells of a plan together.

    unknown: number of cells to run without an estimate, which the other numbers leave out.
    seconds: from the start to the end; disk: bytes of results; memory: MiB of the largest cells
    that run at the same time.
    """

    cells: int
    done: int
    unknown: int
    seconds: float
    disk: int
    memory: float


def estimate(
    specs: Sequence[CellSpec],
    bench: Workbench,
    timings: Timings,
    cached: Collection[tuple[str, str]] = (),
    rerun: bool = False,
) -> list[Estimate]:
    """The estimate of each cell.

    cached: weights and data sets whose features are on disk. rerun: cells on disk run again.
    """
    found: list[Estimate] = []
    encoded: set[object] = set()
    for spec in sorted(specs, key=subset_size, reverse=True):  # as `CellQueue` orders a group
        data = bench.dataset(spec)
        done = not rerun and timings.is_done(spec, data, bench.reference(spec.model).per_seed)
        known = any((digest, data.fingerprint) in cached for digest in timings.weights(spec))
        group = group_of(spec)
        found.append(
            Estimate(spec, done, timings.cost(spec, data), group not in encoded and not known)
        )
        if not done:
            encoded.add(group)
    by_spec = {each.spec: each for each in found}
    return [by_spec[spec] for spec in specs]


def cached_features(folder: FeatureFolder | None) -> set[tuple[str, str]]:
    """Weights and data sets whose features are on disk."""
    entries = feature_cache.entries(folder.path) if folder is not None else ()
    return {(str(e.key.get("weights")), str(e.key.get("data"))) for e in entries}


def total(estimates: Sequence[Estimate], slots: int, start: float = 0.0) -> Total:
    """All cells on `slots` workers, each of which needs `start` seconds before its first cell."""
    to_run = [each for each in estimates if not each.done]
    known = [each.cost for each in to_run if each.cost is not None]
    largest = sorted((cost.memory for cost in known), reverse=True)
    return Total(
        cells=len(estimates),
        done=len(estimates) - len(to_run),
        unknown=len(to_run) - len(known),
        seconds=_makespan(estimates, slots, start),
        disk=sum(cost.disk for cost in known),
        memory=sum(largest[:slots]),
    )


def _makespan(estimates: Iterable[Estimate], slots: int, start: float) -> float:
    """When the last worker ends, if they take the cells as in `CellQueue`."""
    by_spec = {each.spec: each for each in estimates if each.cost is not None}
    queue = CellQueue(by_spec)
    last: dict[int, CellSpec | None] = dict.fromkeys(range(slots))
    free = [(start, slot) for slot in range(min(slots, len(by_spec)))]
    running: list[tuple[float, int, CellSpec]] = []
    end = 0.0
    while queue or running:
        while free and (spec := queue.take(last[free[0][1]])) is not None:
            now, slot = heapq.heappop(free)
            seconds = _worker_seconds(by_spec[spec], last[slot])
            last[slot] = spec
            heapq.heappush(running, (now + seconds, slot, spec))
        end, slot, spec = heapq.heappop(running)
        queue.ended(spec, None if by_spec[spec].done else by_spec[spec].seconds)
        heapq.heappush(free, (end, slot))
    return end


def _worker_seconds(each: Estimate, last: CellSpec | None) -> float:
    assert each.cost is not None
    loads = last is None or model_of(last) != model_of(each.spec)
    loading = each.cost.loading if loads else 0.0
    return loading + (0.0 if each.done else each.seconds or 0.0)
