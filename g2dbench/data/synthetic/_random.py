"""Random numbers that are identical in all versions of NumPy and on all processors.

NumPy guarantees the bits of PCG64 and SeedSequence in all versions, but not the numbers that the
methods of `Generator` compute from them (NEP 19), some with `exp` and `log` of the C library. The
methods here repeat the algorithms of `Generator` in NumPy 2.4, with operations whose rounding
IEEE 754 specifies (see system/arithmetic.py).
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar

import numpy as np
from numpy.random import PCG64, SeedSequence
from numpy.typing import NDArray

from g2dbench.data.synthetic._ziggurat import Words, normals_of, uniform_of, ziggurat
from g2dbench.system.arithmetic import Line, exp_of, log

Item = TypeVar("Item")


class Random:
    """A stream of random numbers; the same key always gives the same numbers."""

    def __init__(self, *key: int) -> None:
        self._bits = PCG64(SeedSequence(key))
        self._words: Words = np.empty(0, dtype=np.uint64)
        self._half: int | None = None

    def _ahead(self, count: int) -> Words:
        """At least the next `count` words, without consuming them."""
        if len(self._words) < count:
            more = self._bits.random_raw(max(count - len(self._words), 256))
            self._words = np.concatenate([self._words, np.asarray(more, dtype=np.uint64)])
        return self._words

    def _take(self, count: int) -> Words:
        words = self._ahead(count)[:count]
        self._words = self._words[count:]
        return words

    def _word32(self) -> int:
        """32 bits: the lower half of a word, and then its upper half."""
        if self._half is not None:
            half, self._half = self._half, None
            return half
        word = int(self._take(1)[0])
        self._half = word >> 32
        return word & 0xFFFFFFFF

    def uniforms(self, low: float, high: float, count: int) -> Line:
        """`count` numbers from low up to high, (count,)."""
        return low + (high - low) * uniform_of(ziggurat(64), self._take(count))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number from low up to high."""
        return low + (high - low) * ((int(self._take(1)[0]) >> 11) * (1.0 / (1 << 53)))

    def normals(self, spread: float, *shape: int) -> Line:
        """Normal numbers around 0 with a standard deviation, of the shape asked for."""
        count = ahead = math.prod(shape)
        values, taken = np.empty(0), 0
        while len(values) < count:
            ahead += ahead // 16 + 8
            values, taken = normals_of(self._ahead(ahead)[:ahead], count, 64)
        self._take(taken)
        return values.reshape(shape) * spread

    def normal(self, mean: float, spread: float) -> float:
        """A normal number."""
        table, word = ziggurat(64), int(self._ahead(1)[0])
        layer, place = word & 0xFF, (word >> 9) & ((1 << 52) - 1)
        if place >= int(table.inside[layer]):
            return mean + spread * float(self.normals(1.0, 1)[0])
        self._take(1)
        value = place * float(table.width[layer])
        return mean + spread * (-value if word & 0x100 else value)

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high - 1, all equally likely (Lemire, 2019)."""
        span = high - low
        if span == 1:
            return low
        product = self._word32() * span
        while product & 0xFFFFFFFF < (1 << 32) % span:
            product = self._word32() * span
        return low + (product >> 32)

    def choice(self, options: Sequence[Item], weights: Sequence[float] = ()) -> Item:
        """One of the options, all equally likely or by weights."""
        if not weights:
            return options[self.integer(0, len(options))]
        return options[_chosen(self.uniform(), weights)]

    def sample(self, options: Sequence[Item], count: int, weights: Sequence[float]) -> list[Item]:
        """`count` different options, sampled by weights one after the other."""
        left = list(weights)
        found: list[int] = []
        while len(found) < count:
            uniform = [self.uniform() for _ in range(count - len(found))]
            new = dict.fromkeys(_chosen(value, left) for value in uniform)
            found += new
            left = [0.0 if i in found else weight for i, weight in enumerate(weights)]
        return [options[i] for i in found]

    def signs(self, count: int) -> Line:
        """-1 or 1, (count,)."""
        found = [] if self._half is None else [self._half]
        words = self._take((count - len(found) + 1) // 2)
        halves = np.concatenate([np.array(found, dtype=np.uint64), _halves(words)])
        self._half = int(halves[count]) if len(halves) > count else None
        return (halves[:count] >> np.uint64(31)).astype(np.float64) * 2 - 1

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """The items in random order (Fisher and Yates)."""
        order = list(items)
        for i in range(len(order) - 1, 0, -1):
            mask = (1 << i.bit_length()) - 1
            j = self._word32() & mask
            while j > i:
                j = self._word32() & mask
            order[i], order[j] = order[j], order[i]
        return order

    def beta(self, a: float, b: float) -> float:
        """A number between 0 and 1 of the beta distribution with a, b > 1."""
        one, other = self._gamma(a), self._gamma(b)
        return one / (one + other)

    def _gamma(self, shape: float) -> float:
        """A number of the gamma distribution with shape > 1 (Marsaglia and Tsang, 2000)."""
        b = shape - 1 / 3
        while True:
            x = self.normal(0, 1)
            v = 1 + x / math.sqrt(9 * b)
            if v <= 0:
                continue
            v, square, u = v * v * v, x * x, self.uniform()
            if u < 1 - 0.0331 * square * square:
                return b * v
            if u < exp_of(0.5 * square + b * (1 - v + float(log(np.array([v]))[0]))):
                return b * v


def _halves(words: Words) -> Words:
    """Each word's lower 32 bits and then its upper ones, (2 n,)."""
    return np.stack([words & np.uint64(0xFFFFFFFF), words >> np.uint64(32)], axis=1).ravel()


def _chosen(value: float, weights: Sequence[float]) -> int:
    """The index whose interval of the cumulative weights contains a value in [0, 1)."""
    total = list(accumulate(weights))
    return next(i for i, below in enumerate(total) if value < below / total[-1])


def grain(shape: tuple[int, int], *key: int) -> NDArray[np.float32]:
    """Normal noise in float32 from the stream of a key, with 32 random bits per number."""
    count = math.prod(shape)
    bits = PCG64(SeedSequence(key))
    halves = np.empty(0, dtype=np.uint64)
    values = np.empty(0)
    while len(values) < count:
        words = np.asarray(bits.random_raw(count * 17 // 32 + 128), dtype=np.uint64)
        halves = np.concatenate([halves, _halves(words)])
        values, _ = normals_of(halves, count, 32)
    return values.astype(np.float32).reshape(shape)
