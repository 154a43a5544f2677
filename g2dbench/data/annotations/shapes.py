"""Rectangles, ellipses and polygons as masks of the pixels whose center lies inside.

Coordinates are pixels of the frame (height, width), x to the right, y down; pixel (row, column)
has its center at (column + 0.5, row + 0.5), as in `masks.BoxMasks`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from g2dbench.data.annotations.masks import Mask
from g2dbench.sample import Box


@dataclass(frozen=True)
class Rectangle:
    """An axis-aligned rectangle."""

    box: Box

    def draw(self, mask: Mask) -> None:
        """Set the pixels of the shape in an (H, W) mask."""
        x, y = _pixel_centers(mask)
        across = (x >= self.box.x0) & (x < self.box.x1)
        down = (y >= self.box.y0) & (y < self.box.y1)
        mask |= down[:, None] & across[None, :]


@dataclass(frozen=True)
class Ellipse:
    """The axis-aligned ellipse that is inscribed in a box."""

    box: Box

    def draw(self, mask: Mask) -> None:
        """Set the pixels of the shape in an (H, W) mask."""
        x, y = _pixel_centers(mask)
        _, x0, y0, x1, y1 = self.box
        # |2c - (a + b)| <= b - a per axis, without division: an empty ellipse has no pixels.
        across = (2 * x - (x0 + x1)) ** 2 * (y1 - y0) ** 2
        down = (2 * y - (y0 + y1)) ** 2 * (x1 - x0) ** 2
        size = ((x1 - x0) * (y1 - y0)) ** 2
        mask |= (down[:, None] + across[None, :] <= size) & (size > 0)


@dataclass(frozen=True)
class Polygon:
    """A closed polygon with at least three corners (x, y), filled by the even-odd rule."""

    finding: str
    corners: tuple[tuple[float, float], ...]

    @property
    def box(self) -> Box:
        """The tight box around the corners."""
        x, y = zip(*self.corners, strict=True)
        return Box(self.finding, min(x), min(y), max(x), max(y))

    def draw(self, mask: Mask) -> None:
        """Set the pixels of the polygon in an (H, W) mask; a center on a left edge is inside."""
        inside = np.zeros_like(mask)
        _, y = _pixel_centers(mask)
        for (x0, y0), (x1, y1) in zip(
            self.corners, (*self.corners[1:], self.corners[0]), strict=True
        ):
            rows = np.flatnonzero((min(y0, y1) <= y) & (y < max(y0, y1)))
            if rows.size == 0:
                continue
            crossing = x0 + (y[rows] - y0) * (x1 - x0) / (y1 - y0)
            _flip_from(inside, rows, crossing)
        mask |= inside


Shape = Rectangle | Ellipse | Polygon


def _pixel_centers(mask: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x of the pixel centers of each column, and y of those of each row."""
    height, width = mask.shape
    return np.arange(width, dtype=np.float64) + 0.5, np.arange(height, dtype=np.float64) + 0.5


def _flip_from(inside: Mask, rows: NDArray[np.int64], crossing: NDArray[np.float64]) -> None:
    """Invert, in each row, all pixels whose center is not left of the crossing."""
    first = np.ceil(crossing - 0.5)
    inside[rows] ^= np.arange(inside.shape[1]) >= first[:, None]


class ShapeMasks(Mapping[str, Mask]):
    """Masks by finding: the union of its shapes in a frame (height, width), drawn on access."""

    def __init__(self, shapes: Sequence[Shape], frame: tuple[int, int]) -> None:
        self._shapes = tuple(shapes)
        self._frame = frame

    def __getitem__(self, finding: str) -> Mask:
        shapes = [shape for shape in self._shapes if shape.box.finding == finding]
        if not shapes:
            raise KeyError(finding)
        mask = np.zeros(self._frame, dtype=bool)
        for shape in shapes:
            shape.draw(mask)
        return mask

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(shape.box.finding for shape in self._shapes))

    def __len__(self) -> int:
        return len({shape.box.finding for shape in self._shapes})
