"""Gaps between groups of patients, from stored predictions.

A metric is the task's own `statistics`, restricted to each group. The gap is the largest minus the
smallest value. It is above 0 by chance even if groups are alike, so a permutation test goes with
it, which shuffles the groups among patients (metrics/aggregate.py).

Legend: N images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from g2dbench.errors import BadResult, Misuse
from g2dbench.metrics.aggregate import PatientStatistic, gap_p_value, per_group, scores
from g2dbench.metrics.bootstrap import holm
from g2dbench.result import Score

AGE_BANDS = (18, 40, 60, 80)
MIN_PATIENTS = 50


@dataclass(frozen=True)
class Group:
    """A group and its score; None if the group is withheld because it has too few patients."""

    name: str
    patients: int
    images: int
    score: Score | None


@dataclass(frozen=True)
class GroupGap:
    """A metric by group. gap: largest minus smallest value, NaN for fewer than two groups.

    p_value: one-sided, of the permutation test; NaN if `mixed`, the number of patients with images
    of several groups, is not 0. p_holm: adjusted for the findings that were tested together.
    unknown: images without a group, which are in no group.
    """

    metric: str
    groups: tuple[Group, ...]
    gap: Score
    p_value: float
    p_holm: float
    mixed: int
    unknown: int


def age_bands(
    ages: Sequence[float] | NDArray[np.float64], edges: Sequence[int]
) -> list[str | None]:
    """The band of each age, such as "18-39" or "80+"; None where the age is not known.

    edges: the first year of each band after the first one. Misuse unless they increase.
    """
    if not edges or list(edges) != sorted(set(edges)) or edges[0] <= 0:
        raise Misuse(f"age bands {', '.join(map(str, edges))} must increase and be above 0")
    lows = [0, *edges]
    names = [f"{low}-{high - 1}" for low, high in zip(lows, edges, strict=False)]
    names.append(f"{edges[-1]}+")
    values = np.asarray(ages, np.float64)
    places = np.searchsorted(edges, values, side="right")
    return [
        None if np.isnan(value) or value < 0 else names[place]
        for value, place in zip(values, places, strict=True)
    ]


def group_gaps(
    predictions: pd.DataFrame,
    statistics: Mapping[str, PatientStatistic],
    metrics: Sequence[str],
    groups: Mapping[str, str | None],
    min_patients: int = MIN_PATIENTS,
) -> list[GroupGap]:
    """The gap of each of these metrics between groups of images.

    statistics: of the task, on these predictions. groups: image id -> group, None if not known.
    Groups of fewer than `min_patients` patients are withheld and do not count for the gap.
    BadResult if a metric is not there or is not computed image by image.
    """
    images = _images(predictions)
    names = np.array([groups.get(image) for image in images["id"]], dtype=object)
    names[pd.isna(names)] = None
    sizes = {
        name: (images["patient"][names == name].nunique(), int((names == name).sum()))
        for name in sorted({name for name in names if name is not None})
    }
    shown = np.array(
        [name if name is not None and sizes[name][0] >= min_patients else None for name in names],
        dtype=object,
    )
    mixed = _mixed(images["patient"], shown)
    found = [
        _gap(metric, _statistic(metric, statistics, images), shown, sizes, mixed)
        for metric in metrics
    ]
    unknown = int(pd.isna(names).sum())
    adjusted = holm([each.p_value for each in found])
    return [
        replace(each, p_holm=float(p), unknown=unknown)
        for each, p in zip(found, adjusted, strict=True)
    ]


def _images(predictions: pd.DataFrame) -> pd.DataFrame:
    """Id and patient of each image, sorted by id as in the statistics of all tasks."""
    images = predictions[["id", "patient"]].drop_duplicates().sort_values("id", kind="stable")
    return images.reset_index(drop=True)


def _statistic(
    metric: str, statistics: Mapping[str, PatientStatistic], images: pd.DataFrame
) -> PatientStatistic:
    if metric not in statistics:
        raise BadResult(f"there is no score {metric!r}; there are: {', '.join(statistics)}")
    found = statistics[metric]
    if not np.array_equal(found.patients, images["patient"].to_numpy(object)):
        raise BadResult(f"{metric!r} is not computed image by image, so it has no groups")
    return found


def _mixed(patients: pd.Series, names: NDArray[np.object_]) -> int:
    """The number of patients with images of several groups."""
    known = names != None  # noqa: E711  (elementwise)
    counts = pd.Series(names[known]).groupby(patients.to_numpy(object)[known]).nunique()
    return int((counts > 1).sum())


def _gap(
    metric: str,
    statistic: PatientStatistic,
    names: NDArray[np.object_],
    sizes: Mapping[str, tuple[int, int]],
    mixed: int,
) -> GroupGap:
    found = scores(per_group(metric, statistic, names))
    groups = tuple(
        Group(name, patients, images, found.get(f"{metric}@{name}"))
        for name, (patients, images) in sizes.items()
    )
    gap = found[f"{metric}_gap"]
    p_value = float("nan")
    if not mixed and not np.isnan(gap.value):
        # As for the gap, without groups in which the metric is undefined.
        defined = {each.name for each in groups if each.score and not np.isnan(each.score.value)}
        tested = np.array([name if name in defined else None for name in names], dtype=object)
        p_value = gap_p_value(statistic, tested)
    return GroupGap(metric, groups, gap, p_value, float("nan"), mixed, 0)
