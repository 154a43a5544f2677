"""Masks as run lengths: lists of numbers, or short ASCII strings as COCO compresses them.

A mask (H,W) is walked down its columns; run lengths alternate absent, present, absent ..., and the
first may be 0. In a string each is written (from the fourth on as difference to the last but one)
in 5-bit groups, lowest first, as characters "0" to "o". pycocotools writes and reads the same
strings. Results come from strangers, and pycocotools' C reader trusts its input: here a string is
checked in full before any use, and a BadResult says what is wrong. Source: pycocotools
common/maskApi.c, rleToString.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from g2dbench.errors import BadData, BadResult

MAX_PIXELS = 1 << 26
"""Largest mask accepted, 8192 x 8192: a hostile size must not fill the memory."""

_GROUP = 5  # bits per character
_LONGEST = 6  # characters per number: 30 bits hold every run up to MAX_PIXELS, and a sign


class Overlap(NamedTuple):
    """Pixels in both masks, in the first, in the second."""

    intersection: int
    first: int
    second: int


def to_runs(mask: NDArray[np.bool_]) -> list[int]:
    """Run lengths of an (H, W) mask; they sum to H * W."""
    flat = mask.ravel(order="F")
    if flat.size == 0:
        return []
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *lengths] if flat[0] else lengths


def from_runs(
    runs: Sequence[int] | NDArray[np.int64], height: int, width: int
) -> NDArray[np.bool_]:
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


def encode(mask: NDArray[np.bool_]) -> str:
    """The string of a boolean (H,W) mask; its size is kept beside it."""
    if mask.dtype != np.bool_ or mask.ndim != 2:
        raise ValueError(f"a mask is boolean (H, W); found {mask.dtype} {mask.shape}")
    _check_size(mask.shape)
    counts = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
    return str(counts.decode("ascii"))


def _check_size(size: tuple[int, ...]) -> None:
    whole = len(size) == 2 and all(isinstance(n, int | np.integer) for n in size)
    if not whole or min(size) < 1 or int(size[0]) * int(size[1]) > MAX_PIXELS:
        raise BadResult(
            f"a mask's size is (height, width) with at most {MAX_PIXELS} pixels; found {size}"
        )


def _numbers(text: str) -> NDArray[np.int64]:
    """The signed numbers written in a string; BadResult for characters or lengths out of range."""
    if not text or not text.isascii() or min(text) < "0" or max(text) > "o":
        raise BadResult("a mask string is empty or holds characters other than '0' to 'o'")
    code = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - ord("0")
    ends = np.flatnonzero(code < 32)
    if ends.size == 0 or ends[-1] != code.size - 1:
        raise BadResult("a mask string breaks off in the middle of a number")
    starts = np.concatenate([[0], ends[:-1] + 1])
    length = ends - starts + 1
    if length.max() > _LONGEST:
        raise BadResult("a mask string holds a number too large for any mask")
    filler = np.where(code[ends - 1] & 16, 31, 0)
    if ((length > 1) & ((code[ends] & 31) == filler)).any():
        raise BadResult("a mask string writes a number with more characters than it needs")
    place = np.arange(code.size) - np.repeat(starts, length)
    value = np.add.reduceat((code & 31) << (_GROUP * place), starts)
    negative = (code[ends] & 16) > 0
    return np.asarray(value - (negative.astype(np.int64) << (_GROUP * length)))


def runs(text: str, size: tuple[int, int]) -> NDArray[np.int64]:
    """Checked run lengths, absent first; they sum to H * W, and only the first may be 0.

    Raises BadResult for anything that `encode` could not have written for this size.
    """
    _check_size(size)
    pixels = int(size[0]) * int(size[1])
    if not isinstance(text, str) or len(text) > _LONGEST * (pixels + 1):
        raise BadResult("a mask must be a string no longer than its size allows")
    lengths = _numbers(text)
    if lengths.size > pixels + 1:
        raise BadResult(f"a mask string has {lengths.size} runs, more than {pixels} pixels allow")
    lengths[1::2] = np.cumsum(lengths[1::2])
    lengths[2::2] = np.cumsum(lengths[2::2])
    if lengths[0] < 0 or (lengths[1:] < 1).any():
        raise BadResult("a mask string has a run without pixels")
    if lengths.sum() != pixels:
        raise BadResult(
            f"a mask string covers {lengths.sum()} pixels, but its size {tuple(size)} has {pixels}"
        )
    return lengths


def decode(text: str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The boolean (H,W) mask of a string; BadResult if the string is not a mask of this size."""
    return from_runs(runs(text, size), *size)


def area(text: str, size: tuple[int, int]) -> int:
    """Number of present pixels, without building the mask."""
    return int(runs(text, size)[1::2].sum())


def overlap(first: str, second: str, size: tuple[int, int]) -> Overlap:
    """Pixel counts of two masks of one size from their runs alone: what Dice and IoU need."""
    one, two = runs(first, size), runs(second, size)
    ends = np.cumsum(two)
    upto = _present_before(one, np.concatenate([[0], ends]))
    both = (upto[2::2] - upto[1:-1:2]).sum()
    return Overlap(int(both), int(one[1::2].sum()), int(two[1::2].sum()))


def _present_before(lengths: NDArray[np.int64], place: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many present pixels come before each place of the column-wise walk."""
    start = np.concatenate([[0], np.cumsum(lengths)])
    present = np.arange(lengths.size) % 2
    before = np.concatenate([[0], np.cumsum(lengths * present)])
    run = np.minimum(np.searchsorted(start, place, side="right") - 1, lengths.size - 1)
    return np.asarray(before[run] + present[run] * (place - start[run]))
