"""Tests the difference between two models, paired over patients and over seeds.

Shapes: S seeds, N images. Both models were scored on the same images with the same S seeds; the
difference is that between their means over seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from g2dbench.cards import TaskCard
from g2dbench.errors import BadResult
from g2dbench.evaluation.cell_folder import read_predictions
from g2dbench.metrics.aggregate import PatientStatistic
from g2dbench.metrics.bootstrap import Statistic, paired_bootstrap
from g2dbench.registry import Registry
from g2dbench.result import PREDICTIONS_FILE, RESULT_FILE, Result, load
from g2dbench.task import protocol_of_cell


@dataclass(frozen=True)
class Comparison:
    """First model minus second, in the unit of the metric.

    low, high: 95 % confidence interval over patients, for the given seeds. p_patients: two-sided p
    of the paired bootstrap over patients, for these trained models. p_seeds: two-sided p of the
    paired t-test over seeds, that is over trainings; NaN for one seed. by_seed: the difference of
    each seed.
    """

    value: float
    low: float
    high: float
    p_patients: float
    p_seeds: float
    by_seed: tuple[float, ...]


def compare(
    first: Sequence[Path], second: Sequence[Path], registry: Registry, metric: str | None = None
) -> Comparison:
    """Compare the finished cells (folders) of two models, one per seed, paired by position.

    metric: None for the task's main score.
    Raises BadResult where cells are not finished, or differ in task, data, subset or images, and
    where the task has no `statistics`.
    """
    if len(first) != len(second) or not first:
        raise BadResult(f"{len(first)} and {len(second)} cells cannot be paired")
    pairs = [
        read_pair(one, other, registry, metric) for one, other in zip(first, second, strict=True)
    ]
    patients = pairs[0][0].patients
    if any(not np.array_equal(m.patients, patients) for pair in pairs for m in pair):
        raise BadResult(f"{first[0]} and its seeds were scored on different images")
    ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    test = paired_bootstrap(_mean(ours), _mean(theirs), patients)
    by_seed = tuple(one.value - other.value for one, other in pairs)
    return Comparison(test.value, test.low, test.high, test.p_value, _t_test(by_seed), by_seed)


def read_pair(
    one: Path, other: Path, registry: Registry, metric: str | None
) -> tuple[PatientStatistic, PatientStatistic]:
    """The metric of two cells on the same images; BadResult as for `compare`."""
    left, right = _read_finished(one), _read_finished(other)
    for name in ("task", "data", "fraction", "seed", "subset_seed", "limit"):
        if getattr(left.cell, name) != getattr(right.cell, name):
            raise BadResult(f"{one} and {other} cannot be compared: their {name} differs")
    for name in ("data", "subset"):
        if getattr(left.provenance, name) != getattr(right.provenance, name):
            raise BadResult(f"{one} and {other} cannot be compared: their {name} is not the same")
    task = registry.find(TaskCard, left.cell.task).load()
    tables = [read_predictions(folder / PREDICTIONS_FILE) for folder in (one, other)]
    if set(tables[0]["id"]) != set(tables[1]["id"]):
        raise BadResult(f"{one} and {other} cannot be compared: they contain different images")
    first, second = (
        _patient_statistic(task, result, table, metric or left.metric)
        for result, table in zip((left, right), tables, strict=True)
    )
    return first, second


def _read_finished(folder: Path) -> Result:
    result = load(folder / RESULT_FILE)
    if result.status != "done" or not (folder / PREDICTIONS_FILE).is_file():
        raise BadResult(
            f"{folder} has no predictions to compare: {result.reason or 'the file is missing'}"
        )
    return result


def _patient_statistic(
    task: ModuleType, result: Result, table: pd.DataFrame, metric: str
) -> PatientStatistic:
    if not hasattr(task, "statistics"):
        raise BadResult(
            f"the task {result.cell.task!r} has no `statistics`, so its models cannot be "
            "compared patient by patient (see g2dbench/task.py)"
        )
    config = protocol_of_cell(task, result.cell.protocol)
    found: dict[str, PatientStatistic] = task.statistics(table, config)
    if metric not in found:
        raise BadResult(f"the task {result.cell.task!r} has no metric {metric!r}")
    return found[metric]


def _mean(metrics: Sequence[PatientStatistic]) -> Statistic:
    def statistic(weights: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray(np.mean([metric.statistic(weights) for metric in metrics], axis=0))

    return statistic


def _t_test(differences: Sequence[float]) -> float:
    """Two-sided p of a mean difference of 0; NaN for one seed or equal differences."""
    if len(differences) < 2 or np.ptp(differences) == 0:
        return float("nan")
    return float(stats.ttest_1samp(differences, 0.0).pvalue)
