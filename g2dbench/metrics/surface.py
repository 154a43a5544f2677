"""Distances between the boundaries of two masks: HD95 and ASSD, in pixels of the masks.

The boundary of a mask is its pixels with a neighbor (above, below, left, right) outside the mask;
beyond the image is outside. For each boundary pixel of one mask, the distance to the nearest
boundary pixel of the other one is taken, in both directions.

    hd95   the larger of the two 95th percentiles (MONAI's compute_hausdorff_distance; other code
           takes the percentile of both directions together)
    assd   mean over the boundary pixels of both masks (MONAI's compute_average_surface_distance
           with symmetric=True)

Both depend on the number of pixels: a protocol states the side to which it resizes the masks.
Empty masks have no boundary. Rule: 0 if both are empty, the image's diagonal if one is. So a missed
finding and a false one count as the worst error; for images with the finding only, use
`segmentation.only_positive`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt

PERCENTILE = 95


class SurfaceDistances(NamedTuple):
    """HD95 and ASSD of one image, in pixels."""

    hd95: float
    assd: float


def surface_distances(predicted: ArrayLike, truth: ArrayLike) -> SurfaceDistances:
    """HD95 and ASSD of two boolean masks of one image, (H,W)."""
    pred, true = np.asarray(predicted), np.asarray(truth)
    if pred.ndim != 2 or pred.shape != true.shape or pred.dtype != bool or true.dtype != bool:
        raise ValueError(
            f"two boolean masks (H,W) of the same shape are needed; found {pred.dtype} "
            f"{pred.shape} and {true.dtype} {true.shape}"
        )
    if not (pred.any() and true.any()):
        worst = float(np.hypot(*pred.shape)) if pred.any() or true.any() else 0.0
        return SurfaceDistances(worst, worst)
    box = _around(pred | true)  # no distance between the boundaries needs a pixel outside
    one, other = _boundary(pred[box]), _boundary(true[box])
    forth, back = _distances(one, other), _distances(other, one)
    hd95 = max(np.percentile(forth, PERCENTILE), np.percentile(back, PERCENTILE))
    return SurfaceDistances(float(hd95), float(np.concatenate([forth, back]).mean()))


def _around(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The smallest rectangle that contains the mask."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(mask & ~binary_erosion(mask))


def _distances(boundary: NDArray[np.bool_], other: NDArray[np.bool_]) -> NDArray[np.float64]:
    """For each pixel of one boundary, the distance to the nearest pixel of the other one."""
    return np.asarray(distance_transform_edt(~other)[boundary])
