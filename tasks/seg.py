"""Segmentation: a U-Net decoder on the frozen encoder's feature pyramid.

Source: G2D paper, sections 4.1 and A.4, which follow MGCA (mgca/models/ssl_segmenter.py,
mgca/datasets/segmentation_dataset.py).
Settings: AdamW with learning rate 2e-4 and weight decay 0.05, batches of 16, 50 epochs, early
stopping on the validation loss with patience 10; as many negative training images as positive.
Differences from MGCA:
  - the loss is soft Dice + cross-entropy, as in MedKLIP. G2D does not state its loss; MGCA's is
    10 x focal - log(soft Dice).
  - the encoder is in eval mode: MGCA freezes its weights, but not its batch norm statistics.
  - images are not augmented, so that features are computed once.
  - with several findings, each has an output channel.
Protocols: `g2d` starts from the model's pre-trained decoder if it has one (the paper's "encoder +
decoder"); `g2d-encoder` always starts from a new decoder (the paper's "encoder"). `small` and
`small-encoder` are the same with short training, our choice for machines without a GPU.

Legend: N images, B batch, K findings, S input side, H W pixels of an image.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from g2dbench.cards import TaskCard
from g2dbench.data.annotations import rle
from g2dbench.dataset import Dataset
from g2dbench.errors import BadData
from g2dbench.evaluation.fit_head import INIT, SUBSAMPLE, FitSettings
from g2dbench.evaluation.fitted_task import annotated, check_splits, fit_in_run
from g2dbench.evaluation.frozen_features import FrozenEncoder, PyramidCache, encode_in_chunks
from g2dbench.evaluation.heads.unet import UnetHead, adapt_decoder
from g2dbench.evaluation.prediction_table import KEYS, check_columns, to_wide
from g2dbench.metrics.aggregate import PatientStatistic, per_finding, scores
from g2dbench.metrics.bootstrap import mean_of
from g2dbench.metrics.segmentation import dice_values, iou_values, only_positive
from g2dbench.model import Decodes, Features, Model, missing_capability
from g2dbench.result import Score
from g2dbench.sample import Sample
from g2dbench.system.seeded_init import seeded
from g2dbench.task import Run

CARD = TaskCard(
    name="seg",
    summary="Segmentation of findings by a U-Net decoder on the frozen encoder.",
    needs=("features",),
    annotations=("masks",),
    protocols=("g2d", "g2d-encoder", "small", "small-encoder"),
    metric="dice",
    source="G2D paper, sections 4.1 and A.4; MGCA mgca/models/ssl_segmenter.py",
    order=30,
)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Settings of the fitted decoder.

    decoder: "pretrained" starts from the model's decoder if it has one, "fresh" from a new one.
    findings: those to segment; None for all that have a mask.
    train_on: "balanced" means all positive images and as many negative ones, as MGCA for SIIM.
    valid_images: number of sampled validation images for early stopping; None for all.
    threshold: a pixel is predicted if its probability is greater.
    min_steps_per_epoch: 160 images, 1 % of RSNA, in batches of 16.
    """

    version: int = 1
    decoder: Literal["pretrained", "fresh"] = "pretrained"
    findings: tuple[str, ...] | None = None
    train_on: Literal["balanced", "positives", "all"] = "balanced"
    valid_images: int | None = None
    threshold: float = 0.5
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


_SHORT = FitSettings(
    lr=1e-3, weight_decay=0.05, batch_size=8, epochs=12, patience=4, min_steps_per_epoch=10
)
PROTOCOLS: Mapping[str, Protocol] = {
    "g2d": Protocol(),
    "g2d-encoder": Protocol(decoder="fresh"),
    "small": Protocol(valid_images=64, fit=_SHORT),
    "small-encoder": Protocol(decoder="fresh", valid_images=64, fit=_SHORT),
}


