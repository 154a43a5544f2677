"""Linear classification: one linear layer on the frozen encoder's pooled features.

Source: G2D paper, sections 4.1 and A.4, which follow MGCA's linear protocol (mgca/models/
ssl_finetuner.py): AdamW 5e-4, weight decay 1e-6, batch 8, 50 epochs, early stopping with patience
10 on the validation loss. Where we differ from MGCA: images are not augmented, the last batch is
kept, and an uncertain or missing label is left out of loss and score instead of being made 0 or 1.
Features enter as they are: the protocol standardises nothing, and neither do we.

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
from g2dbench.evaluation.fit_head import INIT, FitSettings, one_thread
from g2dbench.evaluation.fitted_task import check_parts, fit_on
from g2dbench.evaluation.frozen_features import pooled, products
from g2dbench.evaluation.heads.unet import linear
from g2dbench.evaluation.prediction_table import judged_findings, labels, long_table, wide
from g2dbench.metrics.aggregate import Measured, family, scores, undefined
from g2dbench.metrics.bootstrap import Statistic, mean_of
from g2dbench.metrics.classification import correct, decide, judged, weighted_auc, weighted_f1
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
)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Settings of the linear probe. least_steps: 160 images (1 % of RSNA) in batches of 8."""

    version: int = 1
    fit: FitSettings = field(
        default_factory=lambda: FitSettings(
            lr=5e-4, weight_decay=1e-6, batch_size=8, epochs=50, patience=10, least_steps=20
        )
    )


PROTOCOLS: Mapping[str, Protocol] = {"g2d": Protocol()}


@dataclass(frozen=True)
class _Part:
    """Features (N, D), labels (N, K), targets (N, K) 0 where unjudged, weights (N, K) 1 or 0."""

    features: Tensor
    labels: NDArray[np.float64]
    targets: Tensor
    weights: Tensor

    def loss(self, head: nn.Module, rows: Tensor) -> Tensor:
        """Mean cross-entropy over the judged labels of these rows."""
        weights = self.weights[rows]
        total = F.binary_cross_entropy_with_logits(
            head(self.features[rows]), self.targets[rows], weight=weights, reduction="sum"
        )
        return total / weights.sum().clamp(min=1)


def predict(model: Model, run: Run[Protocol]) -> pd.DataFrame:
    """One row per test image and finding: truth, score in [0, 1], and the finding's threshold.

    Columns id, patient, finding, truth, score, threshold; the threshold has the best F1 on the
    validation images, NaN where these show no positive. Findings are those judged in the test part.
    """
    if not isinstance(model, Features):
        raise missing_capability(model, CARD)
    check_parts(run)
    findings = judged_findings(run.test)
    train = _part(model, run.train, "train", findings, run)
    valid = _part(model, run.valid, "valid", findings, run)
    test = _part(model, run.test, "test", findings, run)
    head = _fitted(train, valid, run)
    return long_table(
        run.test,
        findings,
        truth=test.labels,
        score=_scores(head, test),
        threshold=_thresholds(valid.labels, _scores(head, valid)),
    )


def score(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, Score]:
    """`statistics` with their values and intervals."""
    return scores(statistics(predictions, protocol))


def statistics(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, Measured]:
    """AUC, and F1 and accuracy at the validation-chosen threshold, of all findings and of each.

    `auc`, `f1`, `acc` are means over the findings that have both kinds of test image; n counts
    judged images; intervals are over patients.
    """
    table = wide(predictions, ("truth", "score", "threshold"))
    auc: dict[str, Statistic] = {}
    f1: dict[str, Statistic] = {}
    acc: dict[str, Statistic] = {}
    for k, finding in enumerate(table.findings):
        truth, value, threshold = (table[c][:, k] for c in ("truth", "score", "threshold"))
        auc[finding] = partial(weighted_auc, truth, value)
        f1[finding], acc[finding] = _decided(truth, value, threshold)
    known = judged(table["truth"])
    return {
        name: metric
        for kind, each in (("auc", auc), ("f1", f1), ("acc", acc))
        for name, metric in family(kind, table.patients, each, known).items()
    }


def _decided(
    truth: NDArray[np.float64], value: NDArray[np.float64], threshold: NDArray[np.float64]
) -> tuple[Statistic, Statistic]:
    """F1 and accuracy of one finding; undefined with one class, or where no threshold was found."""
    if len(np.unique(truth[judged(truth)])) < 2 or np.isnan(threshold).all():
        return undefined, undefined
    claim = decide(value, float(threshold[0]))
    return partial(weighted_f1, truth, claim), mean_of(correct(truth, claim))


def _part(
    model: Model, data: Dataset, name: str, findings: tuple[str, ...], run: Run[Protocol]
) -> _Part:
    known = labels(data, findings)
    weights = judged(known)
    if not weights.any():
        raise BadData(
            f"no {name} image of {data.card.name} ({len(data)} of them) has a judged label of "
            f"{', '.join(findings)}: raise --fraction or choose another split"
        )
    features = pooled(model, data, run, f"cls {name} features")
    return _Part(
        features,
        known,
        torch.from_numpy(np.where(weights, known, 0)).float(),
        torch.from_numpy(weights).float(),
    )


def _fitted(train: _Part, valid: _Part, run: Run[Protocol]) -> nn.Linear:
    """The linear layer, on the CPU: its steps are too small for anything else to be faster."""
    width, outputs = train.features.shape[1], train.targets.shape[1]
    head = linear(width, outputs, run.generator(INIT))
    everything = torch.arange(len(valid.features))
    with one_thread():
        fit_on(
            run,
            head,
            len(train.features),
            lambda rows: train.loss(head, rows),
            lambda: float(valid.loss(head, everything)),
            run.protocol.fit,
            "cls fit",
        )
    return head


def _scores(head: nn.Linear, part: _Part) -> NDArray[np.float64]:
    """Probabilities (N, K) in double precision, so that far logits stay apart."""
    weight, bias = head.weight.detach(), head.bias.detach().double().numpy()
    return np.asarray(expit(products(part.features, weight) + bias))


def _thresholds(truth: NDArray[np.float64], value: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K,) thresholds with the best F1 on these labels; NaN without a positive."""
    return np.array([f1_threshold(truth[:, k], value[:, k]) for k in range(truth.shape[1])])
