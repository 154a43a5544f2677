"""Linear classification: one linear layer on the frozen encoder's pooled features.

Source: G2D paper, sections 4.1 and A.4, which follow MGCA's linear probe
(mgca/models/ssl_finetuner.py).
Settings: AdamW with learning rate 5e-4 and weight decay 1e-6, batches of 8, 50 epochs, early
stopping on the validation loss with patience 10. Features are not standardized.
Differences from MGCA:
  - images are not augmented, so that features are computed once.
  - the last, incomplete batch of an epoch is used.
  - uncertain and missing labels are excluded from loss and score; MGCA sets them to 0 or 1.

Legend: N images, D width, K findings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor, nn
from torch.nn import functional as F

from g2dbench.cards import TaskCard
from g2dbench.dataset import Dataset
from g2dbench.errors import BadData
from g2dbench.evaluation.fit_head import INIT, FitSettings, single_cpu_thread
from g2dbench.evaluation.fitted_task import check_splits, fit_in_run
from g2dbench.evaluation.frozen_features import inner_products, pooled_features
from g2dbench.evaluation.heads.unet import linear
from g2dbench.evaluation.prediction_table import labeled_findings, labels, long_table, to_wide
from g2dbench.metrics.aggregate import PatientStatistic, per_finding, scores, undefined
from g2dbench.metrics.bootstrap import Statistic, mean_of
from g2dbench.metrics.classification import binarize, correct, labeled, weighted_auc, weighted_f1
from g2dbench.metrics.threshold import f1_threshold
from g2dbench.model import Features, Model, missing_capability
from g2dbench.result import Score
from g2dbench.task import Run

CARD = TaskCard(
    name="cls",
    summary="Linear classification of findings on the frozen encoder.",
    needs=("features",),
    annotations=("labels",),
    protocols=("g2d",),
    metric="auc",
    source="G2D paper, sections 4.1 and A.4; MGCA mgca/models/ssl_finetuner.py",
    order=10,
)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Settings of the linear probe. Its minimum of steps: 160 images, 1 % of RSNA, by 8."""

    version: int = 1
    fit: FitSettings = field(
        default_factory=lambda: FitSettings(
            lr=5e-4, weight_decay=1e-6, batch_size=8, epochs=50, patience=10, min_steps_per_epoch=20
        )
    )


PROTOCOLS: Mapping[str, Protocol] = {"g2d": Protocol()}


@dataclass(frozen=True)
class _Split:
    """One split: features (N, D); labels, targets (0 if not labeled), weights (0 or 1), (N, K)."""

    features: Tensor
    labels: NDArray[np.float64]
    targets: Tensor
    weights: Tensor

    def loss(self, head: nn.Module, rows: Tensor) -> Tensor:
        """Mean binary cross-entropy over the known labels of these rows."""
        weights = self.weights[rows]
        total = F.binary_cross_entropy_with_logits(
            head(self.features[rows]), self.targets[rows], weight=weights, reduction="sum"
        )
        return total / weights.sum().clamp(min=1)


def predict(model: Model, run: Run[Protocol]) -> pd.DataFrame:
    """One row per test image and finding: truth, score in [0, 1], and the finding's threshold.

    Columns id, patient, finding, truth, score, threshold. The threshold has the best F1 on the
    validation split, NaN if that has no positive image. Findings: those labeled in the test split.
    """
    if not isinstance(model, Features):
        raise missing_capability(model, CARD)
    check_splits(run)
    findings = labeled_findings(run.test)
    train = _load_split(model, run.train, "train", findings, run)
    valid = _load_split(model, run.valid, "valid", findings, run)
    test = _load_split(model, run.test, "test", findings, run)
    head = _fit_linear(train, valid, run)
    return long_table(
        run.test,
        findings,
        truth=test.labels,
        score=_scores(head, test),
        threshold=_thresholds(valid.labels, _scores(head, valid)),
    )


def score(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, Score]:
    """The value and the confidence interval of each of `statistics`."""
    return scores(statistics(predictions, protocol))


def statistics(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, PatientStatistic]:
    """AUC, F1 and accuracy of each finding and averaged over findings.

    F1 and accuracy use the threshold chosen on the validation split. `auc`, `f1`, `acc` are means
    over the findings with positive and negative test images. n: labeled images.
    """
    table = to_wide(predictions, ("truth", "score", "threshold"))
    auc: dict[str, Statistic] = {}
    f1: dict[str, Statistic] = {}
    acc: dict[str, Statistic] = {}
    for k, finding in enumerate(table.findings):
        truth, value, threshold = (table[c][:, k] for c in ("truth", "score", "threshold"))
        auc[finding] = partial(weighted_auc, truth, value)
        f1[finding], acc[finding] = _f1_and_accuracy(truth, value, threshold)
    known = labeled(table["truth"])
    return {
        name: metric
        for metric_name, by_finding in (("auc", auc), ("f1", f1), ("acc", acc))
        for name, metric in per_finding(metric_name, table.patients, by_finding, known).items()
    }


def _f1_and_accuracy(
    truth: NDArray[np.float64], value: NDArray[np.float64], threshold: NDArray[np.float64]
) -> tuple[Statistic, Statistic]:
    """F1 and accuracy of one finding; undefined with one class or without a threshold."""
    if len(np.unique(truth[labeled(truth)])) < 2 or np.isnan(threshold).all():
        return undefined, undefined
    decision = binarize(value, float(threshold[0]))
    return partial(weighted_f1, truth, decision), mean_of(correct(truth, decision))


def _load_split(
    model: Model, data: Dataset, name: str, findings: tuple[str, ...], run: Run[Protocol]
) -> _Split:
    known = labels(data, findings)
    weights = labeled(known)
    if not weights.any():
        raise BadData(
            f"none of the {len(data)} {name} images of {data.card.name} has a label 1 or 0 for "
            f"{', '.join(findings)}: increase --fraction or choose another split"
        )
    features = pooled_features(model, data, run, f"cls {name} features")
    return _Split(
        features,
        known,
        torch.from_numpy(np.where(weights, known, 0)).float(),
        torch.from_numpy(weights).float(),
    )


def _fit_linear(train: _Split, valid: _Split, run: Run[Protocol]) -> nn.Linear:
    """The fitted linear layer, on the CPU: for such small steps a GPU is not faster."""
    width, outputs = train.features.shape[1], train.targets.shape[1]
    head = linear(width, outputs, run.generator(INIT))
    all_rows = torch.arange(len(valid.features))
    with single_cpu_thread():
        fit_in_run(
            run,
            head,
            len(train.features),
            lambda rows: train.loss(head, rows),
            lambda: float(valid.loss(head, all_rows)),
            run.protocol.fit,
            "cls fit",
        )
    return head


def _scores(head: nn.Linear, split: _Split) -> NDArray[np.float64]:
    """Probabilities (N, K) in double precision, so that large logits stay distinct."""
    weight, bias = head.weight.detach(), head.bias.detach().double().numpy()
    return np.asarray(expit(inner_products(split.features, weight) + bias))


def _thresholds(truth: NDArray[np.float64], value: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K,) thresholds with the best F1 on these labels; NaN without a positive image."""
    return np.array([f1_threshold(truth[:, k], value[:, k]) for k in range(truth.shape[1])])
