"""Resized masks, and masks that are built on access.

A reader returns `RunMasks` or `BoxMasks`, so that a list of many records holds no mask in memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from g2dbench.data.annotations import rle
from g2dbench.sample import Box

Mask = NDArray[np.bool_]

ROUNDING = 1e-9
"""Tolerance of the covered share of a pixel, for rounding errors of the sum."""


def resize(
    mask: Mask, height: int, width: int, within: tuple[float, float, float, float] | None = None
) -> Mask:
    """Resize a mask, or its rectangle `within` (x0, y0, x1, y1), to (height, width).

    A pixel of the result is set if at least half of it is covered. If no pixel is, the ones with
    the largest coverage are set, so that a small finding does not disappear.
    """
    x0, y0, x1, y1 = within or (0, 0, mask.shape[1], mask.shape[0])
    if mask.shape == (height, width) == (y1 - y0, x1 - x0):
        return mask
    down, across = np.linspace(y0, y1, height + 1), np.linspace(x0, x1, width + 1)
    covered = _integrate_rows(_integrate_rows(mask, down).T, across).T * (
        height / (y1 - y0) * width / (x1 - x0)
    )
    largest = float(covered.max())
    small: Mask = covered >= (0.5 if largest >= 0.5 else largest) - ROUNDING
    return small if largest > ROUNDING else np.zeros_like(small)


def _integrate_rows(values: NDArray[Any], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Integrate (N, M) values over the rows between K + 1 edges; returns (K, M).

    Rows that an edge divides count in proportion; Pillow's box filter counts rows only by their
    centers.
    """
    sums = np.cumsum(values, axis=0, dtype=np.int32 if values.dtype == bool else np.float64)
    row = np.minimum(edges.astype(np.int64), len(values) - 1)
    before = np.where(row[:, None] > 0, sums[row - 1], 0)
    reached = before + (edges - row)[:, None] * values[row]
    return np.diff(reached, axis=0)


class RunMasks(Mapping[str, Mask]):
    """Masks of one image from run lengths, built on access; the runs of a finding are united.

    BadData on access if runs extend beyond the frame (height, width).
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
    """Masks by finding: the union of its boxes in their frame (height, width), built on access.

    A pixel belongs to a box that covers its center.
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
            rows = _pixels_with_center_in(box.y0, box.y1, self._frame[0])
            columns = _pixels_with_center_in(box.x0, box.x1, self._frame[1])
            mask[rows, columns] = True
        return mask

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(box.finding for box in self._boxes))

    def __len__(self) -> int:
        return len({box.finding for box in self._boxes})


def _pixels_with_center_in(low: float, high: float, limit: int) -> slice:
    """The pixels of an axis whose center lies in [low, high)."""
    first, last = np.clip(np.ceil(np.array([low, high]) - 0.5), 0, limit)
    return slice(int(first), int(last))
