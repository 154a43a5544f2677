"""Normal random numbers by the ziggurat method, identical on all machines.

Marsaglia and Tsang (2000) cover the curve exp(-x^2 / 2) by 256 layers of equal area. A word of
random bits selects a layer and a position in it; the position is the number if it is under the
curve, which is nearly always the case.
"""

from dataclasses import dataclass
from decimal import Context, Decimal
from functools import cache

import numpy as np
from numpy.typing import NDArray

from g2dbench.system.arithmetic import Line, exp, log

Index = NDArray[np.intp]
Words = NDArray[np.uint64]

_LAYER, _SIGN, _PLACE = np.uint64(0xFF), np.uint64(0x100), np.uint64(9)
"""Where a word tells the layer, the sign, and from which bit on the place."""

_LAYERS = 256
_TAIL = "3.6541528853610087963519472518"
"""Where the lowest of 256 layers of equal area under exp(-x^2 / 2) ends."""
_AREA = "0.00492867323397465524494"
"""Area of one layer."""


@dataclass(frozen=True)
class Ziggurat:
    """The layers, for words of one length.

    A word's lowest 8 bits choose a layer, the next its sign, and `bits` more a place in the layer.

    Attributes:
        bits: bits of the place; spare: lowest bits of a word that a uniform number leaves out.
        inside: (256,) places below it lie under the curve; width: (256,) of one place; height:
            (256,) of the curve at the layer's edge.
    """

    bits: int
    spare: int
    inside: NDArray[np.uint64]
    width: Line
    height: Line


@cache
def ziggurat(word: int) -> Ziggurat:
    """The tables for words of 64 or 32 bits; `Decimal` rounds right on every machine."""
    bits, spare = (52, 11) if word == 64 else (23, 8)
    ctx, area, edge = Context(prec=40), Decimal(_AREA), Decimal(_TAIL)
    edges, heights = [edge], [ctx.exp(ctx.multiply(ctx.multiply(edge, edge), Decimal("-0.5")))]
    for _ in range(_LAYERS - 2):
        heights.append(ctx.add(heights[-1], ctx.divide(area, edges[-1])))
        edges.append(ctx.sqrt(ctx.multiply(Decimal(-2), ctx.ln(heights[-1]))))
    base = ctx.divide(area, heights[0])
    outer = [base, *edges[::-1]]
    inner = [edge, Decimal(0), *edges[:0:-1]]
    scale = Decimal(1 << bits)
    shares = [ctx.divide(i, o) for i, o in zip(inner, outer, strict=True)]
    form = np.float64 if word == 64 else np.float32
    return Ziggurat(
        bits,
        spare,
        np.array([round(ctx.multiply(s, scale)) for s in shares], dtype=np.uint64),
        np.array([float(ctx.divide(o, scale)) for o in outer]).astype(form).astype(np.float64),
        np.array([1.0, *map(float, heights[::-1])]).astype(form).astype(np.float64),
    )


def normals_of(words: Words, count: int, word: int) -> tuple[Line, int]:
    """Up to `count` normal numbers from words of `word` bits, and how many words they took.

    A place outside the curve takes further words, so that fewer numbers than words come out.
    """
    table = ziggurat(word)
    layer = (words & _LAYER).astype(np.intp)
    place = (words >> _PLACE) & np.uint64((1 << table.bits) - 1)
    values = place.astype(np.float64) * table.width[layer]
    values = np.where(words & _SIGN, -values, values)
    doubtful = np.flatnonzero(place >= table.inside[layer])
    if not len(doubtful) or doubtful[0] >= count:
        return values[:count], min(count, len(words))
    keep, ends = _resolve(table, words, layer, values, doubtful)
    found = np.flatnonzero(keep)[:count]
    last = int(found[-1]) if len(found) else -1
    return values[found], ends.get(last, last + 1)


def _resolve(
    table: Ziggurat, words: Words, layer: Index, values: Line, doubtful: Index
) -> tuple[NDArray[np.bool_], dict[int, int]]:
    """Which words give a number, and where those end that take more than one word.

    Changes `values` where a number lies in the tail. What would need words beyond the last one
    gives no number.
    """
    keep, ends, free = np.ones(len(words), dtype=bool), {}, 0
    following = np.minimum(doubtful + 1, len(words) - 1)
    under = _under_curve(table, layer[doubtful], values[doubtful], words[following])
    for j, fits in zip(doubtful.tolist(), under.tolist(), strict=True):
        if j < free:
            continue
        free = j + 2
        if layer[j] == 0:
            values[j], free = _beyond(table, words, j)
        elif not fits:
            keep[j] = False
        keep[j + 1 : free] = False
        ends[j] = free
        if free > len(words):
            keep[j:] = False
            break
    return keep, ends


def uniform_of(table: Ziggurat, words: Words) -> Line:
    """A number from 0 up to 1 of each word, (n,)."""
    bits = table.bits + 1
    return (words >> np.uint64(table.spare)).astype(np.float64) * (1.0 / (1 << bits))


def _under_curve(table: Ziggurat, layer: Index, x: Line, words: Words) -> NDArray[np.bool_]:
    """Whether places near a layer's edge lie under the curve, at heights chosen by `words`."""
    top, low = table.height[layer - 1], table.height[layer]
    return np.asarray((top - low) * uniform_of(table, words) + low < exp(-0.5 * x * x))


def _beyond(table: Ziggurat, words: Words, j: int) -> tuple[float, int]:
    """A number of the tail that word j begins, and where the words after those it took begin."""
    edge, sign, at = float(_TAIL), int(words[j]) >> 17 & 1, j + 1
    while at + 1 < len(words):
        far, more = (-log(1 - uniform_of(table, words[at : at + 2]))).tolist()
        far, at = far / edge, at + 2
        if 2 * more > far * far:
            return (-(edge + far) if sign else edge + far), at
    return 0.0, len(words) + 1
