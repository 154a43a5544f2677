"""A data set in memory, for samples without a store, such as the held-out pairs of a stream."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import pandas as pd

from g2dbench.cards import DatasetCard
from g2dbench.data.store.manifest import start_fingerprint
from g2dbench.data.store.row import digest, pack
from g2dbench.dataset import COLUMNS, LABEL_PREFIX
from g2dbench.errors import BadData
from g2dbench.sample import Sample


class MemoryDataset:
    """Samples in the order given; implements `g2dbench.dataset.Dataset`.

    size: the short side of the images in pixels. fingerprint: by default that of a prepared store
    with the same rows; a subset has the fingerprint of the whole.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        card: DatasetCard,
        size: int,
        fingerprint: str | None = None,
    ) -> None:
        self._samples = list(samples)
        self.card, self.size = card, size
        self.fingerprint = fingerprint if fingerprint is not None else self._computed_fingerprint()

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per image, in order; see `g2dbench.dataset`."""
        found = {name: [getattr(s, name, None) for s in self._samples] for name in COLUMNS}
        frame = pd.DataFrame(found, columns=list(COLUMNS), dtype=object)
        frame["has_boxes"] = [sample.boxes is not None for sample in self._samples]
        frame["has_masks"] = [sample.masks is not None for sample in self._samples]
        labels = [sample.labels or {} for sample in self._samples]
        seen = sorted({finding for row in labels for finding in row} - set(self.card.findings))
        for finding in (*self.card.findings, *seen):
            values = [row.get(finding, np.nan) for row in labels]
            frame[LABEL_PREFIX + finding] = np.array(values, np.float64)
        return frame

    def take(self, indices: Sequence[int]) -> "MemoryDataset":
        """The rows at these positions, in this order."""
        return self._with([self._samples[index] for index in indices])

    def split(self, name: str) -> "MemoryDataset":
        """The images of the split train, valid or test; BadData if there are none."""
        found = [sample for sample in self._samples if sample.split == name]
        if not found:
            raise BadData(f"the data set {self.card.name!r} in memory has no {name} images")
        return self._with(found)

    def _with(self, samples: Sequence[Sample]) -> "MemoryDataset":
        return MemoryDataset(samples, self.card, self.size, self.fingerprint)

    def _computed_fingerprint(self) -> str:
        whole = start_fingerprint(self.size)
        for sample in sorted(self._samples, key=lambda sample: sample.id):
            whole.update(digest(pack(sample)))
        return whole.hexdigest()
