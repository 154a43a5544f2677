"""Fine-tuning: the whole encoder and a linear layer are trained to classify findings.

Protocols (docs/tasks/finetune.md compares them):

    g2d      the paper, section A.4: 256 x 256, AdamW lr 1e-4, batches of 64, 50 epochs; it leaves
             weight decay, schedule and augmentation open: none here
    kad      KAD at 224: AdamW lr 1e-4, weight decay .02, cosine, 100 epochs of which 20 warm-up
    medklip  MedKLIP's published code (SIIM classification): AdamW lr 1e-5 throughout (its cosine
             ends at the rate it starts from), weight decay .02, batches of 64, 100 epochs; random
             resized crop of 20 to 100 %, flip, RandAugment
    mrm      MRM's published code (ChestX-ray14): SGD, momentum .9, batches of 96, cosine with
             warm-up, gradient norm 1; rate and steps by fraction (`_MRM_STEPS`); random resized
             crop, flip; the epoch with the best validation AUC
    ours     AdamW lr 3e-4 with layer-wise decay .75, weight decay .05, batches of 32, cosine over
             30 epochs with warm-up, early stopping, light augmentation without flips

KAD's fine-tuning code is not published: rate and batch are those that the G2D paper states for the
same experiment, the rest is KAD's pre-training configuration. So `kad` is a reconstruction.
Everywhere: the model's own normalization and input size (g2d: 256, kad, medklip, mrm: 224, unless
the model's size is fixed); the best epoch on the validation split is tested; the last, incomplete
batch is left out; images are mirrored only where the published code does it. Differences from MRM:
no stochastic depth, no extra layer norm, a crop of at least 20 % (MRM: 8 %), and other fractions
take the settings of the next larger one. Sources: G2D paper; KAD A3_CLIP; MedKLIP
Sample_Finetuning_SIIMACR/I1_classification; MRM NIH_ChestX-ray.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from g2dbench.cards import TaskCard
from g2dbench.dataset import Dataset
from g2dbench.evaluation.classification import scores
from g2dbench.evaluation.classification.augmentation import Augmentation
from g2dbench.evaluation.classification.splits import labeled_splits
from g2dbench.evaluation.classification.targets import probabilities
from g2dbench.evaluation.fine_tuning.classifier import (
    Training,
    changed_weights,
    load_classifier,
    preprocess_at,
    train_classifier,
)
from g2dbench.evaluation.fine_tuning.settings import FineTuneSettings
from g2dbench.evaluation.fitted_task import check_splits, save_if_asked
from g2dbench.evaluation.heads.saved_head import SavedHead
from g2dbench.evaluation.label_policy import PAPER_FINDINGS, LabelPolicy, policy_findings
from g2dbench.metrics import aggregate
from g2dbench.metrics.aggregate import PatientStatistic
from g2dbench.model import Features, Model, missing_capability
from g2dbench.result import Score
from g2dbench.task import Run

CARD = TaskCard(
    name="finetune",
    summary="Classification of findings with the whole encoder updated.",
    needs=("features",),
    annotations=("labels",),
    protocols=("g2d", "kad", "medklip", "mrm", "ours"),
    metric="auc",
    source="G2D paper, section A.4; MRM, MedKLIP and KAD, see tasks/finetune.py",
    order=15,
)

main_metric = scores.main_metric


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Settings of fine-tuning.

    size: the network's input side; None, or a model of fixed size: the model's own. flips: whether
    the augmentation mirrors images. monitor: what chooses the best epoch on the validation split.
    by_fraction: for each fraction up to which they hold, settings instead of those in `train`.
    """

    version: int = 1
    labels: LabelPolicy = field(default_factory=lambda: LabelPolicy(findings=PAPER_FINDINGS))
    size: int | None = 224
    augmentation: Augmentation = "none"
    flips: bool = False
    monitor: Literal["loss", "auc"] = "loss"
    train: FineTuneSettings
    by_fraction: Mapping[float, Mapping[str, float]] = field(default_factory=dict)


