"""Scores of detected boxes from stored rows. Legend: N images, B resamples."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from g2dbench.errors import BadResult
from g2dbench.evaluation.detection.boxes import ONE_CLASS
from g2dbench.evaluation.prediction_table import check_columns
from g2dbench.metrics.aggregate import PatientStatistic, per_finding
from g2dbench.metrics.detection import (
    COCO_IOU_THRESHOLDS,
    IOU_THRESHOLDS,
    SIZES,
    CocoMatches,
    ImageBoxes,
)
from g2dbench.metrics.froc import CenterRule, Froc, IouRule
from g2dbench.metrics.statistic import Statistic, each_of

BOX_COLUMNS = ("id", "patient", "finding", "height", "width", "boxes", "scores", "truth")

COCO_AREA = 640 * 480
"""Pixels of a COCO image, to which images are scaled before their boxes are sorted by size."""

_ALL_THRESHOLDS = tuple(sorted({*IOU_THRESHOLDS, *COCO_IOU_THRESHOLDS}))


def box_statistics(predictions: pd.DataFrame, min_confidence: float) -> dict[str, PatientStatistic]:
    """Average precision and FROC; with several findings for each, and averaged over findings.

    `map`: COCO mAP over IoU .40:.05:.75 of all images and stored detections; `map_coco`: over
    .50:.05:.95; `ap50`, `ap75`. `ap50_small`, `_medium`, `_large`: boxes of up to 1/300 of the
    image, up to 3/100, and larger (COCO's strata at 640 x 480). `map_conf50`: `map` of detections
    with a confidence of `min_confidence` or more; `map_skip_empty`: of these, only images with both
    a detection and a ground truth box, as MGCA, which ignores false positives on healthy images and
    completely missed findings. `froc`, `sensitivity_at_R`: see `metrics.froc`, IoU .5;
    `froc_center`: by object-CXR's rule. n: images. NaN without a ground truth box.
    BadResult for broken rows, or without ground truth.
    """
    table = _checked(predictions)
    findings = sorted(table["finding"].unique())
    by_finding = {name: table[table["finding"] == name] for name in findings}
    images = next(iter(by_finding.values()))
    patients = images["patient"].to_numpy(object)
    if any(part["id"].tolist() != images["id"].tolist() for part in by_finding.values()):
        raise BadResult("the predictions do not hold every finding of every image")
    found = {name: _one_finding(part, min_confidence) for name, part in by_finding.items()}
    metrics = next(iter(found.values()))[0]
    used = np.stack([skipped for _, skipped in found.values()], axis=1)
    result: dict[str, PatientStatistic] = {}
    for metric in metrics:
        counts = used if metric == "map_skip_empty" else np.ones_like(used)
        by_name = {name: statistics[metric] for name, (statistics, _) in found.items()}
        result |= per_finding(metric, patients, by_name, counts)
    if findings == [ONE_CLASS]:
        return {name: statistic for name, statistic in result.items() if ":" not in name}
    return result


def _checked(predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows sorted by image and finding; BadResult for missing columns or repeated rows."""
    if "finding" not in predictions.columns:  # results before findings could be told apart
        predictions = predictions.assign(finding=ONE_CLASS)
    check_columns(predictions, BOX_COLUMNS)
    table = predictions.sort_values(["finding", "id"], kind="stable")
    repeated = table.duplicated(["finding", "id"])
    if repeated.any():
        raise BadResult(f"the predictions hold image {table['id'][repeated].iloc[0]!r} twice")
    if predictions["truth"].isna().any():
        image = predictions["id"][predictions["truth"].isna()].iloc[0]
        raise BadResult(
            f"the predictions have no ground truth for image {image!r}: they cannot be scored"
        )
    return table


def _one_finding(
    table: pd.DataFrame, min_confidence: float
) -> tuple[dict[str, Statistic], NDArray[np.bool_]]:
    """The statistics of one finding, and (N,) the images that `map_skip_empty` uses."""
    columns = ("id", "boxes", "scores", "truth")
    images = [_image_boxes(*row) for row in zip(*(table[name] for name in columns), strict=True)]
    confident = CocoMatches([_confident(image, min_confidence) for image in images])
    found = _averages(images) | {
        "map_conf50": confident.mean_average_precision,
        "map_skip_empty": confident.skipping_empty,
    }
    areas = (table["height"] * table["width"]).to_numpy(np.float64)
    scaled = [_scaled(*pair) for pair in zip(images, np.sqrt(COCO_AREA / areas), strict=True)]
    for name, size in SIZES.items():
        found[f"ap50_{name}"] = CocoMatches(scaled, [0.5], size).mean_average_precision
    found |= Froc(images, IouRule()).statistics()
    found["froc_center"] = Froc(images, CenterRule()).statistics()["froc"]
    return found, confident.detected_and_true


def _averages(images: Sequence[ImageBoxes]) -> dict[str, Statistic]:
    return each_of(_Averages(images), ("map", "map_coco", "ap50", "ap75"))


class _Averages:
    """The averages over IoU thresholds, from one matching."""

    def __init__(self, images: Sequence[ImageBoxes]) -> None:
        self._matches = CocoMatches(images, _ALL_THRESHOLDS)

    def __call__(
        self, weights: NDArray[np.int64], names: AbstractSet[str]
    ) -> Mapping[str, NDArray[np.float64]]:
        per_iou = self._matches.average_precision(weights)
        thresholds = {
            "map": IOU_THRESHOLDS, "map_coco": COCO_IOU_THRESHOLDS, "ap50": (0.5,), "ap75": (0.75,)
        }  # fmt: skip
        return {
            name: per_iou[:, [_ALL_THRESHOLDS.index(t) for t in thresholds[name]]].mean(axis=1)
            for name in names
        }


def _image_boxes(image: str, *stored: NDArray[np.float64]) -> ImageBoxes:
    """The detections and ground truth of one stored row; BadResult if they are broken."""
    try:
        boxes, scores, truth = (np.asarray(numbers, np.float64) for numbers in stored)
        return ImageBoxes(boxes.reshape(-1, 4), scores, truth.reshape(-1, 4))
    except (ValueError, TypeError) as error:
        raise BadResult(f"the boxes of image {image!r} cannot be scored: {error}") from error


def _confident(image: ImageBoxes, min_confidence: float) -> ImageBoxes:
    passed = image.scores >= min_confidence
    return ImageBoxes(image.detected[passed], image.scores[passed], image.truth)


def _scaled(image: ImageBoxes, factor: float) -> ImageBoxes:
    return ImageBoxes(image.detected * factor, image.scores, image.truth * factor)
