"""Classification of findings on pooled features of an encoder that is frozen, or nearly so.

Protocols (docs/tasks/cls.md compares them):

    g2d        the paper: one linear layer, AdamW lr 5e-4, weight decay 1e-6, batches of 8, 50
               epochs, early stopping on the validation loss with patience 10
    mgca       MGCA's published code: the same in batches of 48 on augmented images
    sweep      ours, recommended: logistic regression on standardized features, solved exactly, with
               the penalty of each finding chosen on the validation split; needs no seed
    knn        the 20 nearest training images by cosine, weighted as in DINO
    prototype  the nearer class mean of standardized features
    lora       low-rank adapters in the encoder and a linear layer, trained together

Sources: G2D paper, sections 4.1 and A.4; MGCA mgca/models/ssl_finetuner.py,
mgca/datasets/transforms.py. A data set whose findings exclude each other (COVIDx) has one softmax
and the accuracy of the predicted class. CheXpert is scored on the five findings of the paper.
Differences of `g2d` from the paper and MGCA: images are not augmented; the last, incomplete batch
is used; uncertain and missing labels are excluded. Differences of `mgca` from MGCA: the last,
incomplete validation batch is scored too, a training set smaller than a batch is one batch, and
uncertain or missing test labels are never scored.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from g2dbench.cards import TaskCard
from g2dbench.dataset import Dataset
from g2dbench.evaluation.classification import linear_probe, scores
from g2dbench.evaluation.classification.augmentation import Augmentation
from g2dbench.evaluation.classification.splits import LabeledSplits, labeled_splits
from g2dbench.evaluation.classification.targets import probabilities
from g2dbench.evaluation.fine_tuning.classifier import (
    Training,
    changed_weights,
    load_classifier,
    train_classifier,
)
from g2dbench.evaluation.fine_tuning.settings import FineTuneSettings
from g2dbench.evaluation.fit_head import FitSettings
from g2dbench.evaluation.fitted_task import check_splits, save_if_asked
from g2dbench.evaluation.heads.linear import LinearHead, Standardization
from g2dbench.evaluation.heads.logistic import ClassWeights
from g2dbench.evaluation.heads.neighbors import class_means, neighbor_scores, unit_vectors
from g2dbench.evaluation.heads.penalty_sweep import fit_sweep
from g2dbench.evaluation.heads.saved_head import SavedHead
from g2dbench.evaluation.label_policy import PAPER_FINDINGS, LabelPolicy, policy_findings
from g2dbench.metrics import aggregate
from g2dbench.metrics.aggregate import PatientStatistic
from g2dbench.model import Features, Model, missing_capability
from g2dbench.result import Score
from g2dbench.task import Run

CARD = TaskCard(
    name="cls",
    summary="Classification of findings on the encoder's pooled features.",
    needs=("features",),
    annotations=("labels",),
    protocols=("g2d", "mgca", "sweep", "knn", "prototype", "lora"),
    metric="auc",
    source="G2D paper, sections 4.1 and A.4; MGCA mgca/models/ssl_finetuner.py",
    order=10,
)

main_metric = scores.main_metric


def _paper_labels() -> LabelPolicy:
    return LabelPolicy(findings=PAPER_FINDINGS)


def _mgca_labels() -> LabelPolicy:
    return LabelPolicy(findings=PAPER_FINDINGS, uncertain="mgca", missing="zeros")


@dataclass(frozen=True, kw_only=True)
class Linear:
    """One linear layer. min_steps_per_epoch: 160 images, 1 % of RSNA, in batches of 8."""

    version: int = 2
    labels: LabelPolicy = field(default_factory=_paper_labels)
    fit: FitSettings = field(
        default_factory=lambda: FitSettings(
            lr=5e-4, weight_decay=1e-6, batch_size=8, epochs=50, patience=10, min_steps_per_epoch=20
        )
    )
    augmentation: Augmentation = "none"


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Logistic regression; penalties: see `heads/logistic.py`, C = 1 / (penalty * images)."""

    version: int = 1
    labels: LabelPolicy = field(default_factory=_paper_labels)
    penalties: tuple[float, ...] = tuple(10.0 ** (power / 2) for power in range(-8, 3))
    class_weights: ClassWeights = "none"


@dataclass(frozen=True, kw_only=True)
class Neighbors:
    """k nearest neighbors; temperature: of their weights exp(cosine / temperature)."""

    version: int = 1
    labels: LabelPolicy = field(default_factory=_paper_labels)
    k: int = 20
    temperature: float = 0.07

    def __post_init__(self) -> None:
        if self.k < 1 or self.temperature <= 0:
            raise ValueError("k is at least 1, and temperature above 0")


@dataclass(frozen=True, kw_only=True)
class Prototype:
    """Nearest class mean."""

    version: int = 1
    labels: LabelPolicy = field(default_factory=_paper_labels)


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters, see `fine_tuning/low_rank.py`; the encoder's normalization is frozen."""

    version: int = 1
    labels: LabelPolicy = field(default_factory=_paper_labels)
    rank: int = 8
    alpha: float = 16.0
    augmentation: Augmentation = "none"
    train: FineTuneSettings = field(
        default_factory=lambda: FineTuneSettings(
            lr=1e-3, weight_decay=0.01, batch_size=32, epochs=20, patience=5,
            min_steps_per_epoch=20,
            schedule="cosine", warmup_epochs=1,
        )
    )  # fmt: skip


Protocol = Linear | Sweep | Neighbors | Prototype | Lora
Array = NDArray[np.float64]

