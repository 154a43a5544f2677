"""A linear head on features: standardization, logits in double precision.

Legend: N images, D features, K findings.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from g2dbench.evaluation.frozen_features import inner_products


@dataclass(frozen=True)
class LinearHead:
    """weights (K, D) and intercepts (K,)."""

    weights: Tensor
    intercepts: Tensor

    def logits(self, features: Tensor) -> NDArray[np.float64]:
        """(N, D) -> (N, K) in double precision; no row depends on the others."""
        products = inner_products(features, self.weights)
        return np.asarray(products + self.intercepts.double().numpy())

    def on_raw_features(self, standardization: "Standardization") -> "LinearHead":
        """The same head, for features that are not standardized."""
        weights = self.weights.double() / standardization.deviation
        return LinearHead(weights, self.intercepts.double() - weights @ standardization.mean)


@dataclass(frozen=True)
class Standardization:
    """Mean and standard deviation of each feature over the training images, (D,) doubles."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "Standardization":
        """From training features (N, D). A constant feature gets deviation 1, so it becomes 0."""
        values = features.double()
        deviation = values.std(0, correction=0)
        smallest = values.abs().amax(0) * 1e-6
        return cls(values.mean(0), torch.where(deviation > smallest, deviation, 1.0))

    def __call__(self, features: Tensor) -> Tensor:
        """(N, D) -> (N, D) doubles."""
        return (features.double() - self.mean) / self.deviation
