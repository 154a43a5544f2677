"""ROC, precision-recall and reliability curves from stored predictions of findings."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from g2dbench.errors import BadResult
from g2dbench.evaluation.prediction_table import to_wide
from g2dbench.metrics.calibration import reliability_table
from g2dbench.metrics.classification import labeled
from g2dbench.metrics.labels import require_scores
from g2dbench.reporting.html.records import number
from g2dbench.reporting.stored_results import stored_values
from g2dbench.sample import PRESENT

BINS = 10
"""Bins of a reliability curve; fewer than for the ECE, so that small test sets fill them."""

MAX_POINTS = 80
"""Most points of a curve; they lie at even distances along it."""


def has_scores(columns: Iterable[str]) -> bool:
    """Whether predictions have a truth and a score for each image and finding."""
    return {"id", "patient", "finding", "truth", "score"} <= set(columns)


def curves(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Finding -> `roc`, `pr` and `reliability`, lists of points; only findings with both classes.

    roc: false-positive rate, recall. pr: recall, precision. reliability: mean score, share of
    positives, images; None where scores are no probabilities. `positives`, `images`: counts.
    BadResult for rows that cannot be scored.
    """
    with stored_values("these predictions"):
        return _curves(table)


def _curves(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    wide = to_wide(table, ("truth", "score"))
    ids = np.unique(table["id"].to_numpy(object))
    require_scores(ids, wide.findings, wide["truth"], wide["score"])
    found = {}
    for k, finding in enumerate(wide.findings):
        truth, score = wide["truth"][:, k], wide["score"][:, k]
        known = labeled(truth)
        present = truth[known] == PRESENT
        if present.any() and not present.all():
            found[str(finding)] = _curves_of(present, score[known])
    if not found:
        raise BadResult("no finding has both positive and negative images")
    return found


def _curves_of(present: NDArray[np.bool_], score: NDArray[np.float64]) -> dict[str, Any]:
    false_positive_rate, recall, _ = roc_curve(present, score)
    precision, recalled, _ = precision_recall_curve(present, score)
    return {
        "roc": _thinned(false_positive_rate, recall),
        # The first of the reversed points, precision 1 at recall 0, is scikit-learn's convention.
        "pr": _thinned(recalled[::-1][1:], precision[::-1][1:]),
        "reliability": _reliability(present, score),
        "positives": int(present.sum()),
        "images": int(present.size),
    }


def _thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[list[float | None]]:
    """At most MAX_POINTS of the points, the first and the last among them."""
    keep = np.arange(len(x))
    if len(x) > MAX_POINTS:
        way = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
        wanted = np.linspace(0, way[-1], MAX_POINTS)
        keep = np.unique(np.concatenate([[0, len(x) - 1], np.searchsorted(way, wanted)]))
        keep = keep[keep < len(x)]
    return [[number(float(a)), number(float(b))] for a, b in zip(x[keep], y[keep], strict=True)]


def _reliability(
    present: NDArray[np.bool_], score: NDArray[np.float64]
) -> list[list[float | None]] | None:
    if (score < 0).any() or (score > 1).any():
        return None
    table = reliability_table(present.astype(float), score, BINS)
    return [
        [number(float(table.confidence[at])), number(float(table.frequency[at])), int(images)]
        for at, images in enumerate(table.images)
        if images
    ]
