"""Where the batches of a training come from: a prepared store, or a stream of shards."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from g2dbench.data.shards.index import TRAIN, VALID
from g2dbench.data.shards.stream import Stream
from g2dbench.dataset import Dataset
from g2dbench.errors import BadData, Misuse
from g2dbench.method import Batch
from g2dbench.recipes.recipe import Data
from g2dbench.training.batches import pair_loader
from g2dbench.training.batches.collate import Batching
from g2dbench.training.batches.pair_loader import Loader, Pairs
from g2dbench.training.batches.shard_loader import StreamLoader, StreamPairs

MOST = 2000
"""Held-out pairs that are ranked at most; the pool's size decides what a recall means."""


class TrainingPairs(Protocol):
    """Training pairs, in memory or not."""

    @property
    def reports(self) -> Iterable[str]:
        """Those that a tokenizer is trained on."""
        ...

    def __len__(self) -> int: ...

    def first(self, most: int) -> Pairs:
        """The first of them, at most so many, in memory."""
        ...


class Batches(Protocol):
    """What `Loader` and `StreamLoader` do."""

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch."""
        ...

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The training batches of an epoch from batch `first` on."""
        ...

    def plain(self, step: int = 0) -> Iterator[Batch]:
        """Pairs as they are, always the same."""
        ...

    def words(self, ids: Sequence[str]) -> NDArray[np.object_]:
        """Study and report, (B, 2), of pairs of the batch that was given last."""
        ...


def training_pairs(dataset: Dataset | Stream, data: Data, least: int) -> TrainingPairs:
    """The pairs of the training split; BadData where there are none, Misuse for too few."""
    if not isinstance(dataset, Stream):
        return pair_loader.training_pairs(dataset, data.views, least, data.cleaning)
    pairs = StreamPairs(dataset, TRAIN, data.views, data.cleaning)
    where = dataset.place.address
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


def held_out_pairs(dataset: Dataset | Stream, data: Data) -> Pairs | None:
    """At most `MOST` pairs of the validation split, in memory; None where there is none."""
    if isinstance(dataset, Stream):
        return StreamPairs(dataset, VALID, data.views, data.cleaning).first(MOST)
    if not (dataset.table["split"] == VALID).any():
        return None
    return pair_loader.find_pairs(dataset.split(VALID), data.views, data.cleaning).first(MOST)


def load(pairs: TrainingPairs, how: Batching) -> Batches:
    """A loader of these pairs."""
    if isinstance(pairs, StreamPairs):
        return StreamLoader(pairs, how)
    assert isinstance(pairs, Pairs)
    return Loader(pairs, how)
