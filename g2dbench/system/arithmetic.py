"""Mathematics that gives the same bits on every processor, NumPy, SciPy and C library.

IEEE 754 fixes the result of +, -, *, /, square roots, comparisons, rounding to whole numbers and
conversions between formats to the last bit. It does not fix `exp`, `pow` or `sin`: NumPy and the C
library compute them in several ways and choose one by processor. What becomes stored data
therefore uses only the former, element by element; what needs more is built from them here. Sums
of many values are sums of whole numbers, because the order in which a library adds depends on the
processor too. `tests/data/synthetic/test_same_everywhere.py` lists what the drawing may call.
"""

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Real = TypeVar("Real", np.float32, np.float64)
Line = NDArray[np.float64]

_LOG2E, _HALF_PI_INVERSE = 1.4426950408889634, 0.6366197723675814
_ROOT_HALF = 0.7071067811865476
_LN2 = (0.693359375, -2.121944400546905827679e-4)
_HALF_PI = (1.57079632673412561417e00, 6.07710050650619224932e-11)
"""ln 2 and pi / 2 in two parts: small whole multiples of the first part are exact."""

_SINE_COSINE = [np.array([[1 / (n * (n + 1))], [1 / (n * (n - 1))]]) for n in range(18, 0, -2)]
"""Each term of both series as a share of the term before it, the last first."""

_EXP_POWERS = {"float32": 7, "float64": 13}
_LOG_POWERS = {"float32": 9, "float64": 21}
"""Last power of each series that still shows in a number of the format."""


def exp(x: NDArray[Real]) -> NDArray[Real]:
    """e to the power x, (...) of x's format, to two units in the last place; x counts from -80."""
    x = np.clip(x, -80, 80)
    whole = np.rint(x * x.dtype.type(_LOG2E))
    rest = (x - whole * x.dtype.type(_LN2[0])) - whole * x.dtype.type(_LN2[1])
    total = np.zeros_like(x)
    for n in range(_EXP_POWERS[x.dtype.name], -1, -1):
        total *= rest
        total += x.dtype.type(1 / math.factorial(n))
    return np.asarray(np.ldexp(total, whole.astype(np.int32)), dtype=x.dtype)


def log(x: NDArray[Real]) -> NDArray[Real]:
    """The natural logarithm of x > 0, (...) of x's format; its error counts from 1 upwards."""
    part, exponent = np.frexp(x)
    middle = x.dtype.type(_ROOT_HALF)
    s = (part - middle) / (part + middle)
    square = s * s
    total = np.zeros_like(x)
    for n in range(_LOG_POWERS[x.dtype.name], 0, -2):
        total *= square
        total += x.dtype.type(1 / n)
    whole = exponent.astype(x.dtype) - x.dtype.type(0.5)
    tail = whole * x.dtype.type(_LN2[1]) + 2 * s * total
    return np.asarray(whole * x.dtype.type(_LN2[0]) + tail, dtype=x.dtype)


def power(x: NDArray[Real], exponent: float) -> NDArray[Real]:
    """x >= 0 to a positive power, (...) of x's format."""
    return exp(log(np.maximum(x, x.dtype.type(1e-30))) * x.dtype.type(exponent))


def sine_cosine(angle: Line) -> tuple[Line, Line]:
    """Sine and cosine of angles in radians, (n,) each."""
    turns = np.rint(angle * _HALF_PI_INVERSE)
    rest = (angle - turns * _HALF_PI[0]) - turns * _HALF_PI[1]
    square = rest * rest
    total = np.zeros((2, len(rest)))
    for shares in _SINE_COSINE:
        total *= square * shares
        total = 1 - total
    sine, cosine = total[0] * rest, total[1]
    quarter = turns.astype(np.int64) % 4
    odd = quarter % 2 == 1
    sines, cosines = np.where(odd, cosine, sine), np.where(odd, sine, cosine)
    return (
        np.where(quarter >= 2, -sines, sines),
        np.where((quarter == 1) | (quarter == 2), -cosines, cosines),
    )


def exp_of(x: float) -> float:
    """e to the power of one number."""
    return float(exp(np.array([x]))[0])


def direction(angle: float) -> tuple[float, float]:
    """Cosine and sine of one angle in radians: a step of length 1."""
    sine, cosine = sine_cosine(np.array([angle]))
    return float(cosine[0]), float(sine[0])


def length(x: NDArray[Real], y: NDArray[Real]) -> NDArray[Real]:
    """Length of the vectors (x, y), (...)."""
    return np.asarray(np.sqrt(x * x + y * y), dtype=x.dtype)


def spaced(start: float, stop: float, count: int) -> Line:
    """`count` numbers from start to stop in equal steps, (count,)."""
    at = np.arange(count) * ((stop - start) / (count - 1)) + start
    at[-1] = stop
    return np.asarray(at, dtype=np.float64)


def interpolate(at: Line, x: Line, y: Line) -> Line:
    """The broken line through (x, y) at the places `at`, constant beyond its ends, (...)."""
    at = np.clip(at, x[0], x[-1])
    i = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    slope = (y[i + 1] - y[i]) / (x[i + 1] - x[i])
    return np.asarray(slope * (at - x[i]) + y[i])


def box_mean(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Mean of the size x size pixels around each one, the border repeated outwards, (H, W).

    The sums are whole numbers in steps of 2^-20, which no order of adding changes.
    """
    steps = np.rint(image * np.float32(1 << 20)).astype(np.float64)
    total = _running_sum(_running_sum(steps, size, axis=0), size, axis=1)
    return (total / (float(size * size) * (1 << 20))).astype(np.float32)


def _running_sum(values: Line, size: int, axis: int) -> Line:
    """Sums of `size` neighbours along an axis; exact for whole numbers below 2^53."""
    above, count = size // 2, values.shape[axis]
    at = np.clip(np.arange(-above - 1, count + size - above - 1), 0, count - 1)
    total = np.cumsum(np.take(values, at, axis), axis)
    end, start = np.arange(size, len(at)), np.arange(count)
    return np.asarray(np.take(total, end, axis) - np.take(total, start, axis))
