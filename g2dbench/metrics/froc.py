"""FROC: sensitivity at a number of false positives per image, over all resamples of the images.

Legend: N images, B resamples, C detections. Images without ground truth count, too.
A detection counts if its score is at least t. For each rate r, t is the lowest score with at most r
false positives per image; equal scores share a threshold. The sensitivity is the share of ground
truth boxes that are found. Two rules say what finds a box:

    IouRule      COCO's matching: IoU at least .5, each box once; a second detection of a box is a
                 false positive
    CenterRule   the detection's center lies in the box, edges included; a second detection of a box
                 is neither right nor wrong (object-CXR's and CAMELYON16's evaluation)

Differences from object-CXR's froc.py: it reads the sensitivity when the rate is first reached, so
that boxes found between that false positive and the next one do not count; it ranks equal scores by
their order in the file; and it repeats the last value for a rate that is never reached.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from g2dbench.metrics.box_matching import ALL_SIZES, ImageBoxes, match_detections
from g2dbench.metrics.labels import Weights, check_weights
from g2dbench.metrics.ratio import ratio
from g2dbench.metrics.statistic import Statistic, each_of

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per image, of LUNA16 and object-CXR."""

_MAX_ELEMENTS = 1 << 20  # resamples x detections held at once: 8 MB per array


class Findings(NamedTuple):
    """Detections in decreasing order of score: image, newly found boxes, false positive, each (C,).

    truth_counts: (N,) ground truth boxes of each image.
    """

    scores: NDArray[np.float64]
    owner: NDArray[np.intp]
    found: NDArray[np.int64]
    false: NDArray[np.bool_]
    truth_counts: NDArray[np.int64]


@dataclass(frozen=True)
class IouRule:
    """COCO's matching at one IoU threshold; size: areas of the boxes that count, in pixels²."""

    iou_threshold: float = 0.5
    size: tuple[float, float] = ALL_SIZES

    def find(self, images: Sequence[ImageBoxes]) -> Findings:
        """Compare every detection with the ground truth."""
        match = match_detections(images, [self.iou_threshold], self.size)
        found, ignored = match.matched[0], match.ignored[0]
        return Findings(
            match.scores, match.owner, found.astype(np.int64), ~found & ~ignored, match.truth_counts
        )


@dataclass(frozen=True)
class CenterRule:
    """The center of the detection lies in the box; size: areas of the boxes that count, pixels²."""

    size: tuple[float, float] = ALL_SIZES

    def find(self, images: Sequence[ImageBoxes]) -> Findings:
        """Compare every detection with the ground truth."""
        parts = [self._find_in(image) for image in images]
        counts = np.array([self._counts(image.truth).sum() for image in images], dtype=np.int64)
        owners = [np.full(len(found), i) for i, (_, found, _) in enumerate(parts)]
        score = np.concatenate([np.zeros(0), *(scores for scores, _, _ in parts)])
        order = np.argsort(-score, kind="stable")
        return Findings(
            score[order],
            np.concatenate([np.zeros(0), *owners])[order].astype(np.intp),
            np.concatenate([np.zeros(0), *(found for _, found, _ in parts)])[order].astype(int),
            np.concatenate([np.zeros(0), *(false for _, _, false in parts)])[order].astype(bool),
            counts,
        )

    def _counts(self, truth: NDArray[np.float64]) -> NDArray[np.bool_]:
        area = (truth[:, 2] - truth[:, 0]) * (truth[:, 3] - truth[:, 1])
        return np.asarray((area >= self.size[0]) & (area <= self.size[1]))

    def _find_in(
        self, image: ImageBoxes
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
        """Scores, newly found boxes and false positives of one image, in decreasing order."""
        order = np.argsort(-image.scores, kind="stable")
        boxes = image.detected[order]
        center = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
        inside = (center >= image.truth[:, :2]) & (center <= image.truth[:, 2:])
        hit = inside.all(axis=2)
        first = hit & (np.cumsum(hit, axis=0) == 1)
        new = (first & self._counts(image.truth)).sum(axis=1)
        return image.scores[order], new, np.asarray(hit.sum(axis=1) == 0)


class Froc:
    """The FROC curve of any resample of the images.

    The mean over the rates is "froc", the sensitivity at a rate "sensitivity_at_0.125" etc. NaN in
    a resample without a ground truth box.
    """

    def __init__(
        self,
        images: Sequence[ImageBoxes],
        rule: IouRule | CenterRule,
        rates: Sequence[float] = RATES,
    ) -> None:
        if not rates or min(rates) <= 0:
            raise ValueError(f"rates of false positives per image must be positive; found {rates}")
        self.rates = tuple(rates)
        self._all = rule.find(images)
        score = self._all.scores
        self._ends = np.flatnonzero(np.append(score[1:] != score[:-1], True)[: score.size])

    def sensitivity(self, weights: Weights) -> NDArray[np.float64]:
        """Sensitivity (B,R) at each of the R rates for multiplicities (B,N)."""
        check_weights(weights, self._all.truth_counts.size)
        step = max(1, _MAX_ELEMENTS // max(1, self._all.owner.size))
        blocks = [
            self._sensitivity(weights[start : start + step])
            for start in range(0, len(weights), step)
        ]
        return np.concatenate([np.zeros((0, len(self.rates))), *blocks])

    def _sensitivity(self, weights: Weights) -> NDArray[np.float64]:
        counts = weights[:, self._all.owner]
        found, false = (
            np.cumsum(counts * column, axis=1)[:, self._ends]
            for column in (self._all.found, self._all.false)
        )
        found = np.concatenate([np.zeros((len(weights), 1)), found], axis=1)
        limits = np.outer(weights.sum(axis=1), self.rates)
        thresholds = np.stack(  # how many thresholds have at most this many false positives
            [(false <= limits[:, r, None]).sum(axis=1) for r in range(len(self.rates))], axis=1
        )
        positives = weights @ self._all.truth_counts
        return ratio(np.take_along_axis(found, thresholds, axis=1), positives[:, None])

    def __call__(
        self, weights: Weights, names: AbstractSet[str]
    ) -> Mapping[str, NDArray[np.float64]]:
        """The values (B,) of each of the named metrics for multiplicities (B,N)."""
        at_rates = self.sensitivity(weights)
        found = {_name(rate): at_rates[:, r] for r, rate in enumerate(self.rates)}
        found["froc"] = np.asarray(at_rates.mean(axis=1))
        return {name: found[name] for name in names}

    def statistics(self) -> dict[str, Statistic]:
        """The mean sensitivity "froc" and that at each rate, as statistics."""
        return each_of(self, ["froc", *map(_name, self.rates)])


def _name(rate: float) -> str:
    return f"sensitivity_at_{rate:g}"
