"""Labels and scores of one finding, and weights of resamples: what a metric accepts.

Legend: N images, K findings, B resamples.
Labels: 1 present, 0 absent; -1 (uncertain) and NaN (not labeled) are excluded from that finding.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from g2dbench.errors import BadResult
from g2dbench.sample import ABSENT, PRESENT, UNCERTAIN

Weights = NDArray[np.integer]

_NAMED = 3  # images that an error message names


def labeled(truth: ArrayLike) -> NDArray[np.bool_]:
    """True for labels 0 and 1, False for -1 (uncertain) and NaN (missing); else ValueError."""
    label = np.asarray(truth, dtype=np.float64)
    known: NDArray[np.bool_] = (label == PRESENT) | (label == ABSENT)
    left_out = (label == UNCERTAIN) | np.isnan(label)
    if not (known | left_out).all():
        strange = label[~(known | left_out)][0]
        raise ValueError(f"labels must be 1, 0, -1 (uncertain) or NaN (missing); found {strange:g}")
    return known


def labeled_scores(
    truth: ArrayLike, score: ArrayLike
) -> tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[np.float64]]:
    """Indices of the labeled images, their labels and their scores, each (M,), M <= N.

    Raises ValueError if shapes differ, BadResult if the score of a labeled image is not finite.
    """
    label, value = np.asarray(truth), np.asarray(score, dtype=np.float64)
    if label.ndim != 1 or label.shape != value.shape:
        raise ValueError(
            f"labels {label.shape} and scores {value.shape} must be two equally long lists"
        )
    rows = np.flatnonzero(labeled(label))
    if not np.isfinite(value[rows]).all():
        row = rows[~np.isfinite(value[rows])][0]
        raise BadResult(f"the score of row {row} is {value[row]}; every labeled image needs one")
    return rows, label[rows] == PRESENT, value[rows]


def require_scores(
    ids: Sequence[str] | NDArray[np.object_],
    findings: Sequence[str],
    truth: ArrayLike,
    score: ArrayLike,
) -> None:
    """Raise BadResult that names findings and images whose score is NaN or infinite.

    ids (N,), findings (K,), truth and score (N,K). Images that are not labeled need no score.
    """
    known, value = labeled(truth), np.asarray(score, dtype=np.float64)
    if known.shape != value.shape or known.shape != (len(ids), len(findings)):
        raise ValueError(
            f"labels {known.shape} and scores {value.shape} do not fit {len(ids)} images and "
            f"{len(findings)} findings"
        )
    for k, finding in enumerate(findings):
        bad = np.flatnonzero(known[:, k] & ~np.isfinite(value[:, k]))
        if bad.size:
            named = ", ".join(f"{ids[row]!r} ({value[row, k]})" for row in bad[:_NAMED])
            more = f" and {bad.size - _NAMED} more" if bad.size > _NAMED else ""
            raise BadResult(
                f"the predictions of {finding!r} cannot be scored: the score of image "
                f"{named}{more} is not a finite number; predict these images again"
            )


def ones_weights(count: int) -> NDArray[np.int64]:
    """Weights of one, (1, count): every image counts once."""
    return np.ones((1, count), dtype=np.int64)


def check_weights(weights: Weights, count: int) -> None:
    """Raise ValueError unless the weights are integer multiplicities of shape (B, count)."""
    if weights.ndim != 2 or weights.shape[1] != count:
        raise ValueError(f"weights have shape {weights.shape}; expected (resamples, {count})")
    if not np.issubdtype(weights.dtype, np.integer):
        raise ValueError(f"weights are integer multiplicities, not {weights.dtype}")
    if weights.size and weights.min() < 0:
        raise ValueError("weights are multiplicities and cannot be negative")