PROTOCOLS: Mapping[str, Protocol] = {
    "g2d": Linear(),
    "mgca": Linear(
        version=1,
        labels=_mgca_labels(),
        fit=FitSettings(lr=5e-4, weight_decay=1e-6, batch_size=48, drop_last=True),
        augmentation="mgca",
    ),
    "sweep": Sweep(),
    "knn": Neighbors(),
    "prototype": Prototype(),
    "lora": Lora(),
}


def predict(model: Model, run: Run[Any]) -> pd.DataFrame:
    """One row per test image and finding, see `classification/scores.py`."""
    return apply(model, fit(model, run), run)


def fit(model: Model, run: Run[Any]) -> SavedHead:
    """Fit on the training split; thresholds are chosen on the validation split."""
    if not isinstance(model, Features):
        raise missing_capability(model, CARD)
    check_splits(run)
    exact = isinstance(run.protocol, Sweep | Neighbors | Prototype)
    splits = labeled_splits(run, run.protocol.labels, sort=exact)
    weights = _FIT[type(run.protocol)](model, splits, run)
    head = SavedHead(weights, {"findings": splits.findings, "exclusive": splits.exclusive})
    valid = _scores(model, head, splits.valid, run, "valid")
    head.facts["thresholds"] = splits.valid_targets.thresholds(valid).tolist()
    scores.store_validation(run, splits.valid, head, valid)
    return save_if_asked(run, head)


def apply(model: Model, head: SavedHead, run: Run[Any]) -> pd.DataFrame:
    """Predictions of a fitted head on `run.test`."""
    return scores.of_head(run.test, head, _scores(model, head, run.test, run, "test"))


def read_predictions(path: Path, run: Run[Any]) -> pd.DataFrame:
    """The table of `predict` from a CSV, see `evaluation/imported/score_file.py`."""
    findings = policy_findings(run.protocol.labels, run.test)
    return scores.from_file(path, run.test, findings)


def score(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, Score]:
    """The value and the confidence interval of each of `statistics`."""
    return aggregate.scores(statistics(predictions, protocol))


def statistics(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, PatientStatistic]:
    """The metrics that `classification/scores.py` lists."""
    return scores.statistics(predictions)


def _scores(model: Model, head: SavedHead, data: Dataset, run: Run[Any], split: str) -> Array:
    """Probabilities (N, K) of a fitted head."""
    weights = head.weights
    if isinstance(run.protocol, Neighbors):
        test = unit_vectors(_features(model, data, run, split))
        return neighbor_scores(
            weights["vectors"], weights["labels"].numpy(), test,
            run.protocol.k, run.protocol.temperature,
        )  # fmt: skip
    if isinstance(run.protocol, Lora):
        classifier = load_classifier(model, weights, run)
        logits = classifier.logits(data, model.preprocess, run, f"cls {split}")
    else:
        linear_head = LinearHead(weights["weights"], weights["intercepts"])
        logits = linear_head.logits(_features(model, data, run, split))
    return probabilities(logits, head.facts["exclusive"])


def _features(model: Model, data: Dataset, run: Run[Any], split: str) -> Tensor:
    """(N, D) features of images that are not augmented."""
    policy: Augmentation = getattr(run.protocol, "augmentation", "none")
    return linear_probe.features(model, data, policy, run, f"cls {split} features")


def _fit_linear(model: Model, splits: LabeledSplits, run: Run[Linear]) -> dict[str, Tensor]:
    head = linear_probe.fit_linear(model, splits, run.protocol.augmentation, run.protocol.fit, run)
    return {"weights": head.weights, "intercepts": head.intercepts}


def _fit_sweep(model: Model, splits: LabeledSplits, run: Run[Sweep]) -> dict[str, Tensor]:
    train = _features(model, splits.train, run, "train")
    valid = _features(model, splits.valid, run, "valid")
    head, run.details["fit"] = fit_sweep(
        (train, splits.train_targets), (valid, splits.valid_targets),
        splits.findings, run.protocol.penalties, run.protocol.class_weights,
    )  # fmt: skip
    return {"weights": head.weights, "intercepts": head.intercepts}


def _fit_neighbors(model: Model, splits: LabeledSplits, run: Run[Neighbors]) -> dict[str, Tensor]:
    vectors = unit_vectors(_features(model, splits.train, run, "train"))
    return {"vectors": vectors, "labels": torch.from_numpy(splits.train_targets.labels)}


def _fit_prototype(model: Model, splits: LabeledSplits, run: Run[Prototype]) -> dict[str, Tensor]:
    train = _features(model, splits.train, run, "train")
    standardize = Standardization.of(train)
    targets = splits.train_targets
    means = class_means(standardize(train), targets.labels, targets.exclusive)
    head = LinearHead(*means).on_raw_features(standardize)
    return {"weights": head.weights, "intercepts": head.intercepts}


def _fit_lora(model: Model, splits: LabeledSplits, run: Run[Lora]) -> dict[str, Tensor]:
    training = Training(
        splits=splits,
        settings=run.protocol.train,
        augmentation=run.protocol.augmentation,
        adapters=(run.protocol.rank, run.protocol.alpha),
    )
    return changed_weights(train_classifier(model, training, run, "cls lora"), model)


_FIT: Mapping[type, Callable[[Model, LabeledSplits, Run[Any]], dict[str, Tensor]]] = {
    Linear: _fit_linear,
    Sweep: _fit_sweep,
    Neighbors: _fit_neighbors,
    Prototype: _fit_prototype,
    Lora: _fit_lora,
}
