"""Detection: a YOLOv3 head on the frozen encoder's feature pyramid.

Source: G2D paper, sections 4.1 and A.4, which follow MGCA (mgca/models/ssl_detector.py,
mgca/datasets/detection_dataset.py).
Settings: images stretched to the model's input, no augmentation; AdamW with weight decay 1e-6 and
learning rate 5e-4, batches of 16; for 1 % of the training images 2e-4 and batches of 8. 50 epochs,
early stopping with patience 10; mAP over IoU .40:.05:.75; non-maximum suppression at IoU .5. All
findings are one class, "lesion", as in MGCA.
Differences from MGCA:
  - mAP counts all images and all confidences. `map_skip_empty` is MGCA's mAP, see `statistics`.
    Early stopping uses the validation mAP, as in MGCA, but our definition: MGCA's confidence limit
    of .5 keeps it at 0 for the first epochs of a small training set.
  - the encoder is in eval mode: MGCA freezes its weights, but not its batch norm statistics.
  - the number of boxes per image is not limited; MGCA pads to 10 (RSNA) or 20 (Object-CXR).
The head, its loss and their differences from MGCA: g2dbench/evaluation/heads/yolo.py.

Legend: N images, B batch, P predictions of an image, S input side.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from g2dbench.cards import TaskCard
from g2dbench.dataset import Dataset
from g2dbench.errors import BadData, BadResult
from g2dbench.evaluation.fit_head import INIT, FitSettings
from g2dbench.evaluation.fitted_task import annotated, check_splits, fit_in_run
from g2dbench.evaluation.frozen_features import FrozenEncoder, PyramidCache, encode_in_chunks
from g2dbench.evaluation.heads.yolo import (
    NmsSettings,
    YoloHead,
    assign_targets,
    detection_loss,
    detections,
    scale_inputs,
)
from g2dbench.evaluation.prediction_table import check_columns
from g2dbench.metrics.aggregate import PatientStatistic, scores
from g2dbench.metrics.bootstrap import Statistic
from g2dbench.metrics.detection import CocoMatches, ImageBoxes, coco_map
from g2dbench.model import Features, Model, missing_capability
from g2dbench.result import Score
from g2dbench.sample import Sample
from g2dbench.system.seeded_init import seeded
from g2dbench.task import Run

CARD = TaskCard(
    name="det",
    summary="Detection of findings by a YOLOv3 head on the frozen encoder.",
    needs=("features",),
    annotations=("boxes",),
    protocols=("g2d",),
    metric="map",
    source="G2D paper, sections 4.1 and A.4; MGCA mgca/models/ssl_detector.py",
    order=40,
)

COLUMNS = ("id", "patient", "height", "width", "boxes", "scores", "truth")
SCORED = ("id", "boxes", "scores", "truth")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Settings of the fitted head.

    findings: those whose boxes are used, as one class; None for all.
    small_fraction: up to this fraction `fit_small_fraction` replaces `fit`, as in the paper.
    min_steps_per_epoch: 160 images, 1 % of RSNA, in batches of 8.
    stored_nms: of detections that are stored and scored. monitor_nms: for early stopping.
    min_confidence: minimum confidence of a detection in MGCA's published mAP.
    """

    version: int = 1
    findings: tuple[str, ...] | None = None
    small_fraction: float = 0.01
    fit_small_fraction: FitSettings = field(
        default_factory=lambda: FitSettings(
            lr=2e-4, weight_decay=1e-6, batch_size=8, epochs=50, patience=10, min_steps_per_epoch=20
        )
    )
    fit: FitSettings = field(
        default_factory=lambda: FitSettings(
            lr=5e-4,
            weight_decay=1e-6,
            batch_size=16,
            epochs=50,
            patience=10,
            min_steps_per_epoch=20,
        )
    )
    stored_nms: NmsSettings = field(default_factory=NmsSettings)
    monitor_nms: NmsSettings = field(default_factory=lambda: NmsSettings(max_detections=10))
    min_confidence: float = 0.5


PROTOCOLS: Mapping[str, Protocol] = {"g2d": Protocol()}


def predict(model: Model, run: Run[Protocol]) -> pd.DataFrame:
    """One row per test image annotated with boxes: detections and ground truth.

    Columns id, patient, height, width; boxes and truth (flat lists, four numbers xyxy per box, in
    image pixels); scores (one confidence per entry of `boxes`, in decreasing order).
    BadData if a split has no annotated image, or the training or validation split has no box.
    """
    if not isinstance(model, Features):
        raise missing_capability(model, CARD)
    check_splits(run)
    test = annotated(run.test, "boxes", "test")
    frozen, head = _frozen(model, run), _head(model, run)
    train, valid = (
        _Split(frozen, head, _images_with_boxes(part, name, run), run, f"det {name} features")
        for name, part in (("train", run.train), ("valid", run.valid))
    )
    settings = (
        run.protocol.fit_small_fraction
        if run.fraction <= run.protocol.small_fraction
        else run.protocol.fit
    )
    fit_in_run(
        run,
        head,
        len(train.pyramids),
        train.loss,
        lambda: -valid.mean_average_precision(settings.batch_size),
        settings,
        "det fit",
    )
    return pd.DataFrame(_rows(frozen, head, test, run), columns=COLUMNS)


def score(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, Score]:
    """The value and the confidence interval of each of `statistics`."""
    return scores(statistics(predictions, protocol))


