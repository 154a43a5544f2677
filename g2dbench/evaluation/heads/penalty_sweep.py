"""A logistic regression whose penalty is chosen on the validation split, for each finding.

Legend: N images, D features, K findings, L penalties.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from g2dbench.evaluation.classification.targets import Targets
from g2dbench.evaluation.heads.linear import LinearHead, Standardization
from g2dbench.evaluation.heads.logistic import (
    ClassWeights,
    Features,
    Solutions,
    finding_weights,
    image_weights,
    solve_classes,
    solve_findings,
)


def fit_sweep(
    train: tuple[Tensor, Targets],
    valid: tuple[Tensor, Targets],
    findings: Sequence[str],
    penalties: Sequence[float],
    class_weights: ClassWeights,
) -> tuple[LinearHead, dict[str, Any]]:
    """The head for features (N, D) as they are, and what the result says about the choice.

    Features are standardized on the training images. The chosen penalty has the smallest mean
    cross-entropy on the validation split, with the same class weights, among equals the strongest;
    without a validation label it is the strongest. Classes that exclude each other share one.
    """
    strongest_first = sorted(penalties, reverse=True)
    standardize = Standardization.of(train[0])
    found = _solve(Features(train[0], standardize), train[1], strongest_first, class_weights)
    losses = _losses(found, standardize(valid[0]), valid[1], class_weights)
    best = losses.nan_to_num(nan=0).argmin(0)
    columns = torch.arange(len(best))
    head = LinearHead(found.weights[best, columns], found.intercepts[best, columns])
    details = {
        "penalties": strongest_first,
        "chosen": {
            name: strongest_first[int(row)] for name, row in zip(findings, best, strict=True)
        },
        "validation_loss": dict(zip(findings, losses.T.tolist(), strict=True)),
        "optimizer_steps": found.steps,
        "largest_gradient": found.gradient,
    }
    return head.on_raw_features(standardize), details


def _solve(
    features: Features, targets: Targets, penalties: Sequence[float], class_weights: ClassWeights
) -> Solutions:
    if targets.exclusive:
        classes = torch.from_numpy(targets.classes)
        return solve_classes(features, classes, targets.labels.shape[1], penalties, class_weights)
    return solve_findings(features, torch.from_numpy(targets.labels), penalties, class_weights)


def _losses(
    found: Solutions, features: Tensor, targets: Targets, class_weights: ClassWeights
) -> Tensor:
    """(L, K) mean cross-entropies of the known labels; NaN without one."""
    logits = found.logits(features)
    labels = torch.from_numpy(targets.labels)
    if targets.exclusive:
        classes, count = torch.from_numpy(targets.classes), labels.shape[1]
        weights = image_weights(classes, count, class_weights)
        target = classes.clamp(min=0).expand(len(logits), -1)
        values = F.cross_entropy(logits.mT, target, reduction="none")
        return ((values * weights).sum(1) / weights.sum())[:, None].expand(-1, count)
    weights = finding_weights(labels, class_weights)
    target = labels.nan_to_num(nan=0).double().expand(len(logits), -1, -1)
    values = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (values * weights).sum(1) / weights.sum(0)
