"""Masks of findings as training data: which images, and targets at the input's size.

Legend: K findings, S input side, H W pixels of an image.
"""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from g2dbench.dataset import Dataset
from g2dbench.evaluation.fit_head import SUBSAMPLE
from g2dbench.evaluation.heads.image_warps import Homography, warp_masks
from g2dbench.evaluation.heads.network import SplitOutputs
from g2dbench.evaluation.segmentation.losses import MASK_LOSSES, MaskLoss
from g2dbench.model import Model
from g2dbench.preprocess import Preprocess
from g2dbench.sample import Sample
from g2dbench.task import Run

TrainOn: TypeAlias = Literal["balanced", "positives", "all"]
"""balanced: all images with a finding and as many without. positives: those with a finding."""


def present_findings(data: Dataset, wanted: Sequence[str] | None = None) -> list[frozenset[str]]:
    """For each image, the findings whose mask is not empty; wanted: None for all."""
    return [
        frozenset(
            finding
            for finding, mask in (sample.masks or {}).items()
            if mask.any() and (wanted is None or finding in wanted)
        )
        for sample in data
    ]


def mask_of(sample: Sample, finding: str) -> NDArray[np.bool_]:
    """(H, W); empty for a finding without an entry: annotated as absent."""
    if sample.masks is not None and finding in sample.masks:
        return sample.masks[finding]
    return np.zeros(sample.image.shape, dtype=bool)


def choose_training_images(
    data: Dataset, present: Sequence[frozenset[str]], train_on: TrainOn, run: Run[Any]
) -> Dataset:
    """The training images that `train_on` selects, in the data set's order."""
    if train_on == "all":
        return data
    positive = np.array([bool(names) for names in present])
    chosen, without = np.flatnonzero(positive), np.flatnonzero(~positive)
    if train_on == "balanced":
        order = torch.randperm(len(without), generator=run.generator(SUBSAMPLE)).numpy()
        chosen = np.concatenate([chosen, without[order[: len(chosen)]]])
    return data.take(np.sort(chosen).tolist())


def sample_images(data: Dataset, count: int | None, run: Run[Any]) -> Dataset:
    """`count` random images in the data set's order; all for None or too few."""
    if count is None or count >= len(data):
        return data
    order = torch.randperm(len(data), generator=run.generator(SUBSAMPLE, 1))
    return data.take(order[:count].sort().values.tolist())


class MaskTargets:
    """The masks of a data set in pixels of the network's input, packed to bits."""

    def __init__(
        self, data: Dataset, findings: Sequence[str], preprocess: Preprocess, device: torch.device
    ) -> None:
        self._device = device
        self._shape = (len(findings), preprocess.size, preprocess.size)
        packed = [np.packbits(_target(sample, findings, preprocess)) for sample in data]
        self._bits = np.stack(packed)

    def __call__(self, rows: Tensor, warps: Sequence[Homography | None]) -> Tensor:
        """(b, K, S, S) of 0 and 1, moved like the images."""
        bits = np.unpackbits(self._bits[rows.numpy()], axis=1, count=int(np.prod(self._shape)))
        masks = bits.reshape(-1, *self._shape)
        moved = [
            mask if geometry is None else warp_masks(mask > 0, geometry).astype(np.uint8)
            for mask, geometry in zip(masks, warps, strict=True)
        ]
        return torch.from_numpy(np.stack(moved)).to(self._device).float()


def _target(sample: Sample, findings: Sequence[str], preprocess: Preprocess) -> NDArray[np.bool_]:
    """(K, S, S): the masks in pixels of the network's input."""
    geometry = preprocess.geometry(*sample.image.shape)
    return np.stack([geometry.mask_to_input(mask_of(sample, finding)) for finding in findings])


class MaskSplit:
    """One split: the network's outputs, target masks, and the loss."""

    def __init__(
        self,
        outputs: SplitOutputs,
        data: Dataset,
        findings: tuple[str, ...],
        model: Model,
        run: Run[Any],
        loss: MaskLoss,
    ) -> None:
        self._outputs = outputs
        self._targets = MaskTargets(data, findings, model.preprocess.stretched(), run.device)
        self._loss = MASK_LOSSES[loss]

    def loss(self, rows: Tensor) -> Tensor:
        """The loss on these images."""
        logits, warps = self._outputs(rows)
        return self._loss(logits, self._targets(rows, warps))

    def mean_loss(self, batch_size: int) -> float:
        """The mean loss over all images, in batches of the protocol's size, in order."""
        parts = torch.arange(len(self._outputs)).split(batch_size)
        losses = [float(self.loss(part)) * len(part) for part in parts]
        return sum(losses) / len(self._outputs)
