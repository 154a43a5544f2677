"""The labels of one split as targets of a loss: one sigmoid per finding, or a softmax over classes.

Classes are findings of which every image has exactly one (`DatasetCard.exclusive`).

Legend: N images, B images of one batch, K findings.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, softmax
from torch import Tensor
from torch.nn import functional as F

from g2dbench.dataset import Dataset
from g2dbench.errors import BadData
from g2dbench.evaluation.label_policy import LabelPolicy, policy_labels
from g2dbench.metrics.classification import labeled
from g2dbench.metrics.threshold import f1_threshold
from g2dbench.sample import PRESENT

NO_CLASS = -1


@dataclass(frozen=True)
class Targets:
    """labels: (N, K), 1, 0 or NaN for no label. exclusive: whether the findings are classes."""

    labels: NDArray[np.float64]
    exclusive: bool = False

    @classmethod
    def of(
        cls, policy: LabelPolicy, data: Dataset, findings: tuple[str, ...], split: str
    ) -> "Targets":
        """The targets of a split under a label policy; BadData if no image has one."""
        found = cls(policy_labels(policy, data, findings), data.card.exclusive)
        known = found.classes != NO_CLASS if found.exclusive else labeled(found.labels)
        if not known.any():
            raise BadData(
                f"none of the {len(data)} {split} images of {data.card.name} has a label 1 or 0 "
                f"for {', '.join(findings)}: increase --fraction or choose another split"
            )
        return found

    @cached_property
    def classes(self) -> NDArray[np.int64]:
        """The class of each image, (N,); `NO_CLASS` unless exactly one label is 1."""
        present = self.labels == PRESENT
        return np.where(present.sum(axis=1) == 1, present.argmax(axis=1), NO_CLASS)

    def loss(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Mean cross-entropy over the known labels of these rows; logits (B, K), rows (B,)."""
        if self.exclusive:
            classes = self._class_tensor[rows].to(logits.device)
            total = F.cross_entropy(logits, classes, ignore_index=NO_CLASS, reduction="sum")
            return total / (classes != NO_CLASS).sum().clamp(min=1)
        weights = self.weights[rows].to(logits.device)
        total = F.binary_cross_entropy_with_logits(
            logits, self._values[rows].to(logits.device), weight=weights, reduction="sum"
        )
        return total / weights.sum().clamp(min=1)

    def probabilities(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, K) logits in double precision -> probabilities."""
        return probabilities(logits, self.exclusive)

    def thresholds(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        """(K,) thresholds with the best F1 on these labels; NaN without a positive image."""
        return np.array(
            [f1_threshold(self.labels[:, k], score[:, k]) for k in range(self.labels.shape[1])]
        )

    @cached_property
    def weights(self) -> Tensor:
        """1 where a label is known, else 0, (N, K)."""
        return torch.from_numpy(labeled(self.labels)).float()

    @cached_property
    def _values(self) -> Tensor:
        return torch.from_numpy(np.where(labeled(self.labels), self.labels, 0)).float()

    @cached_property
    def _class_tensor(self) -> Tensor:
        return torch.from_numpy(self.classes)


def probabilities(logits: NDArray[np.float64], exclusive: bool) -> NDArray[np.float64]:
    """Sigmoid of each logit, or softmax over the classes, (N, K); double keeps large ones apart."""
    return np.asarray(softmax(logits, axis=1) if exclusive else expit(logits))