def statistics(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, PatientStatistic]:
    """COCO mAP over IoU .40:.05:.75, in three definitions.

    `map`: all images, all stored detections. `map_conf50`: only detections with confidence .5 or
    more. `map_skip_empty`: of these, only images with both a detection and a ground truth box, as
    MGCA; it ignores false positives on healthy images and completely missed findings. n: images;
    NaN if no image has a ground truth box.
    """
    check_columns(predictions, COLUMNS)
    table = predictions.sort_values("id", kind="stable")
    if table["id"].duplicated().any():
        image = table["id"][table["id"].duplicated()].iloc[0]
        raise BadResult(f"the predictions hold image {image!r} twice")
    patients = table["patient"].to_numpy(object)
    images = [_image_boxes(*row) for row in zip(*(table[name] for name in SCORED), strict=True)]
    all_detections = CocoMatches(images)
    confident = CocoMatches([_confident(image, protocol.min_confidence) for image in images])
    return {
        "map": PatientStatistic(patients, all_detections.mean_average_precision, len(table)),
        "map_conf50": PatientStatistic(patients, confident.mean_average_precision, len(table)),
        "map_skip_empty": PatientStatistic(
            patients, _skipping_empty(confident), int(confident.detected_and_true.sum())
        ),
    }


def _skipping_empty(matches: CocoMatches) -> Statistic:
    return lambda weights: matches.mean_average_precision(weights * matches.detected_and_true)


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


class _Split:
    """One split: feature pyramids, boxes, regression targets; the head's loss and mAP."""

    def __init__(
        self, frozen: FrozenEncoder, head: YoloHead, data: Dataset, run: Run[Protocol], title: str
    ) -> None:
        self.pyramids = PyramidCache(frozen, data, run, title)
        self._head = head
        self._layout = head.layout(run.device)
        self._nms = run.protocol.monitor_nms
        self._boxes = [_input_boxes(sample, frozen, run.protocol.findings) for sample in data]
        self._targets = [assign_targets(boxes, self._layout) for boxes in self._boxes]

    def loss(self, indices: Tensor) -> Tensor:
        """The head's loss on these images."""
        raw = self._head(self.pyramids.batch(indices))
        return detection_loss(raw, [self._targets[int(index)] for index in indices], self._layout)

    def mean_average_precision(self, batch_size: int) -> float:
        """mAP on all images for early stopping, in pixels of the network's input."""
        found = []
        for indices in torch.arange(len(self.pyramids)).split(batch_size):
            raw = self._head(self.pyramids.batch(indices))
            found += detections(raw, self._layout, self._nms)
        images = zip(found, self._boxes, strict=True)
        return coco_map([ImageBoxes(*detected, truth) for detected, truth in images]).value


def _input_boxes(
    sample: Sample, frozen: FrozenEncoder, findings: Sequence[str] | None
) -> NDArray[np.float32]:
    geometry = frozen.preprocess.geometry(*sample.image.shape)
    return geometry.boxes_to_input(_truth(sample, findings))


def _truth(sample: Sample, findings: Sequence[str] | None) -> NDArray[np.float64]:
    """(G, 4) boxes of the image with one of the findings."""
    boxes = [box[1:] for box in sample.boxes or () if findings is None or box.finding in findings]
    return np.array(boxes, np.float64).reshape(-1, 4)


def _images_with_boxes(data: Dataset, name: str, run: Run[Protocol]) -> Dataset:
    """The annotated images; BadData if none of them has a box of the findings."""
    images, findings = annotated(data, "boxes", name), run.protocol.findings
    if not any(len(_truth(sample, findings)) for sample in images):
        raise BadData(
            f"none of the {len(images)} {name} images of {data.card.name} has a box of "
            f"{' or '.join(findings or ('any finding',))} at --fraction {run.fraction:g}: "
            "increase it, or choose a data set with more findings"
        )
    return images


def _frozen(model: Model, run: Run[Protocol]) -> FrozenEncoder:
    """The encoder, limited to the pyramid levels that the head uses, on the stretched image."""
    assert isinstance(model, Features)
    features, levels = model.features, _levels(model)

    def encode(images: Tensor) -> list[Tensor]:
        pyramid = features(images)
        return [pyramid[level] for level in levels]

    output = f"features {levels}"
    return FrozenEncoder(model, encode, model.preprocess.stretched(), run, output)


def _levels(model: Features) -> list[int]:
    return sorted({source.level for source in scale_inputs(model.strides)})


def _head(model: Model, run: Run[Protocol]) -> YoloHead:
    assert isinstance(model, Features)
    levels, size = _levels(model), model.preprocess.size
    channels = [model.channels[level] for level in levels]
    strides = [model.strides[level] for level in levels]
    head = seeded(lambda: YoloHead(channels, strides, size), run.generator(INIT))
    return head.to(run.device)


def _rows(
    frozen: FrozenEncoder, head: YoloHead, test: Dataset, run: Run[Protocol]
) -> Iterator[tuple[object, ...]]:
    """Yield the values of COLUMNS for each annotated test image."""
    layout = head.layout(run.device)
    for samples, maps in encode_in_chunks(frozen, test, run, "det test"):
        with torch.no_grad():
            raw = head([level.float() for level in maps])
        found = detections(raw, layout, run.protocol.stored_nms)
        for sample, (boxes, confidences) in zip(samples, found, strict=True):
            height, width = sample.image.shape
            in_image = frozen.preprocess.geometry(height, width).boxes_to_image(boxes)
            truth = _truth(sample, run.protocol.findings)
            flat = (part.ravel().tolist() for part in (in_image, confidences, truth))
            yield (sample.id, sample.patient, height, width, *flat)
