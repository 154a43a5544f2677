"""Segmentation: a decoder on an encoder's feature pyramid.

Sources: G2D paper, sections 4.1, A.4 and table 7; MGCA mgca/models/ssl_segmenter.py and
mgca/datasets/segmentation_dataset.py; MedKLIP Sample_Finetuning_SIIMACR/I2_segmentation.
Protocols, in full in docs/tasks/seg.md:
  g2d, g2d-encoder    frozen encoder, soft Dice + cross-entropy, AdamW 2e-4, 50 epochs with early
                      stopping. `g2d` starts from the model's pre-trained decoder if it has one (the
                      paper's "encoder + decoder"), `g2d-encoder` from a new one ("encoder").
  mgca, mgca-vit      as MGCA's script: its loss, augmentation and learning rate; the encoder's
                      weights are frozen, but batch norm is in train mode. `mgca-vit` has SETR's
                      decoder for every encoder, `mgca` only where MGCA has it, for a ViT.
  medklip             encoder and decoder are updated, as MedKLIP and the paper's table 7.
  dense-probe         ours: one linear layer on the features, no decoder.
  small, small-encoder   `g2d` with short training, ours for machines without a GPU.
A new decoder is a U-Net, or SETR's for an encoder with a single map, as MGCA; the result's details
name it.
Differences from the published code, in every protocol:
  - the input is the model's own preprocessing, stretched to a square.
  - `--fraction` samples patients first, `balanced` then chooses negative images; MGCA the reverse.
  - the last, incomplete batch of an epoch is used; small training sets are repeated in an
    epoch, not in `medklip`.
  - with several findings, each has an output channel, and losses are averaged over findings.
  - images are warped after they are resized to the input; MGCA and MedKLIP warp them before.
  - `g2d` does not state its loss; ours is MedKLIP's soft Dice + cross-entropy.
  - `medklip` reads the model's whole pyramid; MedKLIP's encoder ends at the third stage.

Legend: N images, B batch, K findings, S input side, H W pixels of an image.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import torch

from g2dbench.cards import TaskCard
from g2dbench.dataset import Dataset
from g2dbench.errors import BadCheckpoint, BadData
from g2dbench.evaluation.fit_head import INIT, FitSettings
from g2dbench.evaluation.fitted_task import annotated, check_splits, fit_in_run, save_if_asked
from g2dbench.evaluation.heads.image_warps import Augmentation
from g2dbench.evaluation.heads.network import (
    EncoderUse,
    Network,
    restore,
    seeded_dropout,
)
from g2dbench.evaluation.heads.saved_head import SavedHead
from g2dbench.evaluation.imported.mask_file import read_masks
from g2dbench.evaluation.segmentation.decoders import (
    NewDecoder,
    Start,
    choose_decoder,
    make_decoder,
)
from g2dbench.evaluation.segmentation.losses import MaskLoss
from g2dbench.evaluation.segmentation.masks import (
    MaskSplit,
    TrainOn,
    choose_training_images,
    present_findings,
    sample_images,
)
from g2dbench.evaluation.segmentation.predictions import mask_rows
from g2dbench.evaluation.segmentation.scores import mask_statistics
from g2dbench.metrics.aggregate import PatientStatistic, scores
from g2dbench.model import Features, Model, missing_capability
from g2dbench.result import Score
from g2dbench.task import Run

CARD = TaskCard(
    name="seg",
    summary="Segmentation of findings by a decoder on the encoder's features.",
    needs=("features",),
    annotations=("masks",),
    protocols=(
        "g2d",
        "g2d-encoder",
        "mgca",
        "mgca-vit",
        "medklip",
        "dense-probe",
        "small",
        "small-encoder",
    ),
    metric="dice",
    source="G2D paper, sections 4.1 and A.4; MGCA mgca/models/ssl_segmenter.py; MedKLIP",
    order=30,
)


@dataclass(frozen=True, kw_only=True)
class DatasetSettings:
    """What a protocol does differently on one data set; None: as elsewhere."""

    batch_size: int | None = None
    train_on: TrainOn | None = None


_SIIM = {"siim": DatasetSettings(batch_size=8, train_on="balanced")}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Settings of the fitted decoder.

    start: "pretrained" starts from the model's decoder if it has one, "fresh" from a new one.
    decoder: a new decoder; "auto" is SETR's for a single map and a U-Net for a pyramid.
    encoder, augment: see `heads/network`, `heads/image_warps`. loss: see `segmentation/losses`.
    findings: those to segment; None for all that have a mask.
    datasets: what differs on a data set, by its name.
    valid_images: number of sampled validation images for early stopping; None for all.
    threshold: a pixel is predicted if its probability is greater.
    distance_side: HD95 and ASSD are in pixels of an image with this longer side.
    """

    version: int = 2
    start: Start = "pretrained"
    decoder: NewDecoder = "auto"
    encoder: EncoderUse = "frozen"
    augment: Augmentation = "none"
    loss: MaskLoss = "dice-ce"
    findings: tuple[str, ...] | None = None
    train_on: TrainOn = "all"
    datasets: Mapping[str, DatasetSettings] = field(default_factory=lambda: dict(_SIIM))
    valid_images: int | None = None
    threshold: float = 0.5
    distance_side: int = 224
    # At least 160 images an epoch, 1 % of RSNA.
    fit: FitSettings = field(
        default_factory=lambda: FitSettings(
            lr=2e-4,
            weight_decay=0.05,
            batch_size=16,
            epochs=50,
            patience=10,
            min_steps_per_epoch=10,
        )
    )

    def on(self, dataset: str) -> "Protocol":
        """The settings on the data set of this name."""
        differs = self.datasets.get(dataset, DatasetSettings())
        batch_size = differs.batch_size or self.fit.batch_size
        fit = replace(self.fit, batch_size=batch_size)
        return replace(self, train_on=differs.train_on or self.train_on, fit=fit)


