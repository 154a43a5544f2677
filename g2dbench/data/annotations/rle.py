"""Masks as run lengths: lists of numbers, or the compressed ASCII strings of COCO.

The pixels of an (H, W) mask are taken column by column. Run lengths alternate: background,
foreground, background, ...; the first may be 0. In a string, each run length is written in groups
of 5 bits, the lowest first, as characters "0" to "o"; from the fourth run on, the difference to the
run two before it is written instead. pycocotools writes and reads the same strings.

Results may come from untrusted sources, and the C reader of pycocotools does not check its input.
Here every string is validated completely before it is used, and a BadResult says what is wrong.
Source: pycocotools common/maskApi.c, rleToString.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from g2dbench.errors import BadData, BadResult

MAX_PIXELS = 1 << 26
"""Largest mask, 8192 x 8192 pixels: a malicious size must not exhaust the memory."""

_BITS_PER_CHARACTER = 5
_MAX_CHARACTERS = 6  # per number: 30 bits hold a sign and every run up to MAX_PIXELS


class Overlap(NamedTuple):
    """Numbers of foreground pixels in both masks, in the first and in the second."""

    intersection: int
    first: int
    second: int


def to_runs(mask: NDArray[np.bool_]) -> list[int]:
    """Return the run lengths of an (H, W) mask; their sum is H * W."""
    flat = mask.ravel(order="F")
    if flat.size == 0:
        return []
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *lengths] if flat[0] else lengths


def from_runs(
    runs: Sequence[int] | NDArray[np.int64], height: int, width: int
) -> NDArray[np.bool_]:
    """Return the (H, W) mask of run lengths; pixels after the last run are background.

    BadData: a length is negative, or the runs cover more pixels than the image has.
    """
    lengths = np.asarray(runs, dtype=np.int64)
    if lengths.size and lengths.min() < 0:
        raise BadData(f"run lengths must not be negative, found {int(lengths.min())}")
    # Python integers, because a sum of very large lengths overflows int64.
    total = sum(lengths.tolist())
    if total > height * width:
        raise BadData(f"run lengths cover {total} pixels, a {height}x{width} image has fewer")
    flat = np.zeros(height * width, dtype=bool)
    flat[:total] = np.repeat(np.arange(lengths.size) % 2 == 1, lengths)
    return flat.reshape((height, width), order="F")


def encode(mask: NDArray[np.bool_]) -> str:
    """Return the string of a boolean (H, W) mask; the string does not contain the size."""
    if mask.dtype != np.bool_ or mask.ndim != 2:
        raise ValueError(f"a mask is boolean (H, W); found {mask.dtype} {mask.shape}")
    _check_size(mask.shape)
    counts = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
    return str(counts.decode("ascii"))


def _check_size(size: tuple[int, ...]) -> None:
    """BadResult unless the size is (height, width) with 1 to MAX_PIXELS pixels."""
    is_pair = len(size) == 2 and all(isinstance(n, int | np.integer) for n in size)
    if not is_pair or min(size) < 1 or int(size[0]) * int(size[1]) > MAX_PIXELS:
        raise BadResult(
            f"a mask's size is (height, width) with at most {MAX_PIXELS} pixels; found {size}"
        )


def _parse_numbers(text: str) -> NDArray[np.int64]:
    """Parse the signed numbers of a string; BadResult if one is malformed or out of range."""
    if not text or not text.isascii() or min(text) < "0" or max(text) > "o":
        raise BadResult("a mask string is empty or holds characters other than '0' to 'o'")
    code = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - ord("0")
    ends = np.flatnonzero(code < 32)
    if ends.size == 0 or ends[-1] != code.size - 1:
        raise BadResult("a mask string breaks off in the middle of a number")
    starts = np.concatenate([[0], ends[:-1] + 1])
    length = ends - starts + 1
    if length.max() > _MAX_CHARACTERS:
        raise BadResult("a mask string holds a number too large for any mask")
    filler = np.where(code[ends - 1] & 16, 31, 0)
    if ((length > 1) & ((code[ends] & 31) == filler)).any():
        raise BadResult("a mask string writes a number with more characters than it needs")
    place = np.arange(code.size) - np.repeat(starts, length)
    value = np.add.reduceat((code & 31) << (_BITS_PER_CHARACTER * place), starts)
    negative = (code[ends] & 16) > 0
    return np.asarray(value - (negative.astype(np.int64) << (_BITS_PER_CHARACTER * length)))


def parse_runs(text: str, size: tuple[int, int]) -> NDArray[np.int64]:
    """Return the validated run lengths of a string, background first, as an int64 array.

    Their sum is H * W, and only the first may be 0. BadResult for any string that `encode` does
    not write for a mask of this size.
    """
    _check_size(size)
    pixels = int(size[0]) * int(size[1])
    if not isinstance(text, str) or len(text) > _MAX_CHARACTERS * (pixels + 1):
        raise BadResult("a mask must be a string no longer than its size allows")
    lengths = _parse_numbers(text)
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
    """Return the boolean (H, W) mask of a string; BadResult if it is not a mask of this size."""
    return from_runs(parse_runs(text, size), *size)


def area(text: str, size: tuple[int, int]) -> int:
    """Return the number of foreground pixels without building the mask."""
    return int(parse_runs(text, size)[1::2].sum())


def overlap(first: str, second: str, size: tuple[int, int]) -> Overlap:
    """Return the pixel counts that Dice and IoU of two masks need, without building the masks."""
    one, two = parse_runs(first, size), parse_runs(second, size)
    ends = np.cumsum(two)
    present_before = _count_present_before(one, np.concatenate([[0], ends]))
    both = (present_before[2::2] - present_before[1:-1:2]).sum()
    return Overlap(int(both), int(one[1::2].sum()), int(two[1::2].sum()))


def _count_present_before(
    lengths: NDArray[np.int64], place: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count the foreground pixels before each place in column order."""
    start = np.concatenate([[0], np.cumsum(lengths)])
    present = np.arange(lengths.size) % 2
    before = np.concatenate([[0], np.cumsum(lengths * present)])
    run = np.minimum(np.searchsorted(start, place, side="right") - 1, lengths.size - 1)
    return np.asarray(before[run] + present[run] * (place - start[run]))