_MRM_STEPS: Mapping[float, Mapping[str, float]] = {
    0.01: {"lr": 3e-2, "steps": 3000, "warmup_steps": 50},
    0.1: {"lr": 3e-3, "steps": 30_000, "warmup_steps": 500},
}
"""Source: MRM NIH_ChestX-ray/finetuning_{1,10,100}percent.sh; 100 % is in the protocol itself."""

PROTOCOLS: Mapping[str, Protocol] = {
    "g2d": Protocol(size=256, train=FineTuneSettings(lr=1e-4, batch_size=64, epochs=50)),
    "kad": Protocol(
        train=FineTuneSettings(
            lr=1e-4, weight_decay=0.02, batch_size=64, epochs=100, schedule="cosine",
            warmup_epochs=20,
        ),
    ),
    "medklip": Protocol(
        augmentation="randaugment",
        flips=True,
        train=FineTuneSettings(lr=1e-5, weight_decay=0.02, batch_size=64, epochs=100),
    ),
    "mrm": Protocol(
        augmentation="resized-crop",
        flips=True,
        monitor="auc",
        train=FineTuneSettings(
            optimizer="sgd", lr=3e-3, batch_size=96, steps=200_000, schedule="cosine",
            warmup_steps=5000, clip=1.0,
        ),
        by_fraction=_MRM_STEPS,
    ),
    "ours": Protocol(
        size=None,
        augmentation="light",
        train=FineTuneSettings(
            lr=3e-4, weight_decay=0.05, batch_size=32, epochs=30, patience=8,
            min_steps_per_epoch=20,
            schedule="cosine", warmup_epochs=2, layer_decay=0.75,
        ),
    ),
}  # fmt: skip


def settings_for(protocol: Protocol, fraction: float) -> FineTuneSettings:
    """The training settings at a fraction of the training patients.

    A field that the user changed (`--set lr=...`) keeps the user's value at every fraction.
    """
    for limit in sorted(protocol.by_fraction):
        if fraction <= limit:
            published = PROTOCOLS["mrm"].train
            changes: dict[str, Any] = {
                name: value
                for name, value in protocol.by_fraction[limit].items()
                if getattr(protocol.train, name) == getattr(published, name)
            }
            return replace(protocol.train, **changes)
    return protocol.train


def predict(model: Model, run: Run[Protocol]) -> pd.DataFrame:
    """One row per test image and finding, see `classification/scores.py`."""
    return apply(model, fit(model, run), run)


def fit(model: Model, run: Run[Protocol]) -> SavedHead:
    """Train a copy of the model; the saved head has every weight that changed."""
    if not isinstance(model, Features):
        raise missing_capability(model, CARD)
    check_splits(run)
    protocol = run.protocol
    splits = labeled_splits(run, protocol.labels)
    training = Training(
        splits=splits,
        settings=settings_for(protocol, run.fraction),
        augmentation=protocol.augmentation,
        flips=protocol.flips,
        size=protocol.size,
        monitor=protocol.monitor,
    )
    weights = changed_weights(train_classifier(model, training, run, "fine-tuning"), model)
    head = SavedHead(weights, {"findings": splits.findings, "exclusive": splits.exclusive})
    valid = _scores(model, head, splits.valid, run, "valid")
    head.facts["thresholds"] = splits.valid_targets.thresholds(valid).tolist()
    scores.store_validation(run, splits.valid, head, valid)
    return save_if_asked(run, head)


def apply(model: Model, head: SavedHead, run: Run[Protocol]) -> pd.DataFrame:
    """Predictions of a fine-tuned model on `run.test`."""
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


def _scores(
    model: Model, head: SavedHead, data: Dataset, run: Run[Any], split: str
) -> NDArray[np.float64]:
    """Probabilities (N, K) of the fine-tuned model."""
    classifier = load_classifier(model, head.weights, run)
    preprocess = preprocess_at(model, run.protocol.size)
    logits = classifier.logits(data, preprocess, run, f"fine-tuned {split}")
    return probabilities(logits, head.facts["exclusive"])
