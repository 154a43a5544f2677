"""The encoder's outputs for corrupted images, cached under the name of the corruption.

Legend: N images, D width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from g2dbench.cards import DatasetCard
from g2dbench.dataset import Dataset
from g2dbench.evaluation.frozen_features import Encode, FrozenEncoder, encode_dataset
from g2dbench.evaluation.robustness import corruptions
from g2dbench.evaluation.robustness.corruptions import Condition
from g2dbench.model import Model
from g2dbench.sample import Sample
from g2dbench.system.source_digest import source_digest
from g2dbench.task import Run


class CorruptedDataset:
    """A data set with corrupted images; boxes and masks, which may no longer fit, are left out.

    Fingerprint and table are those of the data set without corruption: features of the images need
    an output name of their own.
    """

    def __init__(self, data: Dataset, condition: Condition) -> None:
        self._data, self._condition = data, condition
        self.card: DatasetCard = data.card
        self.fingerprint: str = data.fingerprint
        self.size: int = data.size

    @property
    def table(self) -> pd.DataFrame:
        """The table of the data set."""
        return self._data.table

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Sample:
        sample = self._data[index]
        image = self._condition(sample.image, sample.id)
        return replace(sample, image=image, boxes=None, masks=None)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def take(self, indices: Sequence[int]) -> "CorruptedDataset":
        """The images at these positions, in this order."""
        return CorruptedDataset(self._data.take(indices), self._condition)

    def split(self, name: str) -> "CorruptedDataset":
        """The images of one split, corrupted."""
        return CorruptedDataset(self._data.split(name), self._condition)


@dataclass(frozen=True)
class ImageEncoder:
    """One output of a frozen model; output: its name in the feature cache."""

    model: Model
    encode: Encode
    output: str
    run: Run[Any]

    def clean(self, data: Dataset, title: str) -> Tensor:
        """(N, D) float32 on the CPU, of the images as they are."""
        return self._encoded(data, self.output, title)

    def corrupted(self, clean: Tensor, condition: Condition, data: Dataset, title: str) -> Tensor:
        """(N, D) of the corrupted images; clean (N, D): for images that are not affected."""
        affected = [condition.affects(name) for name in data.table["id"].astype(str)]
        rows = np.flatnonzero(affected)
        if rows.size == 0:
            return clean
        images = CorruptedDataset(data.take(rows.tolist()), condition)
        code = source_digest((corruptions.__name__,))[:12]
        found = clean.clone()
        found[torch.from_numpy(rows)] = self._encoded(
            images, f"{self.output} of images with {condition.output}, code {code}", title
        )
        return found

    def _encoded(self, data: Dataset, output: str, title: str) -> Tensor:
        frozen = FrozenEncoder(self.model, self.encode, self.model.preprocess, self.run, output)
        return encode_dataset(frozen, data, self.run, title)
