"""The order in which a process reads and trains on the pairs of a stream, computed without files.

Each epoch permutes the shards. The pairs of the permuted shards form one sequence, which is divided
equally (to one pair) among `world_size` processes, so that a process shares only the first and the
last of its shards with others. It reads its pairs in this sequence and samples each training pair
from a shuffle buffer of `buffer` pairs; the next pair that was read replaces the sampled one.

The order is a function of (counts, seed, epoch, rank, world_size, buffer). It does not depend on
the number of loader workers, nor on the batch at which an epoch is resumed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SHARD_STREAM, _BUFFER_STREAM = 3, 4  # streams of random numbers; 1 and 2 are the loader's
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class EpochOrder:
    """The M pairs of one process in an epoch.

    shards, pairs: (M,) each, in reading order: the number of the shard, and of the pair in it.
    training_order: (M,) positions in the reading order, in the order of training.
    """

    shards: IntArray
    pairs: IntArray
    training_order: IntArray


def make_order(
    counts: Sequence[int], seed: int, epoch: int, *, rank: int, world_size: int, buffer: int
) -> EpochOrder:
    """Return the order of an epoch for the process `rank`; counts: pairs of each shard."""
    permuted = _generator(seed, _SHARD_STREAM, epoch).permutation(len(counts))
    sizes = np.asarray(counts, np.int64)[permuted]
    stops = np.cumsum(sizes)
    total = int(stops[-1]) if len(stops) else 0
    own = np.arange(rank * total // world_size, (rank + 1) * total // world_size)
    at = np.searchsorted(stops, own, side="right")
    training_order = shuffle(
        len(own), buffer, _generator(seed, _BUFFER_STREAM, epoch, rank, world_size)
    )
    return EpochOrder(permuted[at], own - (stops - sizes)[at], training_order)


def shuffle(count: int, buffer: int, generator: np.random.Generator) -> IntArray:
    """Shuffle 0 to count - 1 with a buffer of limited size; returns (count,) int64.

    Each item is sampled from the buffer, which is then refilled with the next item. The item at
    position p of the result is therefore less than p + buffer.
    """
    buffered = list(range(min(buffer, count)))
    fill = np.minimum(buffer, count - np.arange(count))  # items in the buffer at each sample
    chosen = generator.integers(0, fill) if count else fill
    training_order = np.empty(count, np.int64)
    for at, slot in enumerate(chosen.tolist()):
        training_order[at] = buffered[slot]
        incoming = at + buffer
        if incoming < count:
            buffered[slot] = incoming
        else:
            buffered[slot] = buffered[-1]
            buffered.pop()
    return training_order


def _generator(seed: int, stream: int, *rest: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, stream, *rest]))
