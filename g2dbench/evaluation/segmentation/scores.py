"""Scores of predicted masks from stored run lengths. Legend: N images, K findings."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from g2dbench.data.annotations import rle
from g2dbench.errors import BadResult
from g2dbench.evaluation.prediction_table import KEYS, WideTable, check_columns, to_wide
from g2dbench.metrics.aggregate import PatientStatistic, per_finding
from g2dbench.metrics.bootstrap import mean_of
from g2dbench.metrics.segmentation import OVERLAP_METRICS, OverlapCounts
from g2dbench.metrics.statistic import Statistic
from g2dbench.metrics.surface import surface_distances

MASK_COLUMNS = (*KEYS, "height", "width", "truth", "predicted")
_COUNTS = ("intersection", "predicted", "truth", "pixels")
_DISTANCES = ("hd95", "assd")

HEADLINES = {"dice_positive": "dice", "iou_positive": "iou"}
"""The main conventions have short names."""


def mask_statistics(predictions: pd.DataFrame, distance_side: int) -> dict[str, PatientStatistic]:
    """Every overlap metric and both boundary distances, per finding and averaged over findings.

    Names: `metrics.segmentation`; "dice" and "iou" are those of images with the finding. `hd95` and
    `assd` are means over images with the finding, in pixels of an image whose longer side has
    `distance_side` pixels; lower is better. BadResult without ground truth.
    """
    check_columns(predictions, MASK_COLUMNS)
    if predictions["truth"].isna().any():
        image = predictions["id"][predictions["truth"].isna()].iloc[0]
        raise BadResult(
            f"the predictions have no ground truth for image {image!r}: they cannot be scored"
        )
    rows = [_numbers(row, distance_side) for row in predictions[list(MASK_COLUMNS[3:])].to_numpy()]
    columns = dict(zip((*_COUNTS, *_DISTANCES), np.array(rows, np.float64).T, strict=True))
    table = to_wide(predictions[[*KEYS]].assign(**columns), list(columns))
    found: dict[str, PatientStatistic] = {}
    for name, statistics in _by_metric(table).items():
        found |= per_finding(name, table.patients, statistics, _images_of(name, table))
    return found


def _numbers(row: NDArray[np.object_], side: int) -> tuple[float, ...]:
    """The four counts and two distances of one stored row."""
    size = (int(row[0]), int(row[1]))
    counts = rle.overlap(row[3], row[2], size)
    distances: tuple[float, ...] = (np.nan, np.nan)
    if counts.second:
        masks = rle.decode(row[3], size), rle.decode(row[2], size)
        distances = tuple(d * side / max(size) for d in surface_distances(*masks))
    return (*counts, size[0] * size[1], *distances)


def _by_metric(table: WideTable) -> dict[str, dict[str, Statistic]]:
    """metric -> finding -> statistic; the short names first."""
    names = sorted(OVERLAP_METRICS, key=lambda name: name not in HEADLINES)
    found: dict[str, dict[str, Statistic]] = {HEADLINES.get(name, name): {} for name in names}
    found |= {name: {} for name in _DISTANCES}
    for k, finding in enumerate(table.findings):
        counts = OverlapCounts(*(table[column][:, k] for column in _COUNTS))
        for name, statistic in counts.statistics().items():
            found[HEADLINES.get(name, name)][finding] = statistic
        for name in _DISTANCES:
            found[name][finding] = mean_of(table[name][:, k])
    return found


def _images_of(name: str, table: WideTable) -> NDArray[np.bool_]:
    """(N, K): the images that count."""
    if name in (*HEADLINES.values(), *_DISTANCES):
        return np.asarray(table["truth"] > 0)
    return ~np.isnan(table["truth"])
