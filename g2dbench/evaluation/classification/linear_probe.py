"""A linear layer on a frozen encoder's pooled features, fitted by AdamW.

Legend: N images, B images of one batch, D features, K findings.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from g2dbench.dataset import Dataset
from g2dbench.evaluation.classification.augmentation import Augmentation, batch, preprocess_for
from g2dbench.evaluation.classification.splits import LabeledSplits
from g2dbench.evaluation.fit_head import INIT, FitSettings, single_cpu_thread
from g2dbench.evaluation.fitted_task import fit_in_run
from g2dbench.evaluation.frozen_features import FrozenEncoder, encode_dataset, pooled_features
from g2dbench.evaluation.heads.linear import LinearHead
from g2dbench.evaluation.heads.unet import linear
from g2dbench.model import Features, Model, require_pixels
from g2dbench.task import Run

AUGMENT = 4
"""Random stream of `Run.generator`: augmentation of images."""


def features(
    model: Model, data: Dataset, policy: Augmentation, run: Run[Any], title: str
) -> Tensor:
    """(N, D) features of images that are not augmented; read from the cache only if none are.

    policy: of the training images; MGCA's crops its validation and test images too.
    """
    if policy == "none":
        return pooled_features(model, data, run, title)
    assert isinstance(model, Features)
    pool = model.pooled
    preprocess = preprocess_for(model.preprocess, policy)
    frozen = FrozenEncoder(model, lambda images: [pool(images)], preprocess, run)
    return encode_dataset(frozen, data, run, title)


def fit_linear(
    model: Model, splits: LabeledSplits, policy: Augmentation, settings: FitSettings, run: Run[Any]
) -> LinearHead:
    """Fit on features that are computed once, or with augmentation anew for each batch."""
    encode = _training_features(model, splits.train, policy, run)
    valid = features(model, splits.valid, policy, run, "cls valid features")
    head = linear(valid.shape[1], len(splits.findings), run.generator(INIT))
    every = torch.arange(len(valid))
    # For steps as short as those of a linear layer a GPU or a second thread is not faster.
    with single_cpu_thread() if policy == "none" else nullcontext():
        fit_in_run(
            run,
            head,
            len(splits.train),
            lambda rows: splits.train_targets.loss(head(encode(rows)), rows),
            lambda: float(splits.valid_targets.loss(head(valid), every)),
            settings,
            "cls fit",
        )
    return LinearHead(head.weight.detach(), head.bias.detach())


def _training_features(
    model: Model, train: Dataset, policy: Augmentation, run: Run[Any]
) -> Callable[[Tensor], Tensor]:
    """A function of indices (B,) that returns features (B, D) on the CPU."""
    if policy == "none":
        found = features(model, train, policy, run, "cls train features")
        return lambda rows: found[rows]
    assert isinstance(model, Features)
    require_pixels(model, f"the augmentation {policy!r} changes the images")
    model.to(run.device).eval()
    pool, generator = model.pooled, run.generator(AUGMENT)
    flips = train.card.name == "chexpert"  # as MGCA, which mirrors CheXpert's images alone

    def encode(rows: Tensor) -> Tensor:
        images = [train[int(row)].image for row in rows]
        inputs = batch(images, policy, model.preprocess, flips, generator)
        with torch.no_grad(), run.autocast():
            return pool(inputs.to(run.device)).float().cpu()

    return encode