def predict(model: Model, run: Run[Protocol]) -> pd.DataFrame:
    """One row per finding and test image annotated with masks: both masks in image pixels.

    Columns id, patient, finding, height, width; truth, predicted (run lengths, `annotations/rle`).
    A finding without a positive sampled training image is predicted too, trained on empty masks.
    BadData if a split has no annotated image, or no training image has a finding.
    """
    if not isinstance(model, Features):
        raise missing_capability(model, CARD)
    check_splits(run)
    data = _load_data(run)
    findings = data.findings
    preprocess = model.preprocess.stretched()
    frozen = FrozenEncoder(model, model.features, preprocess, run, "features")
    train = _Split(frozen, data.train, findings, run, "seg train features")
    valid = _Split(frozen, data.valid, findings, run, "seg valid features")
    head = _head(model, len(findings), run).to(run.device)
    fit_in_run(
        run,
        head,
        len(train.pyramids),
        lambda indices: train.loss(head, indices),
        lambda: valid.mean_loss(head, run.protocol.fit.batch_size),
        run.protocol.fit,
        "seg fit",
    )
    return pd.DataFrame(_rows(frozen, head, data, run))


def score(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, Score]:
    """The value and the confidence interval of each of `statistics`."""
    return scores(statistics(predictions, protocol))


def statistics(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, PatientStatistic]:
    """Dice and IoU per image, averaged over images, then over findings.

    `dice`, `iou`: over images with the finding; others do not show how well it is segmented.
    `dice_b2`: MGCA's Dice, where an image without the finding counts 1 if nothing is predicted,
    else 0. It is high for a data set of mostly healthy images.
    """
    check_columns(predictions, (*KEYS, "height", "width", "truth", "predicted"))
    sides = predictions[["height", "width"]].to_numpy(np.int64)
    counts = [
        rle.overlap(predicted, truth, (int(height), int(width)))
        for predicted, truth, (height, width) in zip(
            predictions["predicted"], predictions["truth"], sides, strict=True
        )
    ]
    inter, pred, true = (np.array(part, np.int64) for part in zip(*counts, strict=True))
    dice = dice_values(inter, pred, true)
    values = {
        "dice": only_positive(dice, true),
        "dice_b2": dice,
        "iou": only_positive(iou_values(inter, pred, true), true),
    }
    table = to_wide(predictions[[*KEYS]].assign(**values), list(values))
    found: dict[str, PatientStatistic] = {}
    for name in values:
        means = {f: mean_of(table[name][:, k]) for k, f in enumerate(table.findings)}
        found |= per_finding(name, table.patients, means, ~np.isnan(table[name]))
    return found


def soft_dice_and_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """1 - soft Dice + cross-entropy of (B, K, S, S) logits and 0/1 targets.

    Soft Dice is computed for each finding over all pixels of the batch, with 1 added to numerator
    and denominator, then averaged over findings. Source: MGCA utils/segmentation_loss.py.
    """
    probability = torch.sigmoid(logits)
    axes = (0, 2, 3)
    inter, total = (probability * targets).sum(axes), probability.sum(axes) + targets.sum(axes)
    dice = (2 * inter + 1) / (total + 1)
    return 1 - dice.mean() + F.binary_cross_entropy_with_logits(logits, targets)


@dataclass(frozen=True)
class _Data:
    """The annotated images of each split, and the findings, sorted by name."""

    train: Dataset
    valid: Dataset
    test: Dataset
    findings: tuple[str, ...]


def _load_data(run: Run[Protocol]) -> _Data:
    train, valid, test = (
        annotated(part, "masks", name)
        for name, part in (("train", run.train), ("valid", run.valid), ("test", run.test))
    )
    present, requested = _present_findings(train), run.protocol.findings
    if requested is not None:
        present = [names & set(requested) for names in present]
    if not any(present):
        raise BadData(
            f"none of the {len(train)} training images of {train.card.name} has a mask of "
            f"{' or '.join(requested or ('any finding',))} at --fraction {run.fraction:g}: "
            "increase it"
        )
    known = requested or frozenset().union(
        *present, *_present_findings(valid), *_present_findings(test)
    )
    count = run.protocol.valid_images
    if count is not None and count < len(valid):
        order = torch.randperm(len(valid), generator=run.generator(SUBSAMPLE, 1))
        valid = valid.take(order[:count].sort().values.tolist())
    return _Data(_balanced(train, present, run), valid, test, tuple(sorted(known)))


