"""Black and white borders of films: collimated margins, scanner frames, padding to a square."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # the command line names the choices before it needs arrays
    import numpy as np
    from numpy.typing import NDArray

Border = Literal["keep", "crop"]
KEEP: Border = "keep"
CROP: Border = "crop"

TOLERANCE = 8
"""Levels from 0 and from 255 that count as black and as white; JPEG blurs a border by a few."""

Window = tuple[int, int, int, int]
"""Top, left, bottom, right; the last two are exclusive."""


def content_window(gray: "NDArray[np.uint8]") -> Window:
    """Return the window of an (H, W) image without its borders.

    A border is a row or a column at the edge whose pixels are all black or all white. Borders are
    removed until no edge is one, so that a black frame within a white frame is removed too. A
    letter in a margin ends the border there. An image that consists only of borders is kept whole.
    G2D's `ext_data.py` differs: it keeps the bounding box of all pixels that are not 0.
    """
    top, left, (bottom, right) = 0, 0, gray.shape
    while True:
        rows, columns = (_is_uniform(gray[top:bottom, left:right], axis) for axis in (1, 0))
        if rows.all() or columns.all():
            return 0, 0, *gray.shape
        above, below = _count_at_ends(rows)
        before, after = _count_at_ends(columns)
        if not (above or below or before or after):
            return top, left, bottom, right
        top, bottom, left, right = top + above, bottom - below, left + before, right - after


def _is_uniform(gray: "NDArray[np.uint8]", axis: int) -> "NDArray[np.bool_]":
    """Whether each row (axis 1) or column (axis 0) is all black or all white."""
    flags: NDArray[np.bool_] = (gray.max(axis) <= TOLERANCE) | (gray.min(axis) >= 255 - TOLERANCE)
    return flags


def _count_at_ends(flags: "NDArray[np.bool_]") -> tuple[int, int]:
    """The number of set flags at the start and at the end; at least one flag must not be set."""
    return int(flags.argmin()), int(flags[::-1].argmin())
