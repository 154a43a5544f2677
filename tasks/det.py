"""Detection: a head on an encoder's feature pyramid.

Sources: G2D paper, sections 4.1 and A.4; MGCA mgca/models/ssl_detector.py and
mgca/utils/yolo_loss.py; FCOS (Tian et al. 2019) as in torchvision.
Protocols, in full in docs/tasks/det.md:
  g2d         YOLOv3 head on the frozen encoder; AdamW with weight decay 1e-6 and learning rate
              5e-4, batches of 16; up to 1 % of the training images 2e-4 and batches of 8. 50
              epochs, early stopping on the validation mAP with patience 10.
  mgca        the same as MGCA's code has it: batch norm of the encoder in train mode, its own
              target rules, NMS with a margin of one pixel, early stopping on its mAP of images with
              a detection and a box; object-CXR's learning rate.
  fcos        ours: torchvision's FCOS with a feature pyramid network, on the frozen encoder.
  fcos-full   ours: the same, and the encoder is updated.
Every protocol stretches images to the model's input, without augmentation. Findings are one class,
"lesion", as in MGCA; with `classes="each"` each finding is a class.
Differences from MGCA, in every protocol:
  - the headline `map` counts all images and all confidences; `map_skip_empty` is MGCA's.
  - the last, incomplete batch of an epoch is used; small training sets are repeated in an epoch.
  - the number of boxes per image is not limited; MGCA pads to 10 (RSNA) or 20 (object-CXR).
  - the input is the model's own preprocessing.
In `g2d` also: the encoder is in eval mode; early stopping uses our mAP, since MGCA's confidence
limit of .5 keeps its mAP at 0 for the first epochs of a small training set; and the rules named in
evaluation/detection/yolo_targets.py (`YoloSettings`).

Legend: N images, B batch, S input side.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from g2dbench.cards import TaskCard
from g2dbench.dataset import Dataset
from g2dbench.errors import BadCheckpoint, BadData
from g2dbench.evaluation.detection.boxes import (
    BoxSplit,
    Monitor,
    findings_with_boxes,
)
from g2dbench.evaluation.detection.detector import Detector, NmsSettings, scale_inputs
from g2dbench.evaluation.detection.fcos import FcosHead, FcosSettings
from g2dbench.evaluation.detection.predictions import box_rows
from g2dbench.evaluation.detection.scores import BOX_COLUMNS, box_statistics
from g2dbench.evaluation.detection.yolo import YoloHead
from g2dbench.evaluation.detection.yolo_targets import MGCA, OURS, YoloSettings
from g2dbench.evaluation.fit_head import INIT, FitSettings
from g2dbench.evaluation.fitted_task import annotated, check_splits, fit_in_run, save_if_asked
from g2dbench.evaluation.heads.network import (
    EncoderUse,
    Levels,
    Network,
    frozen_encoder,
    restore,
    seeded_dropout,
)
from g2dbench.evaluation.heads.saved_head import SavedHead
from g2dbench.evaluation.imported.box_file import read_boxes
from g2dbench.metrics.aggregate import PatientStatistic, scores
from g2dbench.model import Features, Model, missing_capability
from g2dbench.result import Score
from g2dbench.system.seeded_init import seeded
from g2dbench.task import Run

CARD = TaskCard(
    name="det",
    summary="Detection of findings by a head on the encoder's features.",
    needs=("features",),
    annotations=("boxes",),
    protocols=("g2d", "mgca", "fcos", "fcos-full"),
    metric="map",
    source="G2D paper, sections 4.1 and A.4; MGCA mgca/models/ssl_detector.py; torchvision FCOS",
    order=40,
)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Settings of the fitted head.

    detector: the head; yolo, fcos: its settings. encoder: see `heads/network`.
    findings: those whose boxes are used; None for all that have a box.
    classes: "one" for all findings as one class, "each" for a class for each.
    small_fraction: up to this fraction `fit_small_fraction` replaces `fit`, as in the paper.
    lr_small_fraction: its learning rate on a data set, by name, where that differs.
    stored_nms: of detections that are stored and scored. monitor, monitor_nms: of early stopping.
    min_confidence: minimum confidence of a detection in MGCA's published mAP.
    """

    version: int = 1
    detector: Literal["yolo", "fcos"] = "yolo"
    yolo: YoloSettings = OURS
    fcos: FcosSettings = field(default_factory=FcosSettings)
    encoder: EncoderUse = "frozen"
    findings: tuple[str, ...] | None = None
    classes: Literal["one", "each"] = "one"
    small_fraction: float = 0.01
    lr_small_fraction: Mapping[str, float] = field(default_factory=dict)
    # At least 160 images an epoch, 1 % of RSNA, in batches of 8.
    fit_small_fraction: FitSettings = field(
        default_factory=lambda: FitSettings(
            lr=2e-4, weight_decay=1e-6, batch_size=8, min_steps_per_epoch=20
        )
    )
    fit: FitSettings = field(
        default_factory=lambda: FitSettings(
            lr=5e-4, weight_decay=1e-6, batch_size=16, min_steps_per_epoch=20
        )
    )
    stored_nms: NmsSettings = field(default_factory=NmsSettings)
    monitor: Monitor = "map"
    monitor_nms: NmsSettings = field(default_factory=lambda: NmsSettings(max_detections=10))
    min_confidence: float = 0.5

    def fit_of(self, dataset: str, fraction: float) -> FitSettings:
        """The settings of the fit on a fraction of a data set."""
        if fraction > self.small_fraction:
            return self.fit
        small = self.fit_small_fraction
        return replace(small, lr=self.lr_small_fraction.get(dataset, small.lr))


