"""Calibration of stored predictions: ECE, Brier score, reliability, temperature scaling.

Metrics: metrics/calibration.py. A temperature is fitted for each finding, on validation predictions
where the cell has them. It can also be cross-fitted on the test predictions: patients are divided
into two folds by a hash of their names, and each fold is calibrated with the temperature of the
other. This uses test labels, so these metrics carry "crossfit" in their name: they say how much of
the error a temperature would remove, and are no result of the model.

Legend: N images, K findings.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from g2dbench.data.splits.stratified import uniform_hash
from g2dbench.errors import BadResult
from g2dbench.evaluation.prediction_table import KEYS, WideTable, to_wide
from g2dbench.metrics.aggregate import PatientStatistic, per_finding, scores
from g2dbench.metrics.calibration import (
    CALIBRATION_METRICS,
    CalibrationSums,
    ReliabilityTable,
    apply_temperature,
    fit_temperature,
    reliability_table,
)
from g2dbench.metrics.labels import labeled, require_scores
from g2dbench.metrics.statistic import Statistic, undefined
from g2dbench.result import Score

COLUMNS = (*KEYS, "truth", "score")
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """Scores by name, the fitted temperatures, and reliability tables.

    scores: `ece`, `brier` and, after the temperature, `ece_crossfit`, `brier_crossfit` and, with
    validation predictions, `ece_temperature`, `brier_temperature`; each also by `:<finding>`.
    temperatures: kind of fit -> finding -> temperature; NaN where there is one class.
    reliability: finding -> table before scaling; "" pools all findings.
    """

    scores: Mapping[str, Score]
    temperatures: Mapping[str, Mapping[str, float]]
    reliability: Mapping[str, ReliabilityTable]


def why_not(predictions: pd.DataFrame) -> str | None:
    """Why predictions cannot be assessed; None if they are probabilities of findings."""
    missing = [name for name in COLUMNS if name not in predictions.columns]
    if missing:
        return f"its predictions are no probabilities of findings (no column {', '.join(missing)})"
    value = predictions["score"].to_numpy(np.float64)
    outside = (value < 0) | (value > 1)
    if outside.any():
        return f"its scores are no probabilities: {value[outside][0]:g} lies outside [0, 1]"
    return None


def calibration(predictions: pd.DataFrame, valid: pd.DataFrame | None = None) -> Calibration:
    """Assess test predictions; valid: predictions on the validation split, to fit a temperature.

    BadResult if the predictions are no probabilities, or a score is not finite.
    """
    for table in (predictions, *(() if valid is None else (valid,))):
        if reason := why_not(table):
            raise BadResult(f"calibration cannot be computed: {reason}")
    test = _probabilities(predictions)
    truth, value = test["truth"], test["score"]
    folds = crossfit_folds(test.patients)
    found = _statistics("", test, value)
    others = {"crossfit_1": folds == 1, "crossfit_2": folds == 0}
    fits = {kind: _fit(truth[rows], value[rows]) for kind, rows in others.items()}
    halves = [_scaled(value, each) for each in fits.values()]
    found |= _statistics("_crossfit", test, np.where(folds[:, None] == 0, *halves))
    if valid is not None:
        fits["valid"] = _valid_temperatures(test.findings, valid)
        found |= _statistics("_temperature", test, _scaled(value, fits["valid"]))
    reliability = {"": reliability_table(truth.ravel(), value.ravel())}
    for k, finding in enumerate(test.findings):
        reliability[finding] = reliability_table(truth[:, k], value[:, k])
    return Calibration(
        scores(found),
        {kind: dict(zip(test.findings, each.tolist(), strict=True)) for kind, each in fits.items()},
        reliability,
    )


def crossfit_folds(patients: NDArray[np.object_]) -> NDArray[np.int64]:
    """The fold of each image, 0 or 1, (N,): half of the patients each, by a hash of their names."""
    names = sorted(set(patients), key=lambda name: (uniform_hash("crossfit", str(name)), name))
    fold_of = {name: place % 2 for place, name in enumerate(names)}
    return np.array([fold_of[name] for name in patients], np.int64)


def _probabilities(predictions: pd.DataFrame) -> WideTable:
    table = to_wide(predictions, ("truth", "score"))
    ids = np.sort(predictions["id"].unique().astype(object))
    require_scores(ids, table.findings, table["truth"], table["score"])
    return table


def _fit(truth: Array, value: Array) -> Array:
    """The temperature of each finding, (K,)."""
    return np.array([fit_temperature(truth[:, k], value[:, k]) for k in range(truth.shape[1])])


def _scaled(value: Array, temperatures: Array) -> Array:
    """Probabilities (N, K) after the temperature of each finding; NaN where it is NaN."""
    columns = zip(value.T, temperatures, strict=True)
    return np.stack([apply_temperature(each, float(t)) for each, t in columns], axis=1)


def _valid_temperatures(findings: tuple[str, ...], valid: pd.DataFrame) -> Array:
    """The temperatures of these findings, NaN where the validation predictions have none."""
    table = _probabilities(valid)
    fitted = dict(zip(table.findings, _fit(table["truth"], table["score"]), strict=True))
    return np.array([fitted.get(finding, np.nan) for finding in findings])


def _statistics(suffix: str, table: WideTable, value: Array) -> dict[str, PatientStatistic]:
    """`CALIBRATION_METRICS` of each finding and averaged; undefined where a probability is NaN."""
    known = labeled(table["truth"])
    by_metric: dict[str, dict[str, Statistic]] = {name: {} for name in CALIBRATION_METRICS}
    for k, finding in enumerate(table.findings):
        unusable = not known[:, k].any() or np.isnan(value[known[:, k], k]).any()
        found = (
            dict.fromkeys(CALIBRATION_METRICS, undefined)
            if unusable
            else CalibrationSums(table["truth"][:, k], value[:, k]).statistics()
        )
        for name in CALIBRATION_METRICS:
            by_metric[name][finding] = found[name]
    merged: dict[str, PatientStatistic] = {}
    for name, by_finding in by_metric.items():
        merged |= per_finding(f"{name}{suffix}", table.patients, by_finding, known)
    return merged
