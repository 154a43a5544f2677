"""What earlier cells cost, to be looked up by cell: time, memory, disk, features.

The costs of a cell are those of the most similar earlier results: the same task and protocol, then,
as far as there are any, the same model and data set, then the nearest size of the training subset;
of several, the median.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeAlias

from g2dbench.dataset import Dataset
from g2dbench.errors import BadResult
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.result import PREDICTIONS_FILE, Cell, Result, load, result_files
from g2dbench.system.device import AUTO

Key: TypeAlias = tuple[object, ...]

ANY = "*"
"""Stands for every label, and every seed of a model, in the keys of earlier results."""


@dataclass(frozen=True)
class Earlier:
    """An earlier result; size: bytes of its folder."""

    result: Result
    size: int

    def cost(self, name: str) -> float:
        """An entry of the measured costs (`evaluation/runner.py`); 0 in results without it."""
        costs = self.result.provenance.config.get("cost")
        value = costs.get(name, 0.0) if isinstance(costs, dict) else 0.0
        return float(value) if isinstance(value, int | float) else 0.0


@dataclass(frozen=True)
class Cost:
    """What one cell costs.

    seconds: without encoding images and without loading. encoding: seconds for all its images;
    loading: of model and data set. disk: bytes. memory: peak in MiB.
    """

    seconds: float
    encoding: float
    loading: float
    disk: int
    memory: float


def earlier_results(folder: Path) -> list[Earlier]:
    """The finished results of a folder; broken files are left out: a plan needs no other."""
    found: list[Earlier] = []
    for path in result_files(folder) if folder.is_dir() else ():
        try:
            result = load(path)
        except BadResult:
            continue
        if result.status == "done" and path.with_name(PREDICTIONS_FILE).is_file():
            size = sum(file.stat().st_size for file in path.parent.iterdir() if file.is_file())
            found.append(Earlier(result, size))
    return found


class Timings:
    """Earlier results by task, protocol, model and data set.

    stored: those of the results folder of the plan, which are on disk already; others: further
    ones.
    """

    def __init__(self, stored: Iterable[Earlier], others: Iterable[Earlier] = ()) -> None:
        self._similar: dict[Key, list[Earlier]] = defaultdict(list)
        self._encoding: dict[Key, list[float]] = defaultdict(list)
        self._loading: dict[Key, list[float]] = defaultdict(list)
        self._weights: dict[str, set[str]] = defaultdict(set)
        self._keys: set[Key] = set()
        for old in stored:
            self._add(old)
            self._add_key(old)
        for old in others:
            self._add(old)

    def _add(self, old: Earlier) -> None:
        cell, origin = old.result.cell, old.result.provenance
        for key in _keys(cell.task, cell.protocol, origin.source, origin.data):
            self._similar[key].append(old)
            if computed := old.cost("images"):
                outputs = computed + old.cost("cached")
                all_outputs = old.cost("seconds") / computed * outputs
                self._encoding[key].append(all_outputs / max(1, sum(old.result.counts.values())))
        for key in ((origin.source,), ()):
            if seconds := old.cost("loading"):
                self._loading[key].append(seconds)
        self._weights[origin.source].add(origin.weights)

    def _add_key(self, old: Earlier) -> None:
        cell, origin = old.result.cell, old.result.provenance
        for seed in (cell.model_seed, ANY):
            for label in (cell.model, ANY):
                fits = cell.fraction > 0
                for precision in (cell.precision, AUTO):
                    rest = _rest(cell, fits, precision)
                    self._keys.add((origin.source, origin.data, label, seed, *rest))

    def is_done(self, spec: CellSpec, data: Dataset, per_seed: bool) -> bool:
        """Whether a result with the same key is on disk.

        It is used again only if weights, code and settings are the same, which is known after the
        model has been loaded. per_seed: whether the seed determines the model's weights. The
        precision "auto" stands for any, as the worker chooses it.
        """
        seed = spec.model_seed if per_seed else ANY
        place = (spec.model, data.fingerprint, spec.label or ANY, seed)
        rests = (_rest(spec, fits, spec.precision) for fits in (True, False))
        return any((*place, *rest) in self._keys for rest in rests)

    def weights(self, spec: CellSpec) -> set[str]:
        """Digests of the weights that the model's earlier results were computed with."""
        return self._weights.get(spec.model, set())

    def cost(self, spec: CellSpec, data: Dataset) -> Cost | None:
        """The cost of a cell; None without a similar result: it is not guessed."""
        keys = _keys(spec.task, spec.protocol, spec.model, data.fingerprint)
        found = next((self._similar[key] for key in keys if key in self._similar), [])
        if not found:
            return None
        distance = {id(old): _distance(old.result.cell, spec) for old in found}
        nearest = min(distance.values())
        best = [old for old in found if distance[id(old)] == nearest]
        images, tests = _images(spec, data, fits=best[0].result.cell.fraction > 0)
        counts = best[0].result.counts
        ratio = images / max(1, sum(counts.values()))
        fitting = median(o.result.provenance.seconds - o.cost("seconds") for o in best)
        size = median(old.size for old in best) * tests / max(1, counts.get("test", 1))
        return Cost(
            seconds=fitting * ratio,
            encoding=_median(self._encoding, keys) * images,
            loading=_median(self._loading, ((spec.model,), ())),
            disk=int(size),
            memory=max(old.result.provenance.peak_memory_mib for old in best),
        )


def _keys(task: str, protocol: str, model: str, data: str) -> Sequence[Key]:
    """The most similar first."""
    both = (task, protocol)
    return ((*both, model, data), (*both, model), (*both, "", data), both)


def _median(known: dict[Key, list[float]], keys: Sequence[Key]) -> float:
    """Of the first key that has values; 0 if there is none, as for tasks that encode nothing."""
    return next((median(known[key]) for key in keys if key in known), 0.0)


def _distance(cell: Cell, spec: CellSpec) -> tuple[bool, float]:
    if cell.shots is not None and spec.shots is not None:
        return False, abs(cell.shots - spec.shots)
    return cell.shots != spec.shots, abs(cell.fraction - spec.fraction)


def _rest(cell: Cell | CellSpec, fits: bool, precision: str) -> Key:
    """The part of a cell's key that the cell and its spec have in common."""
    names = ["task", "protocol", "limit"]
    if fits:
        names += ["fraction", "shots", "seed", "subset_seed", "draw", "validation"]
    return (fits, precision, *(getattr(cell, name) for name in names))


def _images(spec: CellSpec, data: Dataset, fits: bool) -> tuple[int, int]:
    """The number of images that the cell reads, and of its test images."""
    splits = data.table["split"].value_counts()
    tests = int(splits.get("test", 0))
    if spec.limit is not None:
        tests = min(tests, spec.limit)
    valid = int(splits.get("valid", 0))
    train = int(splits.get("train", 0) * spec.fraction) if fits else 0
    return train + valid + tests, tests
