"""The order in which a process reads and trains on streamed pairs: numbers alone, no file.

Pairs are counted shard by shard. For an epoch the shards are permuted; of the row of pairs that
they then form, each of `world` processes takes an equal part (to one pair), so that it reads whole
shards but for those at its two ends. Within its part it reads in the shards' order, and what it
trains on is drawn from a buffer of `buffer` pairs: a random one goes, the next one read takes its
place. All of it is a function of (counts, seed, epoch, rank, world, buffer); the number of loader
workers and where an epoch is taken up again play no part.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SHARDS, _BUFFER = 3, 4  # streams of random numbers; 1 and 2 are the loader's
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """One process's epoch of M pairs.

    shards, places: (M,) each, in reading order: the shard, and which of its pairs.
    drawn: (M,) positions of the reading order, in the order of training.
    """

    shards: Numbers
    places: Numbers
    drawn: Numbers


def make_order(
    counts: Sequence[int], seed: int, epoch: int, *, rank: int, world: int, buffer: int
) -> Order:
    """The order of an epoch; counts: pairs of each shard."""
    permuted = _generator(seed, _SHARDS, epoch).permutation(len(counts))
    sizes = np.asarray(counts, np.int64)[permuted]
    stops = np.cumsum(sizes)
    total = int(stops[-1]) if len(stops) else 0
    mine = np.arange(rank * total // world, (rank + 1) * total // world)
    at = np.searchsorted(stops, mine, side="right")
    drawn = draw(len(mine), buffer, _generator(seed, _BUFFER, epoch, rank, world))
    return Order(permuted[at], mine - (stops - sizes)[at], drawn)


def draw(count: int, buffer: int, generator: np.random.Generator) -> Numbers:
    """0 to count - 1 in the order in which they leave a buffer that is kept full while it can be.

    So the item drawn at position p is one of the first p + buffer.
    """
    held = list(range(min(buffer, count)))
    left = np.minimum(buffer, count - np.arange(count))  # how many are held when each is drawn
    chosen = generator.integers(0, left) if count else left
    drawn = np.empty(count, np.int64)
    for at, slot in enumerate(chosen.tolist()):
        drawn[at] = held[slot]
        coming = at + buffer
        if coming < count:
            held[slot] = coming
        else:
            held[slot] = held[-1]
            held.pop()
    return drawn


def _generator(seed: int, stream: int, *rest: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, stream, *rest]))
