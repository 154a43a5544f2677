"""How alike two models' features of the same items are: linear CKA, mutual nearest neighbors.

Legend: N items, D width. Features are (N,D); the widths may differ. Both measures are 1 for equal
features, and do not change if features are rotated or scaled. Neither tells which model is better.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from g2dbench.errors import BadResult
from g2dbench.metrics.retrieval import TIE_TOLERANCE

NEIGHBORS = 10
_MAX_ELEMENTS = 1 << 22  # item x item cells held at once: 32 MB

Features = NDArray[np.float64]


def _checked(first: ArrayLike, second: ArrayLike) -> tuple[NDArray, NDArray]:
    one, other = np.asarray(first), np.asarray(second)
    if one.ndim != 2 or other.ndim != 2 or len(one) != len(other):
        raise ValueError(f"features {one.shape} and {other.shape} must be (items, width)")
    for values in (one, other):
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if bad.size:
            raise BadResult(f"the features of row {bad[0]} are not finite; encode it again")
    return one, other


def linear_cka(first: ArrayLike, second: ArrayLike) -> float:
    """Linear centered kernel alignment, from 0 to 1; NaN for features that are constant.

    Too high with few items: unrelated features of width D and N items reach about D / (D + N). Use
    `debiased_cka` unless the items are many more than the features are wide.
    Source: Kornblith et al. 2019, Similarity of Neural Network Representations Revisited, eq. 4.
    """
    one, other = _checked(first, second)
    (xx, yy, xy) = _squared_products(one, other)
    return _normalized(xy, xx, yy)


def _normalized(both: float, one: float, other: float) -> float:
    return both / float(np.sqrt(one * other)) if one > 0 and other > 0 else float("nan")


def _chunks(one: NDArray, other: NDArray) -> Iterator[tuple[Features, Features]]:
    """Centered rows of both, some at a time, as float64."""
    if len(one) == 0:
        return
    means = [values.mean(axis=0, dtype=np.float64) for values in (one, other)]
    step = max(1, _MAX_ELEMENTS // max(1, one.shape[1] + other.shape[1]))
    for at in range(0, len(one), step):
        yield one[at : at + step] - means[0], other[at : at + step] - means[1]


def _squared_products(one: NDArray, other: NDArray) -> tuple[float, float, float]:
    """Squared Frobenius norms of the centered products X'X, Y'Y and X'Y."""
    widths = one.shape[1], other.shape[1]
    xx, yy, xy = (np.zeros((widths[i], widths[j])) for i, j in ((0, 0), (1, 1), (0, 1)))
    for x, y in _chunks(one, other):
        xx += x.T @ x
        yy += y.T @ y
        xy += x.T @ y
    return float((xx**2).sum()), float((yy**2).sum()), float((xy**2).sum())


def debiased_cka(first: ArrayLike, second: ArrayLike) -> float:
    """Linear CKA from the unbiased estimate of HSIC: near 0 for unrelated features of any width.

    At most 1, and at times a little below 0. NaN for fewer than 4 items, or features that are
    constant. Source: Song et al. 2012, Feature Selection via Dependence Maximization, eq. 5;
    Nguyen et al. 2021, Do Wide and Deep Networks Learn the Same Things?
    """
    one, other = _checked(first, second)
    if len(one) < 4:
        return float("nan")
    squares = _squared_products(one, other)
    parts = [((x**2).sum(axis=1), (y**2).sum(axis=1)) for x, y in _chunks(one, other)]
    kernels = [np.concatenate(diagonal) for diagonal in zip(*parts, strict=True)]
    xx = _unbiased_hsic(squares[0], kernels[0], kernels[0])
    yy = _unbiased_hsic(squares[1], kernels[1], kernels[1])
    return _normalized(_unbiased_hsic(squares[2], kernels[0], kernels[1]), xx, yy)


def _unbiased_hsic(square: float, one: Features, other: Features) -> float:
    """The unbiased estimate for two linear kernels of centered rows.

    square: squared norm of X'Y. one, other: diagonals (N,) of the kernels. Without its diagonal, a
    kernel's row i sums to minus its diagonal entry, since the rows are centered.
    """
    n = len(one)
    trace = square - float(one @ other)
    total = float(one.sum()) * float(other.sum())
    crossed = float(one @ other)
    return (trace + total / ((n - 1) * (n - 2)) - 2 * crossed / (n - 2)) / (n * (n - 3))


def mutual_neighbors(
    first: ArrayLike, second: ArrayLike, k: int = NEIGHBORS
) -> NDArray[np.float64]:
    """Share of each item's k nearest neighbors that both features have in common, (N,).

    Neighbors by cosine among all other items. The mean over items is the measure; unrelated
    features reach k / (N - 1). Equally similar neighbors are taken in the order of items.
    Source: Huh et al. 2024, The Platonic Representation Hypothesis, appendix A.
    """
    one, other = _checked(first, second)
    if not 1 <= k < max(2, len(one)):
        raise ValueError(f"{len(one)} items have no {k} neighbors: k must be 1 to {len(one) - 1}")
    parts = [
        (a[:, :, None] == b[:, None, :]).any(axis=2).mean(axis=1)
        for a, b in zip(_neighbors(one, k), _neighbors(other, k), strict=True)
    ]
    return np.concatenate([np.zeros(0), *parts])


def _neighbors(features: NDArray, k: int) -> Iterator[NDArray[np.intp]]:
    """The k nearest items of some items at a time, (n,k)."""
    rows = np.asarray(features, np.float64)
    length = np.linalg.norm(rows, axis=1)
    if (length == 0).any():
        row = int(np.flatnonzero(length == 0)[0])
        raise BadResult(f"the features of row {row} are all 0: they have no direction")
    rows = rows / length[:, None]
    step = max(1, _MAX_ELEMENTS // max(1, len(rows)))
    later = np.arange(len(rows)) * (TIE_TOLERANCE / 2 / max(1, len(rows)))
    for at in range(0, len(rows), step):
        cosine = np.round(rows[at : at + step] @ rows.T, 9) - later
        own = np.arange(len(cosine))
        cosine[own, at + own] = -np.inf
        yield np.argpartition(-cosine, k - 1, axis=1)[:, :k]
