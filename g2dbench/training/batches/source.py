"""The source of training batches: a prepared store, or a stream of shards."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from g2dbench.data.shards.index import TRAIN, VALID
from g2dbench.data.shards.stream import Stream
from g2dbench.dataset import Dataset
from g2dbench.errors import BadData, Misuse
from g2dbench.method import Batch
from g2dbench.recipes.recipe import DataSettings
from g2dbench.training.batches import pair_loader
from g2dbench.training.batches.collate import LoaderSettings
from g2dbench.training.batches.pair_loader import PairLoader, Pairs
from g2dbench.training.batches.shard_loader import StreamLoader, StreamPairs

MAX_HELD_OUT = 2000
"""At most this many held-out pairs are ranked; recalls depend on the size of the pool."""


class TrainingPairs(Protocol):
    """Training pairs, in memory or streamed."""

    @property
    def reports(self) -> Iterable[str]:
        """The reports that a tokenizer is trained on."""
        ...

    def __len__(self) -> int: ...

    def first(self, count: int) -> Pairs:
        """The first pairs, at most `count`, in memory."""
        ...


class BatchLoader(Protocol):
    """The interface of `PairLoader` and `StreamLoader`."""

    @property
    def steps(self) -> int:
        """Optimizer steps of an epoch."""
        ...

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The training batches of an epoch from batch `first` on."""
        ...

    def unaugmented(self, step: int = 0) -> Iterator[Batch]:
        """Fixed pairs, without augmentation."""
        ...

    def groups(self, ids: Sequence[str]) -> NDArray[np.object_]:
        """Study and report, (B, 2), of pairs of the last batch, by id."""
        ...


def training_pairs(dataset: Dataset | Stream, data: DataSettings, least: int) -> TrainingPairs:
    """The pairs of the training split; raises BadData if there are none, Misuse for too few."""
    if not isinstance(dataset, Stream):
        return pair_loader.training_pairs(dataset, data.views, least, data.cleaning)
    pairs = StreamPairs(dataset, TRAIN, data.views, data.cleaning)
    where = dataset.location.address
    if not len(pairs):
        raise BadData(
            f"{where} has no {data.views} training image with a report that the cleaning "
            f"{data.cleaning!r} keeps, among {dataset.index.rows} rows"
        )
    if len(pairs) < least:
        raise Misuse(
            f"{where} has {len(pairs)} training pairs, fewer than one batch of {least}: "
            f"--set optim.batch_size={max(2, len(pairs) // 2)}"
        )
    return pairs


def held_out_pairs(dataset: Dataset | Stream, data: DataSettings) -> Pairs | None:
    """At most `MAX_HELD_OUT` pairs of the validation split, in memory; None without one."""
    if isinstance(dataset, Stream):
        return StreamPairs(dataset, VALID, data.views, data.cleaning).first(MAX_HELD_OUT)
    if not (dataset.table["split"] == VALID).any():
        return None
    return pair_loader.find_pairs(dataset.split(VALID), data.views, data.cleaning).first(
        MAX_HELD_OUT
    )


def make_loader(pairs: TrainingPairs, settings: LoaderSettings) -> BatchLoader:
    """A loader of these pairs."""
    if isinstance(pairs, StreamPairs):
        return StreamLoader(pairs, settings)
    assert isinstance(pairs, Pairs)
    return PairLoader(pairs, settings)
