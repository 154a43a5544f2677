"""Logistic regression on standardized features, one for each finding; needs no seed.

The penalty is chosen on the validation split. Objective: the mean cross-entropy of the known labels
plus penalty / 2 times the squared weights, which scikit-learn calls C = 1 / (penalty * images).

Legend: N images, D width, K findings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits
from torch import Tensor

from g2dbench.errors import BadData
from g2dbench.evaluation.frozen_features import inner_products
from g2dbench.metrics.labels import labeled

TOLERANCE, MAX_STEPS = 1e-6, 5000
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Labeled:
    """Features (N, D) and labels (N, K): 1, 0, or -1 and NaN for no label."""

    features: Tensor
    labels: Array


@dataclass(frozen=True)
class LinearProbe:
    """Weights (K, D) and intercepts (K,) on features that are not standardized."""

    findings: tuple[str, ...]
    weights: Array
    intercepts: Array

    def __call__(self, features: Tensor) -> Array:
        """(N, D) -> log-odds (N, K); a row does not depend on the other rows."""
        return inner_products(features, torch.from_numpy(self.weights)) + self.intercepts


def fit_probe(
    train: Labeled,
    valid: Labeled,
    findings: Sequence[str],
    penalties: Sequence[float],
    details: dict[str, Any],
) -> LinearProbe:
    """Fit a layer for each finding that has both classes in both splits.

    details: gets the chosen penalty of each finding, and why others are not fitted. BadData if no
    finding can be fitted.
    """
    mean, scale = _standardization(train.features)
    inputs = [((split.features.double() - mean) / scale).numpy() for split in (train, valid)]
    chosen: dict[str, float] = {}
    left_out: dict[str, str] = {}
    rows: list[tuple[Array, float]] = []
    for k, finding in enumerate(findings):
        labels = train.labels[:, k], valid.labels[:, k]
        if reason := _why_not(*labels):
            left_out[finding] = reason
            continue
        with threadpool_limits(limits=1):  # sums must not depend on the number of cores
            chosen[finding], weights, intercept = _fit_one(inputs, labels, penalties)
        on_raw = weights / scale.numpy()
        rows.append((on_raw, intercept - float(on_raw @ mean.numpy())))
    details["fit"] = {"penalty": chosen, "not_fitted": left_out}
    if not rows:
        raise BadData(
            f"no finding can be fitted: {'; '.join(f'{f} {r}' for f, r in left_out.items())}; "
            "increase --fraction"
        )
    return LinearProbe(
        tuple(chosen), np.stack([w for w, _ in rows]), np.array([b for _, b in rows])
    )


def _standardization(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,) in double precision; 1 for a constant feature."""
    values = features.double()
    mean, scale = values.mean(0), values.std(0, correction=0)
    return mean, torch.where(scale > 1e-12 * (1 + mean.abs()), scale, 1.0)


def _why_not(train: Array, valid: Array) -> str:
    for name, labels in (("training", train), ("validation", valid)):
        if len(np.unique(labels[labeled(labels)])) < 2:
            return f"has one class only in the {name} split"
    return ""


def _fit_one(
    features: Sequence[Array], labels: Sequence[Array], penalties: Sequence[float]
) -> tuple[float, Array, float]:
    """The best penalty on the validation split, the weights (D,) and the intercept.

    features, labels: of the training and of the validation split.
    """
    (train, valid), (train_labels, valid_labels) = features, labels
    known, judged = labeled(train_labels), labeled(valid_labels)
    count = int(known.sum())
    best: tuple[float, float, Array, float] | None = None
    model = LogisticRegression(tol=TOLERANCE, max_iter=MAX_STEPS, warm_start=True)
    for penalty in sorted(penalties, reverse=True):
        model.set_params(C=1 / (penalty * count))
        model.fit(train[known], train_labels[known].astype(int))
        loss = float(
            log_loss(valid_labels[judged].astype(int), model.predict_proba(valid[judged])[:, 1])
        )
        if best is None or loss < best[0]:
            best = loss, penalty, model.coef_[0].copy(), float(model.intercept_[0])
    assert best is not None
    return best[1:]
