"""Metrics of zero-shot classification from stored predictions.

Legend: N images, K findings.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from g2dbench.cards import DatasetCard
from g2dbench.dataset import Dataset
from g2dbench.errors import BadResult
from g2dbench.evaluation.prediction_table import WideTable, labeled_findings, to_wide
from g2dbench.metrics.aggregate import PatientStatistic, per_finding, undefined
from g2dbench.metrics.classification import labeled
from g2dbench.metrics.confusion import (
    CLASS_METRICS,
    argmax_class,
    class_statistics,
    decision_statistics,
)
from g2dbench.metrics.labels import require_scores
from g2dbench.metrics.ranking import RANKING_METRICS, ranking_statistics
from g2dbench.metrics.statistic import Statistic
from g2dbench.sample import PRESENT

DECISIONS = ("f1", "acc", "mcc")
RANKING_OF_CLASSES = ("auc", "ap")
"""One class against the others."""


def main_metric(card: DatasetCard) -> str:
    """Accuracy of the predicted class if the findings exclude each other, else the mean AUC."""
    return "acc" if card.exclusive else "auc"


def is_exclusive(test: Dataset) -> bool:
    """Whether the labels are classes: COVIDx with two classes judges COVID-19 alone."""
    return test.card.exclusive and len(labeled_findings(test)) > 1


def classes(truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, K) labels -> the class of each image (N,), NaN unless exactly one label is 1."""
    present = truth == PRESENT
    return np.where(present.sum(axis=1) == 1, present.argmax(axis=1), np.nan)


def statistics(predictions: pd.DataFrame) -> dict[str, PatientStatistic]:
    """Metrics of each finding and averaged over the findings with positive and negative images.

    auc, ap               of the scores
    f1, acc, mcc          of the decisions; undefined for a finding without a threshold
    oracle_...            thresholds chosen on the test labels (metrics/ranking.py): upper bounds,
                          not comparable with the others
    acc, balanced_acc,    of the class with the highest score, if findings exclude each other; the
    macro_f1              other metrics are then `auc` and `ap`

    n: labeled images. BadResult names images whose score is missing or not finite.
    """
    wide = to_wide(predictions, ("truth", "score", "claim"))
    require_scores(wide.ids, wide.findings, wide["truth"], wide["score"])
    if _is_exclusive(predictions):
        return _of_findings(wide, RANKING_OF_CLASSES) | _of_classes(wide)
    decided = np.where(np.isnan(wide["claim"]).all(axis=0), np.nan, wide["truth"])
    require_scores(wide.ids, wide.findings, decided, wide["claim"])
    return _of_findings(wide, (*RANKING_METRICS, *DECISIONS))


def _is_exclusive(predictions: pd.DataFrame) -> bool:
    if "exclusive" not in predictions:  # predictions of earlier versions
        return False
    if predictions["exclusive"].nunique(dropna=False) != 1:
        raise BadResult("the predictions say both that findings exclude each other and not")
    return bool(predictions["exclusive"].iloc[0])


def _of_findings(wide: WideTable, names: tuple[str, ...]) -> dict[str, PatientStatistic]:
    """`name` and `name:<finding>` for each of the named metrics."""
    known = labeled(wide["truth"])
    each = {
        finding: _of_finding(*(wide[column][:, k] for column in ("truth", "score", "claim")))
        for k, finding in enumerate(wide.findings)
    }
    return {
        full: metric
        for name in names
        for full, metric in per_finding(
            name, wide.patients, {finding: found[name] for finding, found in each.items()}, known
        ).items()
    }


def _of_finding(
    truth: NDArray[np.float64], value: NDArray[np.float64], decision: NDArray[np.float64]
) -> dict[str, Statistic]:
    found = ranking_statistics(truth, value)
    if np.isnan(decision).all():
        return found | dict.fromkeys(DECISIONS, undefined)
    return found | decision_statistics(truth, decision)


def _of_classes(wide: WideTable) -> dict[str, PatientStatistic]:
    truth = classes(wide["truth"])
    found = class_statistics(truth, argmax_class(wide["score"]), len(wide.findings))
    n = int((~np.isnan(truth)).sum())
    return {name: PatientStatistic(wide.patients, found[name], n) for name in CLASS_METRICS}