_G2D = Protocol()
_MGCA = replace(
    _G2D,
    version=1,
    start="fresh",
    encoder="batch-statistics",
    augment="mgca",
    loss="mgca",
    fit=replace(_G2D.fit, lr=5e-4),
)
_MEDKLIP = replace(
    _G2D,
    version=2,
    encoder="updated",
    augment="resized-crop",
    datasets={},
    # MedKLIP's cosine ends, and its warm-up starts, at the same 1e-5: the rate is constant.
    # All 1,000 epochs are run, and each is one pass, as published: small training sets are not
    # repeated. The epoch with the best validation loss is used.
    fit=replace(
        _G2D.fit,
        lr=1e-5,
        weight_decay=0.02,
        batch_size=64,
        epochs=1000,
        patience=1000,
        min_steps_per_epoch=1,
    ),
)
_PROBE = replace(_G2D, version=1, start="fresh", decoder="linear", fit=replace(_G2D.fit, lr=1e-2))
_SMALL = replace(
    _G2D,
    train_on="balanced",
    datasets={},
    valid_images=64,
    fit=replace(_G2D.fit, lr=1e-3, batch_size=8, epochs=12, patience=4),
)
PROTOCOLS: Mapping[str, Protocol] = {
    "g2d": _G2D,
    "g2d-encoder": replace(_G2D, start="fresh"),
    "mgca": _MGCA,
    "mgca-vit": replace(_MGCA, decoder="setr"),
    "medklip": _MEDKLIP,
    "dense-probe": _PROBE,
    "small": _SMALL,
    "small-encoder": replace(_SMALL, start="fresh"),
}


def predict(model: Model, run: Run[Protocol]) -> pd.DataFrame:
    """One row per finding and test image annotated with masks: both masks in image pixels.

    Columns id, patient, finding, height, width; truth, predicted (run lengths, `annotations/rle`).
    A finding that only the test images have is predicted to be absent.
    BadData if a split has no annotated image, or no training image has a finding.
    """
    _check(model)
    check_splits(run)
    test = annotated(run.test, "masks", "test")
    return apply(model, fit(model, run), replace(run, test=test))


