"""A prepared data set: the packed store as tasks and training see it.

`table` has one row per image, in store order, with the columns of `COLUMNS` plus one
`label:<finding>` column per finding (1, 0, -1, or NaN where nobody judged). It never holds pixels.
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


class Source(Protocol):
    """What is said of a training's data: which it is, and the SHA-256 of what it depends on."""

    @property
    def card(self) -> DatasetCard:
        """Which data set it is."""
        ...

    @property
    def fingerprint(self) -> str:
        """In hex."""
        ...


class Dataset(Protocol):
    """Random access to prepared samples. A subset keeps card, fingerprint and size."""

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
        """The rows at these positions, in this order."""
        ...

    def split(self, name: str) -> "Dataset":
        """The train, valid or test part; BadData if it is empty."""
        ...
