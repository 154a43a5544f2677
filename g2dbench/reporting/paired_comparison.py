"""Is the difference between two models real? Paired over patients and over seeds.

Legend: S seeds, N images. Both models were scored on the same images with the same S seeds; the
difference is that of their means over seeds.
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
from g2dbench.metrics.aggregate import PatientStatistic
from g2dbench.metrics.bootstrap import Statistic, paired_bootstrap
from g2dbench.registry import Registry
from g2dbench.result import PREDICTIONS_FILE, RESULT_FILE, Result, load
from g2dbench.task import protocol_of_cell


@dataclass(frozen=True)
class Comparison:
    """First minus second, in the metric's own unit.

    low, high: 95 % over patients, the seeds as they are. p_patients: two-sided, by the paired
    bootstrap over patients: would other patients have said the same of these trained models?
    p_seeds: paired t-test over seeds, NaN for one: would other trainings? by_seed: each difference.
    """

    value: float
    low: float
    high: float
    p_patients: float
    p_seeds: float
    by_seed: tuple[float, ...]


def compare(first: Sequence[Path], second: Sequence[Path], registry: Registry) -> Comparison:
    """Two models' finished cells (folders), paired in the order given: one a seed.

    BadResult where cells are not finished, of different tasks, data, subsets or images, or of a
    task that offers no statistics.
    """
    if len(first) != len(second) or not first:
        raise BadResult(f"{len(first)} and {len(second)} cells cannot be paired")
    pairs = [_pair(one, other, registry) for one, other in zip(first, second, strict=True)]
    patients = pairs[0][0].patients
    if any(not np.array_equal(m.patients, patients) for pair in pairs for m in pair):
        raise BadResult(f"{first[0]} and its seeds were scored on different images")
    ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    found = paired_bootstrap(_mean(ours), _mean(theirs), patients)
    by_seed = tuple(one.value - other.value for one, other in pairs)
    return Comparison(found.value, found.low, found.high, found.p_value, _t_test(by_seed), by_seed)


def _pair(one: Path, other: Path, registry: Registry) -> tuple[PatientStatistic, PatientStatistic]:
    left, right = _finished(one), _finished(other)
    for name in ("task", "data", "fraction", "seed", "subset_seed", "limit"):
        if getattr(left.cell, name) != getattr(right.cell, name):
            raise BadResult(f"{one} and {other} cannot be compared: their {name} differs")
    for name in ("data", "subset"):
        if getattr(left.provenance, name) != getattr(right.provenance, name):
            raise BadResult(
                f"{one} and {other} cannot be compared: they were made on another {name}"
            )
    task = registry.find(TaskCard, left.cell.task).load()
    tables = [pd.read_parquet(folder / PREDICTIONS_FILE) for folder in (one, other)]
    if set(tables[0]["id"]) != set(tables[1]["id"]):
        raise BadResult(f"{one} and {other} cannot be compared: they hold different images")
    first, second = (
        _measured(task, result, table) for result, table in zip((left, right), tables, strict=True)
    )
    return first, second


def _finished(folder: Path) -> Result:
    result = load(folder / RESULT_FILE)
    if result.status != "done" or not (folder / PREDICTIONS_FILE).is_file():
        raise BadResult(
            f"{folder} has no predictions to compare: {result.reason or 'they are gone'}"
        )
    return result


def _measured(task: ModuleType, result: Result, table: pd.DataFrame) -> PatientStatistic:
    if not hasattr(task, "statistics"):
        raise BadResult(
            f"the task {result.cell.task!r} offers no `statistics`, so its models cannot be "
            "compared patient by patient (see g2dbench/task.py)"
        )
    config = protocol_of_cell(task, result.cell.protocol)
    found: PatientStatistic = task.statistics(table, config)[result.metric]
    return found


def _mean(metrics: Sequence[PatientStatistic]) -> Statistic:
    def statistic(weights: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray(np.mean([metric.statistic(weights) for metric in metrics], axis=0))

    return statistic


def _t_test(differences: Sequence[float]) -> float:
    """Two-sided p of "the mean difference is 0"; NaN for one seed, or if all are equal."""
    if len(differences) < 2 or np.ptp(differences) == 0:
        return float("nan")
    return float(stats.ttest_1samp(differences, 0.0).pvalue)