def fit(model: Model, run: Run[Protocol]) -> SavedHead:
    """Fit the decoder on the training images; facts: findings, decoder, threshold."""
    _check(model)
    protocol = run.protocol.on(run.train.card.name)
    train, valid, findings = _fit_data(run, protocol)
    decoder = choose_decoder(model, protocol.start, protocol.decoder)
    head = make_decoder(model, decoder, len(findings), run.generator(INIT))
    run.details["decoder"] = decoder
    network = Network(model, head, run, protocol.encoder, protocol.augment)
    training = MaskSplit(
        network.training(train, "seg train features"), train, findings, model, run, protocol.loss
    )
    validation = MaskSplit(
        network.validation(valid, "seg valid features"), valid, findings, model, run, protocol.loss
    )
    with seeded_dropout(run):
        fit_in_run(
            run,
            network.module,
            len(train),
            training.loss,
            lambda: validation.mean_loss(protocol.fit.batch_size),
            protocol.fit,
            "seg fit",
        )
    facts = {
        "task": CARD.name,
        "findings": findings,
        "decoder": decoder,
        "threshold": protocol.threshold,
        "only": protocol.findings,
    }
    return save_if_asked(run, network.saved(facts))


def apply(model: Model, head: SavedHead, run: Run[Protocol]) -> pd.DataFrame:
    """The table of `predict` for all images of `run.test`; truth is None where not annotated."""
    _check(model)
    facts = head.facts
    if facts.get("task") != CARD.name:
        raise BadCheckpoint(f"the head was fitted for {facts.get('task')!r}, not for {CARD.name!r}")
    findings = tuple(facts["findings"])
    module = make_decoder(model, facts["decoder"], len(findings), torch.Generator())
    fitted = restore(head, module.to(run.device), model)
    return pd.DataFrame(mask_rows(fitted, module, head, run, cached=fitted is model))


def read_predictions(path: Path, run: Run[Protocol]) -> pd.DataFrame:
    """The table of `predict` from a CSV of run lengths, see `evaluation/imported/mask_file.py`."""
    test = annotated(run.test, "masks", "test")
    return pd.DataFrame(read_masks(path, replace(run, test=test), run.protocol.findings))


def score(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, Score]:
    """The value and the confidence interval of each of `statistics`."""
    return scores(statistics(predictions, protocol))


def statistics(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, PatientStatistic]:
    """Dice, IoU and boundary distances, see `evaluation/segmentation/scores`."""
    return mask_statistics(predictions, protocol.distance_side)


def _check(model: Model) -> None:
    if not isinstance(model, Features):
        raise missing_capability(model, CARD)


def _fit_data(run: Run[Protocol], protocol: Protocol) -> tuple[Dataset, Dataset, tuple[str, ...]]:
    """Training and validation images, and the findings, sorted by name."""
    train, valid = (
        annotated(part, "masks", name)
        for name, part in (("train", run.train), ("valid", run.valid))
    )
    wanted = protocol.findings
    present = present_findings(train, wanted)
    if not any(present):
        raise BadData(
            f"none of the {len(train)} training images of {train.card.name} has a mask of "
            f"{' or '.join(wanted or ('any finding',))} at --fraction {run.fraction:g}: "
            "increase it"
        )
    known = frozenset(wanted or ()).union(*present, *present_findings(valid, wanted))
    chosen = choose_training_images(train, present, protocol.train_on, run)
    positives = sum(bool(names) for names in present)
    run.details["training_images"] = {"annotated": len(train), "with_finding": positives}
    run.details["findings_without_training_mask"] = sorted(known.difference(*[*present]))
    return chosen, sample_images(valid, protocol.valid_images, run), tuple(sorted(known))
