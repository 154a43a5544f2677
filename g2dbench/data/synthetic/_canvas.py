"""The canvas of the synthetic radiographs: coordinates, edges, curves, noise, strokes.

Positions are in anatomy units: x to the right and y down, about 0..1 within the frame, for any
number of pixels. S is the side of the image in pixels; maps are (S, S) float32.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from g2dbench.system.arithmetic import direction, interpolate, length, spaced

Map = NDArray[np.float32]
Line = NDArray[np.float64]

LOW, HIGH, STEPS = -0.5, 1.5, 4096
"""Curves are tabulated on STEPS points from LOW to HIGH: a quarter of a pixel at 1024."""
AXIS: Line = spaced(LOW, HIGH, STEPS)


def curve(at: Sequence[float] | Line, values: Sequence[float] | Line) -> Line:
    """A smooth curve through points, tabulated on AXIS and constant beyond its ends.

    It is monotone between the points, so that an outline does not overshoot them: cubic Hermite
    pieces with the slopes of Fritsch and Butland (1984), level at both ends.
    """
    x, y = np.asarray(at, dtype=np.float64), np.asarray(values, dtype=np.float64)
    step = np.diff(x)
    rise = np.diff(y) / step
    before, after = rise[:-1], rise[1:]
    turns = before * after <= 0
    near, far = step[:-1] + 2 * step[1:], 2 * step[:-1] + step[1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (near + far) / (near / before + far / after)
    slope = np.concatenate([[0.0], np.where(turns, 0.0, mean), [0.0]])
    clipped = np.clip(AXIS, x[0], x[-1])
    i = np.clip(np.searchsorted(x, clipped, side="right") - 1, 0, len(x) - 2)
    h = step[i]
    t = (clipped - x[i]) / h
    s = t * t * (3 - 2 * t)
    ends = (t - 1) * t * ((t - 1) * slope[i] + t * slope[i + 1]) * h
    return np.asarray(y[i] * (1 - s) + y[i + 1] * s + ends)


def lookup(table: Line, at: float) -> float:
    """The value of a tabulated curve at one coordinate."""
    return float(interpolate(np.array([at]), AXIS, table)[0])


def ramp(distance: Map, width: float) -> Map:
    """0 to 1 where `distance` crosses 0, smooth over `width`."""
    t = np.clip(distance / np.float32(width) + np.float32(0.5), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def lattice(table: NDArray[np.float64], size: int) -> Map:
    """A coarse (n, m) table of random values, smoothly enlarged to (S, S)."""
    rows = _blend(table.astype(np.float32), size)
    return np.ascontiguousarray(_blend(rows.T, size).T)


def _blend(table: Map, size: int) -> Map:
    at = (np.arange(size) + 0.5) / size * (len(table) - 1)
    low = np.minimum(at.astype(np.intp), len(table) - 2)
    t = (at - low).astype(np.float32)[:, None]
    t = t * t * (3 - 2 * t)
    return np.asarray(table[low] * (1 - t) + table[low + 1] * t, dtype=np.float32)


class Canvas:
    """Pixels of one image and the anatomy under them.

    Attributes:
        size: S; pixel: side of a pixel in anatomy units.
        x, y: (S, S) anatomy coordinates of the pixel centers.
    """

    def __init__(self, size: int, *, tilt: float, zoom: float, shift: tuple[float, float]) -> None:
        """Place the anatomy on the film: rotated by `tilt` radians, scaled, then shifted."""
        self.size = size
        self.pixel = 1 / (size * zoom)
        cos, sin = (part / zoom for part in direction(tilt))
        scale = zoom * zoom
        self._to_film = ((cos * scale, -sin * scale), (sin * scale, cos * scale))
        self._shift = (0.5 + shift[0], 0.5 + shift[1])
        film = (np.arange(size) + 0.5) / size
        dx, dy = film[None, :] - self._shift[0], film[:, None] - self._shift[1]
        self.x: Map = (0.5 + cos * dx + sin * dy).astype(np.float32)
        self.y: Map = (0.5 - sin * dx + cos * dy).astype(np.float32)
        self._row = self._index(self.y)
        self._column = self._index(self.x)

    @staticmethod
    def _index(coordinate: Map) -> NDArray[np.intp]:
        scaled = (coordinate - np.float32(LOW)) * np.float32((STEPS - 1) / (HIGH - LOW))
        return np.asarray(np.clip(scaled + np.float32(0.5), 0, STEPS - 1).astype(np.intp))

    def by_y(self, table: Line) -> Map:
        """The value of a curve of y at every pixel."""
        return np.asarray(np.take(table.astype(np.float32), self._row))

    def by_x(self, table: Line) -> Map:
        """The value of a curve of x at every pixel."""
        return np.asarray(np.take(table.astype(np.float32), self._column))

    def blob(self, x: float, y: float, rx: float, ry: float, angle: float = 0.0) -> Map:
        """1 - (distance / radius)^2 of an ellipse: 1 in its center, 0 on its edge."""
        cos, sin = (np.float32(part) for part in direction(angle))
        dx, dy = self.x - np.float32(x), self.y - np.float32(y)
        a = (dx * cos + dy * sin) / np.float32(rx)
        b = (dy * cos - dx * sin) / np.float32(ry)
        return np.asarray(1 - a * a - b * b, dtype=np.float32)

    def disc(self, x: float, y: float, radius: float) -> Map:
        """A filled disc with an edge one pixel wide."""
        far = length(self.x - np.float32(x), self.y - np.float32(y))
        return ramp(np.asarray(np.float32(radius) - far), 1.5 * self.pixel)

    def strokes(self, lines: NDArray[np.float64]) -> Map:
        """Round rods seen from the side, added up.

        Args:
            lines: (n, 6) x0, y0, x1, y1, width and weight; weight is the value in the middle of
                the rod, and what a rod thinner than a pixel gives is spread over that pixel.
        """
        points, mass = self._scatter(lines)
        (a, b), (c, d) = self._to_film
        x, y = points - 0.5
        film = np.stack([a * x + b * y + self._shift[0], c * x + d * y + self._shift[1]])
        return self._splat(film, mass)

    def _scatter(self, lines: NDArray[np.float64]) -> tuple[Line, Line]:
        """Points that fill the rods, at most a pixel apart, each with its share of the mass."""
        delta = lines[:, 2:4] - lines[:, :2]
        width, long = lines[:, 4], np.maximum(length(delta[:, 0], delta[:, 1]), 1e-6)
        along = np.ceil(long / self.pixel * 1.2).astype(np.intp)
        across = np.ceil(width / self.pixel * 1.5).astype(np.intp) + 1
        count = along * across
        rod = np.repeat(np.arange(len(lines)), count)
        within = np.arange(len(rod)) - (np.cumsum(count) - count)[rod]
        row = within // across[rod]
        s = (2 * (within - row * across[rod]) + 1) / across[rod] - 1
        t = (row + 0.5) / along[rod]
        side = delta * (width / long / 2)[:, None]
        x = lines[rod, 0] + delta[rod, 0] * t - side[rod, 1] * s
        y = lines[rod, 1] + delta[rod, 1] * t + side[rod, 0] * s
        mass = lines[:, 5] * long * width / count / (self.pixel * self.pixel)
        return np.stack([x, y]), np.sqrt(1 - s * s) * mass[rod]

    def _splat(self, film: Line, mass: Line) -> Map:
        """Share masses (n,) at film positions (2, n) among the four nearest pixels each."""
        at = np.clip(film * self.size + 0.5, 0, self.size + 0.999)
        low = at.astype(np.intp)
        (px, py), side = at - low, self.size + 2
        flat = low[1] * side + low[0]
        above, below = mass * (1 - py), mass * py
        spots = np.concatenate([flat, flat + 1, flat + side, flat + side + 1])
        shares = np.concatenate([above * (1 - px), above * px, below * (1 - px), below * px])
        canvas = np.bincount(spots, weights=shares, minlength=side * (side + 1))
        framed = canvas[: side * side].reshape(side, side)[1:-1, 1:-1]
        return np.asarray(framed, dtype=np.float32)


def polyline(points: NDArray[np.float64], width: float, weight: float) -> NDArray[np.float64]:
    """Strokes (n - 1, 6) along n points."""
    rows = np.empty((len(points) - 1, 6))
    rows[:, :2], rows[:, 2:4] = points[:-1], points[1:]
    rows[:, 4], rows[:, 5] = width, weight
    return rows


def bend(
    start: tuple[float, float], middle: tuple[float, float], end: tuple[float, float]
) -> NDArray[np.float64]:
    """Twelve points (12, 2) on a parabola: a Bezier curve with two ends and a control point."""
    t = spaced(0, 1, 12)[:, None]
    a, b, c = np.array(start), np.array(middle), np.array(end)
    return np.asarray((1 - t) * (1 - t) * a + 2 * t * (1 - t) * b + t * t * c)
