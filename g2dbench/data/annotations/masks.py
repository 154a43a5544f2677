"""Masks at another size, and masks that are drawn only when someone asks.

A reader hands out `RunMasks` or `BoxMasks`, so that listing ten thousand records holds no mask in
memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from g2dbench.data.annotations import rle
from g2dbench.sample import Box

Mask = NDArray[np.bool_]

ROUNDING = 1e-9
"""By which a share of a pixel may be too small for its sum's sake."""


def resize(
    mask: Mask, height: int, width: int, within: tuple[float, float, float, float] | None = None
) -> Mask:
    """A mask, or its rectangle (x0, y0, x1, y1), at another size: pixels covered by at least half.

    A finding too small for that keeps its best covered pixel: present must not become absent.
    """
    x0, y0, x1, y1 = within or (0, 0, mask.shape[1], mask.shape[0])
    if mask.shape == (height, width) == (y1 - y0, x1 - x0):
        return mask
    down, across = np.linspace(y0, y1, height + 1), np.linspace(x0, x1, width + 1)
    covered = _between(_between(mask, down).T, across).T * (height / (y1 - y0) * width / (x1 - x0))
    most = float(covered.max())
    small: Mask = covered >= (0.5 if most >= 0.5 else most) - ROUNDING
    return small if most > ROUNDING else np.zeros_like(small)


def _between(values: NDArray[Any], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, M) values as (K, M) integrals over the rows between K + 1 edges.

    Exact where an edge cuts a row; Pillow's box filter counts rows by their centres alone.
    """
    sums = np.cumsum(values, axis=0, dtype=np.int32 if values.dtype == bool else np.float64)
    row = np.minimum(edges.astype(np.int64), len(values) - 1)
    before = np.where(row[:, None] > 0, sums[row - 1], 0)
    reached = before + (edges - row)[:, None] * values[row]
    return np.diff(reached, axis=0)


class RunMasks(Mapping[str, Mask]):
    """Masks of one image from run lengths; several runs of one finding are united.

    BadData on access if the runs leave the frame (height, width).
    """

    def __init__(self, runs: Mapping[str, Sequence[Sequence[int]]], frame: tuple[int, int]) -> None:
        self._runs = {name: [np.asarray(part, np.int64) for part in runs[name]] for name in runs}
        self._frame = frame

    def __getitem__(self, finding: str) -> Mask:
        mask = np.zeros(self._frame, dtype=bool)
        for part in self._runs[finding]:
            mask |= rle.from_runs(part, *self._frame)
        return mask

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)


class BoxMasks(Mapping[str, Mask]):
    """Masks that are the union of each finding's boxes, in the boxes' frame (height, width).

    A pixel belongs to a box that covers its centre.
    """

    def __init__(self, boxes: Sequence[Box], frame: tuple[int, int]) -> None:
        self._boxes = tuple(boxes)
        self._frame = frame

    def __getitem__(self, finding: str) -> Mask:
        boxes = [box for box in self._boxes if box.finding == finding]
        if not boxes:
            raise KeyError(finding)
        mask = np.zeros(self._frame, dtype=bool)
        for box in boxes:
            rows = _centres(box.y0, box.y1, self._frame[0])
            columns = _centres(box.x0, box.x1, self._frame[1])
            mask[rows, columns] = True
        return mask

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(box.finding for box in self._boxes))

    def __len__(self) -> int:
        return len({box.finding for box in self._boxes})


def _centres(low: float, high: float, limit: int) -> slice:
    """The pixels whose centre lies in [low, high)."""
    first, last = np.clip(np.ceil(np.array([low, high]) - 0.5), 0, limit)
    return slice(int(first), int(last))
