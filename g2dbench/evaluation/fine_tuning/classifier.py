"""An encoder and a linear head that are trained together, on a copy of the model.

Legend: N images, B images of one batch, S input side, K findings.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from g2dbench.dataset import Dataset
from g2dbench.evaluation.classification.augmentation import Augmentation, batch, preprocess_for
from g2dbench.evaluation.classification.splits import LabeledSplits
from g2dbench.evaluation.fine_tuning.layers import learning_rate_factors, modules_in_order
from g2dbench.evaluation.fine_tuning.loop import Job, fine_tune
from g2dbench.evaluation.fine_tuning.low_rank import add_adapters, merge_adapters
from g2dbench.evaluation.fine_tuning.settings import FineTuneSettings
from g2dbench.evaluation.fit_head import INIT
from g2dbench.evaluation.frozen_features import FrozenEncoder, encode_dataset
from g2dbench.evaluation.heads.unet import linear
from g2dbench.metrics.classification import macro_auc
from g2dbench.model import Features, Model, require_pixels
from g2dbench.preprocess import Preprocess
from g2dbench.task import Run

HEAD, ENCODER = "head.", "encoder."
"""Prefixes of a saved classifier's tensors."""

ADAPTERS = 6
"""Random stream of `Run.generator`: initial weights of adapters."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is trained, on which splits; size: the network's input side, None for the model's.

    adapters: (rank, alpha) of low-rank adapters; None updates all weights. monitor: what chooses
    the best epoch on the validation split. flips: whether the augmentation mirrors images.
    """

    splits: LabeledSplits
    settings: FineTuneSettings
    augmentation: Augmentation
    flips: bool = True
    size: int | None = None
    adapters: tuple[int, float] | None = None
    monitor: Literal["loss", "auc"] = "loss"


class Classifier(nn.Module):
    """(B, C, S, S) -> (B, K) logits; `encoder` is a copy of the model, which stays as it is.

    frozen_norms: whether batch normalization and dropout of the encoder are in eval mode while
    training, so that the adapters are all that changes.
    """

    def __init__(self, model: Model, outputs: int, run: Run[Any], frozen_norms: bool) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(model).to(run.device).eval()
        self._frozen_norms = frozen_norms
        encoder = self.encoder
        assert isinstance(encoder, Features)
        self._pooled = encoder.pooled
        with torch.no_grad():
            width = self._pooled(_black(self.encoder.preprocess, run)).shape[1]
        self.head = linear(width, outputs, run.generator(INIT)).to(run.device)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, K)."""
        features = self._pooled(images)
        with torch.autocast(images.device.type, enabled=False):  # else bf16 logits are often equal
            logits: Tensor = self.head(features.float())
        return logits

    def train(self, mode: bool = True) -> "Classifier":
        """As usual, but an encoder with frozen normalization stays in eval mode."""
        super().train(mode)
        if self._frozen_norms:
            self.encoder.eval()
        return self

    def logits(
        self, data: Dataset, preprocess: Preprocess, run: Run[Any], title: str
    ) -> NDArray[np.float64]:
        """(N, K) logits of a data set's images, in double precision."""
        frozen = FrozenEncoder(self.encoder, lambda images: [self(images)], preprocess, run)
        return np.asarray(encode_dataset(frozen, data, run, title).double().numpy())


def train_classifier(model: Model, training: Training, run: Run[Any], title: str) -> Classifier:
    """Train on a copy of the model; returns it in eval mode with the best epoch's weights."""
    require_pixels(model, f"{title} changes the encoder")
    splits = training.splits
    classifier = Classifier(
        model, len(splits.findings), run, frozen_norms=training.adapters is not None
    )
    groups = _groups(classifier, training, run)
    shape = preprocess_at(model, training.size)
    evaluated = preprocess_for(shape, training.augmentation)

    def loss(rows: Tensor, augment: torch.Generator) -> Tensor:
        images = [splits.train[int(row)].image for row in rows]
        inputs = batch(images, training.augmentation, shape, training.flips, augment)
        return splits.train_targets.loss(classifier(inputs.to(run.device)), rows)

    def validate() -> float:
        logits = classifier.logits(splits.valid, evaluated, run, f"{title} validation")
        if training.monitor == "auc":
            scores = splits.valid_targets.probabilities(logits)
            return -macro_auc(splits.valid_targets.labels, scores).value
        rows = torch.arange(len(logits))
        return float(splits.valid_targets.loss(torch.from_numpy(logits).float(), rows))

    job = Job(classifier, groups, len(splits.train), loss, validate)
    fine_tune(job, training.settings, run, title)
    if training.adapters is not None:
        merge_adapters(classifier.encoder)
    return classifier


def preprocess_at(model: Model, size: int | None) -> Preprocess:
    """The model's preprocessing with an input of this side, if the model takes it.

    The resized side before a crop keeps its ratio to the input.
    """
    shape = model.preprocess
    if size is None or size == shape.size or getattr(model, "fixed_size", True):
        return shape
    resize = None if shape.resize is None else round(shape.resize * size / shape.size)
    return Preprocess(**{**vars(shape), "size": size, "resize": resize})


def changed_weights(classifier: Classifier, model: Model) -> dict[str, Tensor]:
    """The head, and the tensors of the encoder that training changed, by name."""
    before = model.state_dict()
    after = classifier.encoder.state_dict()
    changed = {
        f"{ENCODER}{name}": value
        for name, value in after.items()
        if not torch.equal(value, before[name].to(value.device))
    }
    head = {f"{HEAD}{name}": value for name, value in classifier.head.state_dict().items()}
    return changed | head


def load_classifier(model: Model, weights: Mapping[str, Tensor], run: Run[Any]) -> Classifier:
    """The classifier whose `changed_weights` these are."""
    outputs = len(weights[f"{HEAD}bias"])
    classifier = Classifier(model, outputs, run, frozen_norms=True)
    classifier.encoder.load_state_dict(_part(weights, ENCODER), strict=False)
    classifier.head.load_state_dict(_part(weights, HEAD))
    return classifier.eval()


def _part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }


def _groups(classifier: Classifier, training: Training, run: Run[Any]) -> list[dict[str, Any]]:
    """The trained parameters with their learning-rate factors; turns their gradients on."""
    encoder, pooled = classifier.encoder, classifier._pooled
    head = {"params": list(classifier.head.parameters()), "factor": 1.0}
    if training.adapters is not None:
        names = modules_in_order(encoder, pooled)
        generator = run.generator(ADAPTERS)
        adapters = add_adapters(encoder, names, *training.adapters, generator)
        return [{"params": adapters, "factor": 1.0}, head]
    encoder.requires_grad_(True)
    factors = learning_rate_factors(encoder, pooled, training.settings.layer_decay)
    parameters = dict(encoder.named_parameters())
    by_factor: dict[float, list[nn.Parameter]] = {}
    for name, factor in factors.items():
        by_factor.setdefault(factor, []).append(parameters[name])
    return [{"params": found, "factor": factor} for factor, found in by_factor.items()] + [head]


def _black(preprocess: Preprocess, run: Run[Any]) -> Tensor:
    shape = (1, preprocess.channels, preprocess.size, preprocess.size)
    return torch.zeros(shape, device=run.device)