_G2D = Protocol()
_FCOS_FIT = FitSettings(
    lr=2e-4, weight_decay=1e-4, batch_size=16, schedule="cosine", min_steps_per_epoch=20
)
_FCOS = replace(
    _G2D,
    detector="fcos",
    fit=_FCOS_FIT,
    fit_small_fraction=replace(_FCOS_FIT, batch_size=8),
    stored_nms=NmsSettings(min_score=0.01),
)
_FULL_FIT = replace(_FCOS_FIT, lr=1e-4)
PROTOCOLS: Mapping[str, Protocol] = {
    "g2d": _G2D,
    "mgca": replace(
        _G2D,
        yolo=MGCA,
        encoder="batch-statistics",
        lr_small_fraction={"object_cxr": 2.5e-4},
        stored_nms=NmsSettings(margin=1.0),
        monitor="map_skip_empty",
        monitor_nms=NmsSettings(min_score=0.5, margin=1.0),
    ),
    "fcos": _FCOS,
    "fcos-full": replace(
        _FCOS,
        encoder="updated",
        fit=_FULL_FIT,
        fit_small_fraction=replace(_FULL_FIT, batch_size=8),
    ),
}


def predict(model: Model, run: Run[Protocol]) -> pd.DataFrame:
    """One row per class and test image annotated with boxes: detections and ground truth.

    Columns id, patient, finding ("lesion" for one class), height, width; boxes and truth (flat
    lists, four numbers xyxy per box, in image pixels); scores (one confidence per entry of `boxes`,
    in decreasing order).
    BadData if a split has no annotated image, or the training or validation split has no box.
    """
    _check(model)
    check_splits(run)
    test = annotated(run.test, "boxes", "test")
    return apply(model, fit(model, run), replace(run, test=test))


def fit(model: Model, run: Run[Protocol]) -> SavedHead:
    """Fit the head on the training images; facts: findings, the head's settings, suppression."""
    _check(model)
    protocol = run.protocol
    train, valid, findings = _fit_data(run)
    facts = {
        "task": CARD.name,
        "findings": findings,
        "classes": protocol.classes,
        "detector": protocol.detector,
        "yolo": asdict(protocol.yolo),
        "fcos": asdict(protocol.fcos),
        "nms": asdict(protocol.stored_nms),
        "only": protocol.findings,
    }
    head = seeded(lambda: _head(model, facts), run.generator(INIT))
    network = Network(model, head, run, protocol.encoder, levels=_levels(model))
    shape, one = model.preprocess.stretched(), protocol.classes == "one"
    outputs = network.training(train, "det train features")
    training = BoxSplit(outputs, head, train, findings, shape, one)
    outputs = network.validation(valid, "det valid features")
    validation = BoxSplit(outputs, head, valid, findings, shape, one)
    settings = protocol.fit_of(run.train.card.name, run.fraction)
    monitored = (protocol.monitor, protocol.monitor_nms, settings.batch_size)
    with seeded_dropout(run):
        fit_in_run(
            run,
            network.module,
            len(train),
            training.loss,
            lambda: -validation.monitored(*monitored),
            settings,
            "det fit",
        )
    return save_if_asked(run, network.saved(facts))


