"""L2-regularized logistic regression: all findings and penalties in one batched optimization.

Each problem minimizes a strictly convex function, so its solution is unique and needs no seed:

    mean cross-entropy of the known labels + penalty / 2 * |weights|^2

The intercept is not penalized; in scikit-learn's terms C = 1 / (penalty * labeled images). All
numbers are doubles. With fewer images than features, the weights lie in the span of the images
(representer theorem), so the problem is solved there, which is exact. Coordinates are rotated to
the features' principal axes and scaled by 1 / sqrt(eigenvalue / 4 + penalty), the bound of the
Hessian (Bohning 1992): a step of length 1 then never overshoots, and L-BFGS needs tens of steps.

Legend: N images, D features, K findings, L penalties, P problems, J outputs of one problem (1, or K
classes for softmax), M coordinates: min(N, D) and the intercept.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from g2dbench.evaluation.fit_head import single_cpu_thread

ClassWeights = Literal["none", "balanced"]

Objective: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Logits (N, A, J) of the problems with these numbers (A,) -> losses (A,), and their derivatives by
the logits (N, A, J)."""

_PART = 4096  # images that are standardized at once

GRADIENT_TOLERANCE = 1e-9
MAX_STEPS, MEMORY, MAX_HALVINGS = 2000, 20, 40
_SLOPE = 1e-4
"""Armijo's condition: the share of the predicted decrease that a step must reach."""
_ROUNDING = 8 * torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Features:
    """values (N, D), and how to standardize some of them; doubles of all are never in memory."""

    values: Tensor
    standardize: Callable[[Tensor], Tensor] = Tensor.double

    def parts(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield rows and their standardized features, in double precision."""
        for start in range(0, len(self.values), _PART):
            rows = slice(start, start + _PART)
            yield rows, self.standardize(self.values[rows])


@dataclass(frozen=True)
class Solutions:
    """weights (L, K, D), intercepts (L, K); steps: L-BFGS steps; gradient: the largest one left."""

    weights: Tensor
    intercepts: Tensor
    steps: int
    gradient: float

    def logits(self, features: Tensor) -> Tensor:
        """(N, D) -> (L, N, K)."""
        return features.double() @ self.weights.mT + self.intercepts[:, None, :]


def solve_findings(
    features: Features, labels: Tensor, penalties: Sequence[float], class_weights: ClassWeights
) -> Solutions:
    """One binary problem for each finding and penalty.

    labels (N, K): 1, 0 or NaN for no label. A finding without
    any label gets zeros. class_weights: "balanced" gives both classes of a finding the same sum.
    """
    count = labels.shape[1]
    present = labels.nan_to_num(nan=0).double()
    finding = torch.arange(count).repeat(len(penalties))
    penalty = torch.tensor(penalties, dtype=torch.float64).repeat_interleave(count)
    importance = finding_weights(labels, class_weights)

    def objective(logits: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        target, weight = present[:, finding[rows]], importance[:, finding[rows]]
        logits = logits[..., 0]
        value = (weight * (F.softplus(logits) - target * logits)).sum(0)
        return value, (weight * (logits.sigmoid() - target))[..., None]

    return _solve(features, penalty, 1, objective, len(penalties))


def solve_classes(
    features: Features, classes: Tensor, count: int, penalties: Sequence[float],
    class_weights: ClassWeights,
) -> Solutions:  # fmt: skip
    """One softmax problem for each penalty; classes (N,) from 0 to count - 1, -1 for no class."""
    target = F.one_hot(classes.clamp(min=0), count).double()
    penalty = torch.tensor(penalties, dtype=torch.float64)
    importance = image_weights(classes, count, class_weights)

    def objective(logits: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        chosen = (logits * target[:, None, :]).sum(-1)
        value = (importance[:, None] * (logits.logsumexp(-1) - chosen)).sum(0)
        residual = logits.softmax(-1) - target[:, None, :]
        return value, importance[:, None, None] * residual

    return _solve(features, penalty, count, objective, len(penalties))


def finding_weights(labels: Tensor, rule: ClassWeights) -> Tensor:
    """Weights (N, K) of images that sum to 1 over the known labels of each finding.

    Without a known label all are 0. "balanced": both classes of a finding have the same sum.
    """
    known = (~labels.isnan()).double()
    if rule == "balanced":
        present = labels.nan_to_num(nan=0).double()
        classes = torch.stack([present, known - present])
        known = (classes / classes.sum(1, keepdim=True).clamp(min=1)).sum(0)
    return known / known.sum(0).clamp(min=torch.finfo(torch.float64).tiny)


def image_weights(classes: Tensor, count: int, rule: ClassWeights) -> Tensor:
    """Weights (N,) of images that sum to 1 over those with a class; "balanced": also by class."""
    member = (classes[:, None] == torch.arange(count)).double()
    if rule == "balanced":
        member = member / member.sum(0).clamp(min=1)
    weights = member.sum(1)
    return weights / weights.sum().clamp(min=torch.finfo(torch.float64).tiny)


def _solve(
    data: Features, penalty: Tensor, outputs: int, objective: Objective, penalties: int
) -> Solutions:
    """Solve all problems; penalty (P,). Problems are ordered by penalty, then by finding."""
    with single_cpu_thread(), torch.no_grad():
        basis, eigenvalues = _principal_axes(data)
        inputs = torch.ones(len(data.values), len(eigenvalues) + 1, dtype=torch.float64)
        for rows, part in data.parts():
            inputs[rows, :-1] = part @ basis
        curvature = eigenvalues / 4 + penalty[:, None]
        scale = torch.cat([curvature, torch.full_like(penalty[:, None], 0.25)], 1).rsqrt()
        problems = _Problems(inputs, scale[:, None, :], penalty, objective)
        found, steps, gradient = _minimize(problems, scale.new_zeros(len(penalty), outputs, 1))
        found = (found * scale[:, None, :]).reshape(penalties, -1, scale.shape[1])
        return Solutions(found[..., :-1] @ basis.T, found[..., -1], steps, gradient)


def _principal_axes(data: Features) -> tuple[Tensor, Tensor]:
    """An orthonormal basis (D, min(N, D)) of the images' span, and the eigenvalues (min(N, D),)."""
    count, width = data.values.shape
    span = torch.eye(width).double()
    if count < width:
        span = torch.linalg.qr(torch.cat([part for _, part in data.parts()]).T).Q
    gram = span.new_zeros(span.shape[1], span.shape[1])
    for _, part in data.parts():
        coordinates = part @ span if count < width else part
        gram += coordinates.T @ coordinates
    eigenvalues, axes = torch.linalg.eigh(gram / count)
    return span @ axes, eigenvalues.clamp(min=0)


@dataclass(frozen=True)
class _Problems:
    """Value and gradient in scaled coordinates; inputs (N, M), scale (P, 1, M), penalty (P,)."""

    inputs: Tensor
    scale: Tensor
    penalty: Tensor
    objective: Objective

    def __call__(self, point: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Points (A, J, M) of the problems `rows` (A,) -> values (A,) and gradients (A, J, M)."""
        scale = self.scale[rows]
        weights = point * scale
        shape = (len(self.inputs), *weights.shape[:2])
        logits = (self.inputs @ weights.flatten(0, 1).T).view(shape)
        value, residual = self.objective(logits, rows)
        gradient = (residual.flatten(1).T @ self.inputs).view(weights.shape)
        penalized = weights * self.penalty[rows, None, None]
        penalized[..., -1] = 0  # the intercept
        value = value + (penalized * weights).sum((1, 2)) / 2
        return value, (gradient + penalized) * scale


def _minimize(problems: _Problems, start: Tensor) -> tuple[Tensor, int, float]:
    """L-BFGS on every problem until its gradient is at most `GRADIENT_TOLERANCE`.

    Returns the points (P, J, M), the number of steps and the largest gradient that is left.
    """
    point = start.expand(-1, -1, problems.inputs.shape[1]).clone()
    rows = torch.arange(len(point))
    value, gradient = problems(point, rows)
    history: deque[tuple[Tensor, Tensor]] = deque(maxlen=MEMORY)
    steps = 0
    while steps < MAX_STEPS:
        active = (gradient.abs().amax((1, 2)) > GRADIENT_TOLERANCE).nonzero()[:, 0]
        if not len(active):
            break
        direction = -_newton_like(gradient, history)
        moved = _line_search(problems, point, value, gradient, direction, active)
        if moved is None:  # no step lowers a value by more than rounding
            break
        new_point, value, new_gradient = moved
        history.append((new_point - point, new_gradient - gradient))
        point, gradient = new_point, new_gradient
        steps += 1
    return point, steps, float(gradient.abs().max())


def _newton_like(gradient: Tensor, history: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The inverse Hessian's estimate times the gradient: L-BFGS's two loops, for all problems.

    A pair of a problem that did not move then is skipped (its product is 0).
    """
    vector, factors = gradient, []
    scale = gradient.new_ones(len(gradient))
    for step, change in history:
        product = (step * change).sum((1, 2))
        scale = torch.where(product > 0, product / _positive((change**2).sum((1, 2))), scale)
    for step, change in reversed(history):
        product = (step * change).sum((1, 2))
        inverse = torch.where(product > 0, 1 / _positive(product), 0)
        factor = inverse * (step * vector).sum((1, 2))
        vector = vector - factor[:, None, None] * change
        factors.append((inverse, factor))
    vector = vector * scale[:, None, None]
    for (step, change), (inverse, factor) in zip(history, reversed(factors), strict=True):
        correction = factor - inverse * (change * vector).sum((1, 2))
        vector = vector + correction[:, None, None] * step
    return vector


def _positive(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, 1)


def _line_search(
    problems: _Problems,
    point: Tensor,
    value: Tensor,
    gradient: Tensor,
    direction: Tensor,
    active: Tensor,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Halve each active problem's step until its value falls enough; None if none can move.

    Problems that cannot move stay where they are.
    """
    new_point, new_value, new_gradient = point.clone(), value.clone(), gradient.clone()
    slope = (gradient * direction).sum((1, 2))
    length, left = 1.0, active
    for _ in range(MAX_HALVINGS):
        trial = point[left] + length * direction[left]
        trial_value, trial_gradient = problems(trial, left)
        bound = value[left] + _SLOPE * length * slope[left] + _ROUNDING * value[left].abs()
        good = trial_value <= bound
        done = left[good]
        new_point[done], new_value[done] = trial[good], trial_value[good]
        new_gradient[done] = trial_gradient[good]
        left, length = left[~good], length / 2
        if not len(left):
            break
    return None if len(left) == len(active) else (new_point, new_value, new_gradient)
