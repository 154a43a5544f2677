"""The order in which workers take cells: models are loaded rarely, features are computed once.

The first cell of each model, data set, task and protocol, with the largest training subset, is the
group's leader: it computes the features, which the other cells of the group, the followers, read
from the cache. A free worker takes, in this order: a leader or a follower whose leader has ended,
of the model that it has in memory; the same of the model with the fewest workers; any other
follower. The last one is correct as well: it waits for the features of its leader
(`feature_cache.Turn`). Among the cells of a model, those of the task and protocol that took longest
so far come first, since a long cell at the end would leave the other workers idle.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from math import inf
from typing import TypeAlias

from g2dbench.evaluation.cell_spec import CellSpec

Group: TypeAlias = tuple[object, ...]


def model_of(spec: CellSpec) -> Group:
    """What a worker has to load."""
    return (spec.model, spec.model_seed, spec.plugins)


def group_of(spec: CellSpec) -> Group:
    """Cells with the same group read the same features."""
    return (*model_of(spec), spec.data, spec.size, spec.task, spec.protocol, spec.precision)


def kind_of(spec: CellSpec) -> Group:
    """Cells of the same kind take about the same time."""
    return (spec.task, spec.protocol)


class _Model:
    """The cells of one model that no worker has taken; ready: by kind, in the order of arrival."""

    def __init__(self) -> None:
        self.ready: dict[Group, deque[CellSpec]] = defaultdict(deque)
        self.waiting: dict[Group, deque[CellSpec]] = defaultdict(deque)

    def __len__(self) -> int:
        parts = (*self.ready.values(), *self.waiting.values())
        return sum(map(len, parts))

    def add(self, cells: Iterable[CellSpec]) -> None:
        for spec in cells:
            self.ready[kind_of(spec)].append(spec)


class CellQueue:
    """Cells to run. `take` one, and tell when it has `ended`."""

    def __init__(self, cells: Iterable[CellSpec]) -> None:
        self._models: dict[Group, _Model] = defaultdict(_Model)
        self._running: Counter[Group] = Counter()
        self._seconds: dict[Group, float] = {}
        groups: dict[Group, list[CellSpec]] = defaultdict(list)
        for spec in cells:
            groups[group_of(spec)].append(spec)
        for group, members in groups.items():
            members.sort(key=subset_size, reverse=True)  # stable: otherwise in the given order
            model = self._models[model_of(members[0])]
            model.add(members[:1])
            if len(members) > 1:
                model.waiting[group].extend(members[1:])

    def __len__(self) -> int:
        return sum(map(len, self._models.values()))

    def take(
        self, last: CellSpec | None, fits: Callable[[CellSpec], bool] = lambda spec: True
    ) -> CellSpec | None:
        """The next cell for a worker whose last cell was `last`; None if none is left that fits."""
        for cells in self._candidates(last):
            if cells and fits(cells[0]):
                spec = cells.popleft()
                self._running[model_of(spec)] += 1
                return spec
        return None

    def take_ready(self) -> list[CellSpec]:
        """All leaders, and all followers whose leader has ended, those of a model together."""
        taken: list[CellSpec] = []
        for model in self._models.values():
            taken += chain.from_iterable(model.ready.values())
            model.ready.clear()
        return taken

    def ended(self, spec: CellSpec, seconds: float | None = None) -> None:
        """The cell has ended; a leader's followers can read its features now.

        seconds: how long it took, if it was computed.
        """
        key = model_of(spec)
        self._running[key] -= 1
        model = self._models[key]
        model.add(model.waiting.pop(group_of(spec), ()))
        if seconds is not None:
            self._seconds[kind_of(spec)] = max(seconds, self._seconds.get(kind_of(spec), 0.0))

    def _candidates(self, last: CellSpec | None) -> Iterator[deque[CellSpec]]:
        loaded = model_of(last) if last else None
        models = sorted(
            (key for key, model in self._models.items() if len(model)),
            key=lambda key: (key != loaded, self._running[key]),
        )
        for key in models:
            ready = self._models[key].ready
            for kind in sorted(ready, key=lambda kind: -self._seconds.get(kind, inf)):
                yield ready[kind]
        for key in models:
            yield from list(self._models[key].waiting.values())


def subset_size(spec: CellSpec) -> tuple[bool, float]:
    """Sorts training subsets by size; a fraction counts as larger than any number of shots."""
    if spec.shots is not None:
        return False, float(spec.shots)
    return True, spec.fraction
