"""Masks as run lengths, and masks that are drawn only when someone asks.

Run lengths are column-major and alternate background, foreground, background, ... as in COCO's
uncompressed RLE; the first may be 0. A reader hands out `RunMasks` or `BoxMasks`, so that listing
ten thousand records holds no mask in memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from g2dbench.errors import BadData
from g2dbench.sample import Box

Mask = NDArray[np.bool_]

ROUNDING = 1e-9
"""By which a share of a pixel may be too small for its sum's sake."""


def encode(mask: Mask) -> list[int]:
    """Run lengths of an (H, W) mask; they sum to H * W."""
    flat = mask.ravel(order="F")
    if flat.size == 0:
        return []
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *runs] if flat[0] else runs


def decode(runs: Sequence[int] | NDArray[np.int64], height: int, width: int) -> Mask:
    """The (H, W) mask of run lengths; what they do not reach is background.

    BadData: a negative length, or runs that leave the image.
    """
    lengths = np.asarray(runs, dtype=np.int64)
    if lengths.size and lengths.min() < 0:
        raise BadData(f"run lengths must not be negative, found {int(lengths.min())}")
    total = sum(lengths.tolist())  # Python's numbers: a sum of absurd lengths overflows others
    if total > height * width:
        raise BadData(f"run lengths cover {total} pixels, a {height}x{width} image has fewer")
    flat = np.zeros(height * width, dtype=bool)
    flat[:total] = np.repeat(np.arange(lengths.size) % 2 == 1, lengths)
    return flat.reshape((height, width), order="F")


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
            mask |= decode(part, *self._frame)
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
