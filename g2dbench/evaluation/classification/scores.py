"""Predictions of findings in long form, and their metrics.

Columns id, patient, finding, truth, score, threshold, exclusive. The threshold has the best F1 on
the validation split, NaN if that has no positive image. For classes that exclude each other
(exclusive is True) there is no threshold: the class with the highest score is predicted.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from g2dbench.cards import DatasetCard
from g2dbench.dataset import Dataset
from g2dbench.errors import BadData, BadResult
from g2dbench.evaluation.cell_folder import store_predictions
from g2dbench.evaluation.heads.saved_head import SavedHead
from g2dbench.evaluation.imported.score_file import read_scores
from g2dbench.evaluation.prediction_table import WideTable, labels, long_table, to_wide
from g2dbench.metrics.aggregate import PatientStatistic, per_finding, undefined
from g2dbench.metrics.calibration import CALIBRATION_METRICS, CalibrationSums
from g2dbench.metrics.classification import binarize, labeled
from g2dbench.metrics.confusion import (
    CLASS_METRICS,
    argmax_class,
    class_statistics,
    decision_statistics,
)
from g2dbench.metrics.labels import require_scores
from g2dbench.metrics.ranking import ranking_statistics
from g2dbench.metrics.statistic import Statistic
from g2dbench.result import VALID_PREDICTIONS, VALID_PREDICTIONS_FILE
from g2dbench.sample import PRESENT
from g2dbench.task import Run

Array = NDArray[np.float64]

SCORE_METRICS = ("auc", "ap", *CALIBRATION_METRICS)
DECISIONS = ("f1", "acc", "mcc", "balanced_acc")


def main_metric(card: DatasetCard) -> str:
    """Accuracy of the predicted class if the findings exclude each other, else the mean AUC."""
    return "acc" if card.exclusive else "auc"


def predictions(
    test: Dataset,
    findings: tuple[str, ...],
    score: NDArray[np.float64],
    threshold: NDArray[np.float64],
    exclusive: bool,
) -> pd.DataFrame:
    """One row per test image and finding; score (N, K) in [0, 1], threshold (K,)."""
    return long_table(
        test,
        findings,
        truth=labels(test, findings),
        score=score,
        threshold=np.full(len(findings), np.nan) if exclusive else threshold,
        exclusive=np.array(exclusive),
    )


def of_head(test: Dataset, head: SavedHead, score: NDArray[np.float64]) -> pd.DataFrame:
    """`predictions` of a fitted head, whose facts name findings, thresholds and exclusiveness."""
    facts = head.facts
    thresholds = np.array(facts["thresholds"], np.float64)
    return predictions(test, tuple(facts["findings"]), score, thresholds, facts["exclusive"])


def store_validation(run: Run[Any], valid: Dataset, head: SavedHead, score: Array) -> None:
    """Write the head's predictions on the validation split into the cell's folder, if it has one.

    Calibration fits a temperature on them. score (N, K); their digest goes into the details.
    """
    if run.folder is not None:
        table = of_head(valid, head, score)
        digest = store_predictions(table, run.folder, VALID_PREDICTIONS_FILE)
        run.details[VALID_PREDICTIONS] = digest


def from_file(path: Path, test: Dataset, findings: tuple[str, ...]) -> pd.DataFrame:
    """`predictions` from a CSV that was made elsewhere.

    Thresholds are the file's: the first of each finding. Without them, F1, accuracy and MCC are
    undefined, unless the findings exclude each other.
    """
    given = read_scores(path, test, findings)
    known = ~np.isnan(given.threshold)
    first = np.where(known.any(axis=0), known.argmax(axis=0), 0)
    threshold = given.threshold[first, np.arange(len(findings))]
    if (known & (given.threshold != threshold)).any():
        raise BadData(f"{path}: a finding has several thresholds; give one for all images")
    return predictions(test, findings, given.score, threshold, test.card.exclusive)


def statistics(table: pd.DataFrame) -> dict[str, PatientStatistic]:
    """Metrics of each finding and averaged over findings; n: labeled images.

    auc, ap, ece, brier   of the scores
    f1, acc, mcc,         at the threshold chosen on the validation split; undefined with one
    balanced_acc          class or without a threshold
    acc, balanced_acc,    of the predicted class, if the findings exclude each other; one number
    macro_f1              each, over the images that have exactly one class

    BadResult names images with a label but without a finite score.
    """
    wide = to_wide(table, ("truth", "score", "threshold"))
    ids = np.unique(table["id"].to_numpy(object))
    require_scores(ids, wide.findings, wide["truth"], wide["score"])
    known = labeled(wide["truth"])
    found = _of_findings(wide, known, SCORE_METRICS)
    if _is_exclusive(table):
        return found | _of_classes(wide)
    return found | _of_findings(wide, known, DECISIONS)


def _is_exclusive(table: pd.DataFrame) -> bool:
    if "exclusive" not in table:  # predictions of earlier versions
        return False
    if table["exclusive"].nunique() != 1:
        raise BadResult("the predictions say both that findings exclude each other and not")
    return bool(table["exclusive"].iloc[0])


def _of_findings(
    wide: WideTable, known: NDArray[np.bool_], names: tuple[str, ...]
) -> dict[str, PatientStatistic]:
    """`name` and `name:<finding>` for each of the named metrics."""
    each = {
        finding: _of_finding(*(wide[c][:, k] for c in ("truth", "score", "threshold")))
        for k, finding in enumerate(wide.findings)
    }
    return {
        full: metric
        for name in names
        for full, metric in per_finding(
            name, wide.patients, {finding: each[finding][name] for finding in each}, known
        ).items()
    }


def _of_finding(
    truth: NDArray[np.float64], score: NDArray[np.float64], threshold: NDArray[np.float64]
) -> dict[str, Statistic]:
    found = ranking_statistics(truth, score)
    found |= CalibrationSums(truth, score).statistics()
    if np.isnan(threshold).all():
        return found | dict.fromkeys(DECISIONS, undefined)
    return found | decision_statistics(truth, binarize(score, float(threshold[0])))


def _of_classes(wide: WideTable) -> dict[str, PatientStatistic]:
    present = wide["truth"] == PRESENT
    one = present.sum(axis=1) == 1
    truth = np.where(one, present.argmax(axis=1), np.nan)
    found = class_statistics(truth, argmax_class(wide["score"]), len(wide.findings))
    return {
        name: PatientStatistic(wide.patients, found[name], int(one.sum())) for name in CLASS_METRICS
    }
