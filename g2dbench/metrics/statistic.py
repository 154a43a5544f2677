"""Statistics: metrics as functions of resamples, and how several are evaluated at once.

Legend: N images, B resamples. A statistic maps multiplicities (B,N) int, how often each resample
contains each image, to values (B,). Any such function is a statistic. The two classes below tell
`evaluate` what statistics share, so that the shared work is done once for each block of resamples:

    OneOf     one of several metrics that one function computes, as AUC and average precision of
              the same sorted scores
    Combined  computed from other statistics, as the mean over findings or the gap between groups
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Statistic = Callable[[NDArray[np.int64]], NDArray[np.float64]]


class Together(Protocol):
    """Computes several metrics of the same images in one pass."""

    def __call__(
        self, weights: NDArray[np.int64], names: AbstractSet[str], /
    ) -> Mapping[str, NDArray[np.float64]]:
        """The values (B,) of each of the named metrics for multiplicities (B,N)."""


@dataclass(frozen=True, eq=False)
class OneOf:
    """The statistic `name` of those that `together` computes."""

    together: Together
    name: str

    def __call__(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """The values (B,) for multiplicities (B,N)."""
        return self.together(weights, {self.name})[self.name]


@dataclass(frozen=True, eq=False)
class Combined:
    """A statistic from the values of others, stacked to (statistics, B): combine gives (B,)."""

    statistics: tuple[Statistic, ...]
    combine: Callable[[NDArray[np.float64]], NDArray[np.float64]]

    def __call__(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """The values (B,) for multiplicities (B,N)."""
        return evaluate([self], weights)[0]


def undefined(weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """The statistic that is NaN in every resample."""
    return np.full(len(weights), np.nan)


def mean_over(statistics: Sequence[Statistic]) -> Statistic:
    """The mean of several statistics of the same images; NaN for an empty list.

    NaN in a resample where one of them is NaN.
    """
    return Combined(tuple(statistics), _mean) if statistics else undefined


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values.mean(axis=0))


def averages(statistic: Combined) -> bool:
    """Whether it is one of `mean_over`."""
    return statistic.combine is _mean


def each_of(together: Together, names: Sequence[str]) -> dict[str, Statistic]:
    """The named metrics of one function, each as a statistic."""
    return {name: OneOf(together, name) for name in names}


def evaluate(
    statistics: Sequence[Statistic], weights: NDArray[np.int64]
) -> list[NDArray[np.float64]]:
    """The values (B,) of each statistic, with shared work done once.

    Raises ValueError if a statistic gives anything but one value for each resample.
    """
    leaves = _leaves(statistics)
    shared: dict[int, tuple[Together, set[str]]] = {}
    for leaf in leaves:
        if isinstance(leaf, OneOf):
            shared.setdefault(id(leaf.together), (leaf.together, set()))[1].add(leaf.name)
    computed = {key: together(weights, names) for key, (together, names) in shared.items()}
    values: dict[int, NDArray[np.float64]] = {}
    for leaf in leaves:
        if id(leaf) not in values:
            if isinstance(leaf, OneOf):
                found = computed[id(leaf.together)][leaf.name]
            else:
                found = leaf(weights)
            values[id(leaf)] = _checked(found, len(weights))
    return [_value(statistic, values) for statistic in statistics]


def _leaves(statistics: Sequence[Statistic]) -> list[Statistic]:
    """Statistics that are not combined, those inside combined ones included."""
    found: list[Statistic] = []
    for statistic in statistics:
        if isinstance(statistic, Combined):
            found += _leaves(statistic.statistics)
        else:
            found.append(statistic)
    return found


def _value(statistic: Statistic, values: Mapping[int, NDArray[np.float64]]) -> NDArray[np.float64]:
    """The values (B,) of a statistic from those of its leaves, by id."""
    if isinstance(statistic, Combined):
        return statistic.combine(np.stack([_value(part, values) for part in statistic.statistics]))
    return values[id(statistic)]


def _checked(found: NDArray[np.float64], resamples: int) -> NDArray[np.float64]:
    values = np.asarray(found, dtype=np.float64)
    if values.shape != (resamples,):
        raise ValueError(f"the statistic gave {values.shape} for {resamples} resamples")
    return values