class _Split:
    """One split: feature pyramids, and target masks at the input's size, packed to bits."""

    def __init__(
        self,
        frozen: FrozenEncoder,
        data: Dataset,
        findings: tuple[str, ...],
        run: Run[Protocol],
        title: str,
    ) -> None:
        self.pyramids = PyramidCache(frozen, data, run, title)
        self._device = run.device
        self._shape = (len(findings), frozen.preprocess.size, frozen.preprocess.size)
        self._bits = np.stack([np.packbits(_target(sample, findings, frozen)) for sample in data])

    def loss(self, head: nn.Module, indices: Tensor) -> Tensor:
        """The loss on these images."""
        logits = head(self.pyramids.batch(indices))
        return soft_dice_and_cross_entropy(logits, self._targets(indices))

    def mean_loss(self, head: nn.Module, batch_size: int) -> float:
        """The mean loss over all images, in batches of the protocol's size, in order."""
        parts = torch.arange(len(self.pyramids)).split(batch_size)
        losses = [float(self.loss(head, part)) * len(part) for part in parts]
        return sum(losses) / len(self.pyramids)

    def _targets(self, indices: Tensor) -> Tensor:
        bits = np.unpackbits(self._bits[indices.numpy()], axis=1, count=int(np.prod(self._shape)))
        return torch.from_numpy(bits.reshape(-1, *self._shape)).to(self._device).float()


def _target(sample: Sample, findings: tuple[str, ...], frozen: FrozenEncoder) -> NDArray[np.bool_]:
    """(K, S, S): the masks in pixels of the network's input."""
    geometry = frozen.preprocess.geometry(*sample.image.shape)
    return np.stack([geometry.mask_to_input(_mask(sample, finding)) for finding in findings])


def _mask(sample: Sample, finding: str) -> NDArray[np.bool_]:
    """(H, W); empty for a finding without an entry: annotated as absent."""
    assert sample.masks is not None
    if finding in sample.masks:
        return sample.masks[finding]
    return np.zeros(sample.image.shape, dtype=bool)


def _present_findings(data: Dataset) -> list[frozenset[str]]:
    """For each image, the findings whose mask is not empty."""
    return [frozenset(f for f, m in (sample.masks or {}).items() if m.any()) for sample in data]


def _balanced(data: Dataset, present: list[frozenset[str]], run: Run[Protocol]) -> Dataset:
    """The training images that `train_on` selects, in the data set's order."""
    if run.protocol.train_on == "all":
        return data
    positive = np.array([bool(names) for names in present])
    chosen, without = np.flatnonzero(positive), np.flatnonzero(~positive)
    if run.protocol.train_on == "balanced":
        order = torch.randperm(len(without), generator=run.generator(SUBSAMPLE)).numpy()
        chosen = np.concatenate([chosen, without[order[: len(chosen)]]])
    return data.take(np.sort(chosen).tolist())


def _head(model: Model, outputs: int, run: Run[Protocol]) -> nn.Module:
    """The decoder, pyramid -> (B, K, S, S) logits: the model's own, or a new one."""
    assert isinstance(model, Features)
    generator, size = run.generator(INIT), model.preprocess.size
    channels, strides = model.channels, model.strides
    if run.protocol.decoder == "pretrained" and isinstance(model, Decodes):
        levels = zip(channels, strides, strict=True)
        example = [torch.zeros(1, width, size // step, size // step) for width, step in levels]
        return adapt_decoder(model.pretrained_decoder().cpu(), outputs, example, generator)
    return seeded(lambda: UnetHead(channels, strides, outputs, size), generator)


def _rows(
    frozen: FrozenEncoder, head: nn.Module, data: _Data, run: Run[Protocol]
) -> Iterator[dict[str, object]]:
    """Yield a row for each annotated test image and finding."""
    for samples, maps in encode_in_chunks(frozen, data.test, run, "seg test"):
        with torch.no_grad():
            probability = torch.sigmoid(head([level.float() for level in maps])).cpu().numpy()
        for sample, grids in zip(samples, probability, strict=True):
            geometry = frozen.preprocess.geometry(*sample.image.shape)
            for finding, grid in zip(data.findings, grids, strict=True):
                yield {
                    "id": sample.id,
                    "patient": sample.patient,
                    "finding": finding,
                    "height": geometry.height,
                    "width": geometry.width,
                    "truth": rle.encode(_mask(sample, finding)),
                    "predicted": rle.encode(geometry.map_to_image(grid) > run.protocol.threshold),
                }
