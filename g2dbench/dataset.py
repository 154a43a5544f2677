"""The interface of a prepared data set for tasks and training.

`table` has one row per image, in store order, with the columns of `COLUMNS` plus one
`label:<finding>` column per finding (1, 0, -1, or NaN if not labeled). It has no pixels.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import pandas as pd

from g2dbench.cards import DatasetCard
from g2dbench.sample import Sample

COLUMNS = (
    "id",
    "patient",
    "study",
    "view",
    "sex",
    "age",
    "split",
    "report",
    "has_boxes",
    "has_masks",
)
LABEL_PREFIX = "label:"


class DataSource(Protocol):
    """The identity of training data: its card, and a SHA-256 of everything that it depends on."""

    @property
    def card(self) -> DatasetCard:
        """The data set's card."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 in hex."""
        ...


class Dataset(Protocol):
    """Random access to prepared samples. A subset keeps card, fingerprint and size (pixels)."""

    card: DatasetCard
    fingerprint: str
    size: int

    @property
    def table(self) -> pd.DataFrame:
        """One row per image, without pixels."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def __iter__(self) -> Iterator[Sample]: ...

    def take(self, indices: Sequence[int]) -> "Dataset":
        """The subset with these row indices, in this order."""
        ...

    def split(self, name: str) -> "Dataset":
        """The train, valid or test split; BadData if it is empty."""
        ...
