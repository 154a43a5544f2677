"""What is drawn over the image of a case: ground truth and prediction.

Shapes: H W pixels of the stored image; boxes are (x0, y0, x1, y1) in them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from g2dbench.data.annotations import rle
from g2dbench.dataset import Dataset
from g2dbench.errors import BadData, BadResult
from g2dbench.figures.overlay import Boxes, Overlay
from g2dbench.reporting.errors.cases import Case, boxes_of, map_of
from g2dbench.reporting.stored_results import StoredResult, stored_values
from g2dbench.sample import Sample


@dataclass
class Films:
    """The images of one data set by their ids, read once each."""

    dataset: Dataset
    rows: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = {str(name): row for row, name in enumerate(self.dataset.table["id"])}

    def sample(self, name: str) -> Sample:
        """The image with this id; BadData if the data set does not have it."""
        if name not in self.rows:
            card = self.dataset.card.name
            raise BadData(f"data set {card!r} has no image {name!r}: it is not the one evaluated")
        return self.dataset[self.rows[name]]


def check_fingerprint(dataset: Dataset, stored: StoredResult) -> None:
    """Raise BadResult unless the data set is the one on which the result was evaluated."""
    if dataset.fingerprint != stored.result.provenance.data:
        raise BadResult(
            f"the prepared data set {dataset.card.name!r} is not the one of {stored.folder}: its "
            "fingerprint differs; prepare it again with the settings of the evaluation"
        )


MIN_CONFIDENCE = 0.05
MAX_BOXES = 8
"""Only the surest boxes of a confidence of at least 0.05 are drawn, 8 at most."""


def overlay_of(case: Case, record: dict[Any, Any], sample: Sample) -> Overlay:
    """The overlay of a case; record: its row of the predictions.

    BadResult if stored masks, boxes or maps do not fit the image.
    """
    with stored_values(f"the prediction of image {case.id!r}"):
        return _overlay_of(case, record, sample)


def _overlay_of(case: Case, record: dict[Any, Any], sample: Sample) -> Overlay:
    if "grid" in record:
        return _map_overlay(record, sample)
    if "boxes" in record:
        return _box_overlay(record)
    if "predicted" in record:
        return _mask_overlay(record, sample)
    masks = sample.masks or {}
    boxes = [box for box in sample.boxes or () if box.finding == case.finding]
    return Overlay(
        truth_boxes=tuple((box.x0, box.y0, box.x1, box.y1) for box in boxes),
        truth_mask=masks.get(case.finding),
    )


def _map_overlay(record: dict[Any, Any], sample: Sample) -> Overlay:
    relevance, truth = map_of(record)
    _check_shape(relevance.shape, sample)
    low, high = float(np.nanmin(relevance)), float(np.nanmax(relevance))
    heat = (relevance - low) / (high - low or 1.0)
    predicted = np.nan_to_num(relevance, nan=-np.inf) > float(record["threshold"])
    return Overlay(
        truth_mask=truth,
        predicted_mask=predicted,
        heat=heat.astype(np.float32),
        heat_range=(low, high),
    )


def _box_overlay(record: dict[Any, Any]) -> Overlay:
    boxes, scores, truth = boxes_of(record["boxes"], record["scores"], record["truth"])
    order = np.argsort(-scores, kind="stable")[:MAX_BOXES]
    order = order[scores[order] >= MIN_CONFIDENCE]
    return Overlay(
        truth_boxes=_as_tuples(truth),
        predicted_boxes=_as_tuples(boxes[order]),
        confidences=tuple(scores[order].tolist()),
    )


def _as_tuples(boxes: NDArray[np.float64]) -> Boxes:
    return tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in boxes)


def _mask_overlay(record: dict[Any, Any], sample: Sample) -> Overlay:
    size = int(record["height"]), int(record["width"])
    _check_shape(size, sample)
    truth = record["truth"]
    return Overlay(
        truth_mask=rle.decode(truth, size) if isinstance(truth, str) else None,
        predicted_mask=rle.decode(record["predicted"], size),
    )


def _check_shape(shape: tuple[int, ...], sample: Sample) -> None:
    if tuple(shape) != sample.image.shape:
        raise BadResult(
            f"the prediction of image {sample.id!r} is for {shape} pixels, but the prepared image "
            f"has {sample.image.shape}: prepare the data set in the size of the evaluation"
        )
