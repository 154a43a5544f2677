"""Black and white borders of films: collimated margins, scanner frames, padding to a square."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # the command line names the choices before it needs arrays
    import numpy as np
    from numpy.typing import NDArray

Border = Literal["keep", "crop"]
KEEP: Border = "keep"
CROP: Border = "crop"

SLACK = 8
"""Levels from 0 and from 255 that count as black and as white; JPEG blurs a border by a few."""

Window = tuple[int, int, int, int]
"""Top, left, bottom, right; the last two are outside."""


def inside(grey: "NDArray[np.uint8]") -> Window:
    """The window of an (H, W) image without its borders.

    A border is a row or a column at the edge that is black throughout or white throughout; they
    are taken off until none is left, so that a black frame within a white one goes too. A letter
    in a margin ends it. An image of nothing else is left whole. Differs from G2D's `ext_data.py`,
    which keeps the bounding box of whatever is not 0.
    """
    top, left, (bottom, right) = 0, 0, grey.shape
    while True:
        rows, columns = (_uniform(grey[top:bottom, left:right], axis) for axis in (1, 0))
        if rows.all() or columns.all():
            return 0, 0, *grey.shape
        above, below, before, behind = *_ends(rows), *_ends(columns)
        if not (above or below or before or behind):
            return top, left, bottom, right
        top, bottom, left, right = top + above, bottom - below, left + before, right - behind


def _uniform(grey: "NDArray[np.uint8]", axis: int) -> "NDArray[np.bool_]":
    """Which rows (axis 1) or columns (axis 0) are black or white throughout."""
    flags: NDArray[np.bool_] = (grey.max(axis) <= SLACK) | (grey.min(axis) >= 255 - SLACK)
    return flags


def _ends(flags: "NDArray[np.bool_]") -> tuple[int, int]:
    """How many lead and how many trail; not all are set."""
    return int(flags.argmin()), int(flags[::-1].argmin())
