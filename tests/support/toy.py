"""What the tests of tasks share: a data set in memory, and one thread."""

from collections.abc import Iterator, Sequence
from typing import Self

import pandas as pd
import pytest

from g2dbench.cards import DatasetCard
from g2dbench.evaluation.fit_head import one_thread
from g2dbench.sample import Sample

COLUMNS = ["id", "patient", "has_boxes", "has_masks"]


@pytest.fixture(autouse=True, scope="module")
def single_thread() -> Iterator[None]:
    """For every test of a file that says `single_thread = toy.single_thread`."""
    with one_thread():
        yield


def card(name: str, offers: str, *findings: str) -> DatasetCard:
    return DatasetCard(
        name=name, summary="", offers=(offers,), findings=findings, url="", licence=""
    )


class Memory:
    """A data set in memory; a test's own has a card and the size of its images."""

    card: DatasetCard
    size: int
    fingerprint = "toy"

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = list(samples)
        rows = [
            {
                "id": s.id,
                "patient": s.patient,
                "has_boxes": s.boxes is not None,
                "has_masks": s.masks is not None,
            }
            | {f"label:{name}": value for name, value in (s.labels or {}).items()}
            for s in self.samples
        ]
        self.table = pd.DataFrame(rows, columns=None if rows else COLUMNS)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def take(self, indices: Sequence[int]) -> Self:
        return type(self)([self.samples[index] for index in indices])
