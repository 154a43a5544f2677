"""Metrics that are means over images, written as a sum of one part for each image.

Legend: N images, K findings or runs that are averaged.

Dice and accuracy are means of values that each image has alone; AUC and mAP are not. A statistic is
recognized by its values: it is a mean if a resample's value is the mean of its images' own values.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from g2dbench.metrics.bootstrap import weighted_mean
from g2dbench.metrics.statistic import Combined, Statistic, averages

_PROBES, _ROUNDING = 2048, 1e-9
_MAX_ELEMENTS = 1 << 20


@dataclass(frozen=True)
class ImageMeans:
    """The mean of K means: values (K, N), NaN for images that a mean does not include."""

    values: NDArray[np.float64]

    @property
    def parts(self) -> NDArray[np.float64]:
        """(N,): what each image adds to the metric; the sum is the metric."""
        counts = (~np.isnan(self.values)).sum(axis=1, keepdims=True)
        return np.asarray(np.nan_to_num(self.values / counts).mean(axis=0))

    def same_images(self, other: "ImageMeans") -> bool:
        """Whether both include the same images, so that they can be swapped within a patient."""
        same_shape = self.values.shape == other.values.shape
        return same_shape and bool((np.isnan(self.values) == np.isnan(other.values)).all())

    def minus(self, other: "ImageMeans") -> "ImageMeans":
        """The difference, image by image."""
        return ImageMeans(self.values - other.values)

    def patients(self, patients: NDArray[np.object_]) -> int:
        """The number of patients with an image that counts."""
        return len(pd.unique(patients[~np.isnan(self.values).all(axis=0)]))

    def standard_error(self, patients: NDArray[np.object_]) -> float:
        """Of the metric, with patients as clusters; NaN with fewer than two.

        For one image of each patient it is the standard deviation over the square root of N.
        """
        bearing = ~np.isnan(self.values).all(axis=0)
        codes, ids = pd.factorize(patients[bearing])
        if len(ids) < 2:
            return float("nan")
        centered = ImageMeans(self.values - np.nanmean(self.values, axis=1, keepdims=True))
        sums = np.bincount(codes, weights=centered.parts[bearing])
        return float(np.sqrt(len(ids) / (len(ids) - 1) * (sums**2).sum()))


def image_means(statistic: Statistic, images: int) -> ImageMeans | None:
    """The statistic of N images as a mean over images; None if it is none."""
    if isinstance(statistic, Combined):
        if not averages(statistic):
            return None
        parts = [image_means(each, images) for each in statistic.statistics]
        known = [part.values for part in parts if part is not None]
        # The mean of means of unequal numbers of means would weight them wrongly.
        if len(known) != len(parts) or len({len(values) for values in known}) != 1:
            return None
        return ImageMeans(np.concatenate(known))
    random = np.random.default_rng(0)
    probes = np.sort(random.permutation(images)[:_PROBES])
    own = np.full(images, np.nan)
    own[probes] = _own_values(statistic, probes, images)
    if np.isnan(own).all() or not _is_mean(statistic, own, probes, random):
        return None
    rest = np.setdiff1d(np.arange(images), probes)
    own[rest] = _own_values(statistic, rest, images)
    return ImageMeans(own[None])


def _own_values(statistic: Statistic, rows: NDArray[np.intp], images: int) -> NDArray[np.float64]:
    """The values of these images alone."""
    step = max(1, _MAX_ELEMENTS // images)
    found = [np.zeros(0)]
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        found.append(statistic((block[:, None] == np.arange(images)).astype(np.int64)))
    return np.concatenate(found)


def _is_mean(
    statistic: Statistic,
    own: NDArray[np.float64],
    probes: NDArray[np.intp],
    random: np.random.Generator,
) -> bool:
    """Whether the values of some resamples of the probes are the means of their own values."""
    weights = np.zeros((8, len(own)), dtype=np.int64)
    weights[:, probes] = random.integers(0, 3, (8, len(probes)))
    weights[0, probes] = 1
    found, wanted = statistic(weights), weighted_mean(own, weights)
    return bool(np.allclose(found, wanted, rtol=0, atol=_ROUNDING, equal_nan=True))
