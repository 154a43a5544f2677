"""Classification without an optimizer: nearest neighbors and nearest class mean.

Legend: N training images, T test images, D features, K findings.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from g2dbench.metrics.classification import labeled
from g2dbench.sample import ABSENT, PRESENT

_SCALE = 2.0**25
"""Unit vectors are rounded to multiples of 1 / _SCALE. Inner products of such whole numbers stay
below 2**53, so doubles add them without rounding, in any order."""

_BLOCK = 1 << 25  # similarities that are held at once


def unit_vectors(features: Tensor) -> Tensor:
    """(N, D) -> (N, D) whole numbers in double precision: unit vectors times `_SCALE`."""
    vectors = features.double()
    length = vectors.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    return torch.round(vectors / length * _SCALE)


def neighbor_scores(
    train: Tensor, labels: NDArray[np.float64], test: Tensor, k: int, temperature: float
) -> NDArray[np.float64]:
    """The share of positives among the k nearest labeled training images, (T, K) in [0, 1].

    train (N, D), test (T, D): from `unit_vectors`; labels (N, K): 1, 0 or NaN for no label. Each
    neighbor counts exp(cosine / temperature), as in DINO (Caron et al. 2021). Among equal cosines
    the earlier training image is nearer. A finding without a labeled image gets 0.5.
    """
    scores = np.full((len(test), labels.shape[1]), 0.5)
    known = labeled(labels)
    step = max(1, _BLOCK // len(train))
    for start in range(0, len(test), step):
        cosines = (test[start : start + step] @ train.T / _SCALE**2).numpy()
        for column in np.flatnonzero(known.any(axis=0)):
            rows = np.flatnonzero(known[:, column])
            scores[start : start + step, column] = _shares(
                cosines[:, rows], labels[rows, column], min(k, len(rows)), temperature
            )
    return scores


def _shares(
    cosines: NDArray[np.float64], labels: NDArray[np.float64], k: int, temperature: float
) -> NDArray[np.float64]:
    """(T, N) cosines and (N,) labels -> weighted shares of positives among the k nearest, (T,)."""
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    near = np.take_along_axis(cosines, nearest, axis=1)
    weights = np.exp((near - near[:, :1]) / temperature)
    return np.asarray((weights * labels[nearest]).sum(axis=1) / weights.sum(axis=1))


def class_means(
    features: Tensor, labels: NDArray[np.float64], exclusive: bool
) -> tuple[Tensor, Tensor]:
    """The linear rule "nearer to which class mean", as weights (K, D) and intercepts (K,).

    features (N, D), best standardized; labels (N, K). A finding's logit is half the difference of
    the mean squared distances to its absent and its present mean; with exclusive findings it is
    minus half the mean squared distance to the class's mean, up to a constant. A finding without
    images of both classes gets zeros, a class without images can never be chosen.
    """
    vectors = features.double()
    width = vectors.shape[1]
    weights, intercepts = [], []
    for column in range(labels.shape[1]):
        present = _mean(vectors, labels[:, column] == PRESENT)
        absent = _mean(vectors, labels[:, column] == ABSENT)
        if exclusive:
            absent = torch.zeros(width).double()
        if present is None or absent is None:
            weights.append(torch.zeros(width).double())
            intercepts.append(-math.inf if exclusive else 0.0)
            continue
        weights.append((present - absent) / width)
        intercepts.append(float((absent @ absent - present @ present) / (2 * width)))
    return torch.stack(weights), torch.tensor(intercepts, dtype=torch.float64)


def _mean(vectors: Tensor, rows: NDArray[np.bool_]) -> Tensor | None:
    return vectors[torch.from_numpy(rows)].mean(0) if rows.any() else None