def apply(model: Model, head: SavedHead, run: Run[Protocol]) -> pd.DataFrame:
    """The table of `predict` for all images of `run.test`; truth is None where not annotated."""
    _check(model)
    if head.facts.get("task") != CARD.name:
        found = head.facts.get("task")
        raise BadCheckpoint(f"the head was fitted for {found!r}, not for {CARD.name!r}")
    module = _head(model, head.facts).to(run.device)
    fitted = restore(head, module, model)
    frozen = frozen_encoder(fitted, run, _levels(model), cached=fitted is model)
    rows = box_rows(frozen, module, head.facts, run)
    return pd.DataFrame(rows, columns=BOX_COLUMNS)


def read_predictions(path: Path, run: Run[Protocol]) -> pd.DataFrame:
    """The table of `predict` from COCO's results, see `evaluation/imported/box_file.py`."""
    chosen = replace(run, test=annotated(run.test, "boxes", "test"))
    rows = read_boxes(path, chosen, run.protocol.findings, run.protocol.classes == "one")
    return pd.DataFrame(rows, columns=BOX_COLUMNS)


def score(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, Score]:
    """The value and the confidence interval of each of `statistics`."""
    return scores(statistics(predictions, protocol))


def statistics(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, PatientStatistic]:
    """Average precision in several definitions, and FROC: see `evaluation/detection/scores`."""
    return box_statistics(predictions, protocol.min_confidence)


def _check(model: Model) -> None:
    if not isinstance(model, Features):
        raise missing_capability(model, CARD)


def _fit_data(run: Run[Protocol]) -> tuple[Dataset, Dataset, tuple[str, ...]]:
    """The annotated training and validation images, and the findings, sorted by name."""
    parts = [("train", run.train), ("valid", run.valid)]
    if _has_boxes(run.test) and not any(_has_boxes(data) for _, data in parts):
        raise BadData(
            f"{run.test.card.name} has boxes in its test images alone, so that no detector can be "
            "fitted: prepare a copy of its folder without the lists of the official split, with "
            "another --store; its images are then split anew"
        )
    train, valid = (annotated(data, "boxes", name) for name, data in parts)
    wanted = run.protocol.findings
    boxes = {
        name: findings_with_boxes(d, wanted) for name, d in (("train", train), ("valid", valid))
    }
    for (name, found), images in zip(boxes.items(), (train, valid), strict=True):
        if not found:
            raise BadData(
                f"none of the {len(images)} {name} images of {images.card.name} has a box of "
                f"{' or '.join(wanted or ('any finding',))} at --fraction {run.fraction:g}: "
                "increase it, or choose a data set with more findings"
            )
    run.details["findings_without_training_box"] = sorted(boxes["valid"] - boxes["train"])
    known = frozenset(wanted or ()).union(*boxes.values())
    return train, valid, tuple(sorted(known))


def _has_boxes(data: Dataset) -> bool:
    return bool(data.table["has_boxes"].to_numpy(bool).any())


def _levels(model: Model) -> Levels:
    """The pyramid levels that a head reads."""
    assert isinstance(model, Features)
    return Levels(tuple(sorted({source.level for source in scale_inputs(model.strides)})))


def _head(model: Model, facts: Mapping[str, Any]) -> Detector:
    assert isinstance(model, Features)
    levels, size = _levels(model).indices or (), model.preprocess.size
    channels = [model.channels[level] for level in levels]
    strides = [model.strides[level] for level in levels]
    classes = 1 if facts["classes"] == "one" else len(facts["findings"])
    if facts["detector"] == "fcos":
        return FcosHead(channels, strides, size, classes, FcosSettings(**facts["fcos"]))
    return YoloHead(channels, strides, size, classes, YoloSettings(**facts["yolo"]))
