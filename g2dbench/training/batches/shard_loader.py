"""Pairs that are trained on as they are read: batches as ever, from shards of any number.

Shapes: M pairs of this process in an epoch, B pairs of a batch, S image side. Loader workers get
blocks of rows in the order in which they are needed (`blocks`); this process holds `buffer` pairs
and one block more, as (S, S) bytes and a text each. The order is that of `data.stream_order`, an
image's augmentation a function of (seed, epoch, shard, row).

An image that cannot be read is named, and its place is taken by the next pair of its block that
can: a batch keeps its size, and an epoch that is taken up again its order. More than 5 % end it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import data

from g2dbench.data.reports.cleaning import CleaningName, clean
from g2dbench.data.shards.download_cache import Shelf
from g2dbench.data.shards.files import BLOCK, open_shard
from g2dbench.data.shards.order import Order, make_order
from g2dbench.data.shards.stream import Stream
from g2dbench.data.store.build import MAX_REJECTED
from g2dbench.data.store.memory import MemoryDataset
from g2dbench.errors import BadData, G2DBenchError
from g2dbench.method import Batch
from g2dbench.sample import Sample, ViewFilter
from g2dbench.training.batches.collate import Batching, Press, Tokens, deaf
from g2dbench.training.batches.pair_loader import Loader, Pairs, find_pairs
from g2dbench.training.batches.shard_blocks import (
    Block,
    Blocks,
    Broken,
    Layout,
    Task,
    read_samples,
)

TEXTS = 20_000
"""Reports that a tokenizer is trained on at most, from the first shards on."""

FEW = 32
"""Training pairs that are looked at where there are no held-out ones."""

_TOLD = 5  # broken images that are named one by one

Taken = tuple[str, tuple[str, str], NDArray[np.uint8]]
"""A pair that waits: id, (study or id, report), pixels (S, S)."""


class StreamPairs:
    """The pairs of one split of a stream; what is in memory is where they are."""

    def __init__(
        self, stream: Stream, split: str, views: ViewFilter, cleaning: CleaningName
    ) -> None:
        self.stream, self._views, self._cleaning = stream, views, cleaning
        index = stream.index
        self.layout = Layout(index.kind, index.columns, stream.side, cleaning)
        self.rows = [shard.pairs(split, views, cleaning) for shard in index.shards]
        self.counts = [len(rows) for rows in self.rows]
        self.flat = np.concatenate([np.zeros(0, np.int64), *self.rows])
        self.starts = np.cumsum([0, *self.counts])

    def __len__(self) -> int:
        return sum(self.counts)

    @property
    def reports(self) -> Iterator[str]:
        """Cleaned reports of at most `TEXTS` pairs, for a tokenizer; read when asked for."""
        return islice(self._reports(), TEXTS)

    def _reports(self) -> Iterator[str]:
        with self.stream.shelf() as shelf:
            for at, shard in enumerate(self.stream.index.shards):
                if not self.counts[at]:
                    continue
                where = self.stream.place.shown(shard.name)
                rows = open_shard(shelf.get(shard), self.layout.kind, where)
                for told in rows.told(self.rows[at].tolist(), self.layout.columns):
                    yield clean(told.report, self._cleaning).text or ""
                shelf.drop(shard)

    def first(self, most: int) -> Pairs:
        """The first pairs, at most so many, in memory; those that cannot be read are named."""
        samples: list[Sample] = []
        with self.stream.shelf() as shelf:
            for at, shard in enumerate(self.stream.index.shards):
                if not self.counts[at] or len(samples) >= most:
                    continue
                path = shelf.get(shard)
                for rows in blocks_of(self.rows[at][: most - len(samples)]):
                    where = self.stream.place.shown(shard.name)
                    found, broken = read_samples(self.layout, Task(at, where, path, rows, rows))
                    unique = {sample.id: sample for sample in found}
                    samples += unique.values()
                    for one in broken:
                        self.stream.warn(f"warning: left out: {one.reason}")
                shelf.drop(shard)
        stream = self.stream
        gathered = MemoryDataset(samples, stream.card, stream.size, stream.fingerprint)
        return find_pairs(gathered, self._views, "raw")


def blocks_of(rows: NDArray[np.int64]) -> Iterator[tuple[int, ...]]:
    """Ascending rows of a shard, block by block."""
    for _, block in groupby(rows.tolist(), key=lambda row: row // BLOCK):
        yield tuple(block)


class StreamLoader:
    """Batches of a stream on the device; the same for any number of workers."""

    def __init__(self, pairs: StreamPairs, how: Batching) -> None:
        self._pairs, self._stream, self._how = pairs, pairs.stream, how
        self._press = Press(how.preprocess, how.device)
        self._words: dict[str, tuple[str, str]] = {}
        self._broken: dict[tuple[int, int], Broken] = {}

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch: the same for every process."""
        return len(self._pairs) // self._how.world // self._how.batch_size

    def order(self, epoch: int) -> Order:
        """This process's order of an epoch."""
        how, buffer = self._how, self._stream.buffer
        return make_order(
            self._pairs.counts, how.seed, epoch, rank=how.rank, world=how.world, buffer=buffer
        )

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The training batches of an epoch from batch `first` on; earlier ones are not read."""
        order, size = self.order(epoch), self._how.batch_size
        due = order.drawn[first * size : self.steps * size]
        with self._stream.shelf() as shelf:
            arriving = self._arriving(order, np.sort(due), epoch, shelf)
            held: dict[int, Taken] = {}
            for at, drawn in enumerate(due.reshape(-1, size), first):
                chosen = []
                for position in drawn.tolist():
                    while position not in held:
                        held.update(next(arriving))
                    chosen.append(held.pop(position))
                yield self._batch(chosen, epoch * self.steps + at)

    def plain(self, step: int = 0) -> Iterator[Batch]:
        """A few of the pairs as they are, always the same."""
        alone = replace(self._how, workers=0)
        yield from Loader(self._pairs.first(FEW), alone).plain(step)

    def words(self, ids: Sequence[str]) -> NDArray[np.object_]:
        """Study and report, (B, 2), of pairs of the last batch."""
        return np.array([self._words[name] for name in ids], dtype=object).reshape(-1, 2)

    def _batch(self, chosen: list[Taken], step: int) -> Batch:
        ids, groups, pixels = zip(*chosen, strict=True)
        self._words = dict(zip(ids, groups, strict=True))
        tokens = Tokens([report for _, report in groups], self._how.tokenize)
        rows = torch.arange(len(ids))
        return self._press.batch(torch.from_numpy(np.stack(pixels)), *tokens.batch(rows), ids, step)

    def _arriving(
        self, order: Order, due: NDArray[np.int64], epoch: int, shelf: Shelf
    ) -> Iterator[dict[int, Taken]]:
        """What the blocks of these ascending positions hold, block by block, by position."""
        shards = order.shards[due]
        rows = self._pairs.flat[self._pairs.starts[shards] + order.places[due]]
        how = self._how
        reader = Blocks(self._pairs.layout, how.preprocess, how.policy, how.seed, epoch)
        loaded = data.DataLoader(
            reader,
            batch_sampler=self._tasks(shards, rows, shelf),
            collate_fn=_only,
            num_workers=how.workers,
            worker_init_fn=deaf,
            generator=torch.Generator(),
        )
        begin, at = 0, -1
        for block in loaded:
            if isinstance(block, G2DBenchError):
                raise block
            if at not in (-1, block.task.shard):
                shelf.drop(self._stream.index.shards[at])
            at = block.task.shard
            self._note(block)
            positions = due[begin : begin + len(block.ids)].tolist()
            begin += len(block.ids)
            # Copies, lest a pair that stays long keeps its whole block.
            pixels = [image.copy() for image in block.pixels]
            taken = zip(block.ids, block.groups, pixels, strict=True)
            yield dict(zip(positions, taken, strict=True))

    def _tasks(
        self, shards: NDArray[np.int64], rows: NDArray[np.int64], shelf: Shelf
    ) -> Iterator[list[Task]]:
        """The blocks that these rows lie in, their shards fetched, one at a time."""
        index = self._stream.index.shards
        starts = np.flatnonzero(np.diff(shards, prepend=-1) | np.diff(rows // BLOCK, prepend=-1))
        read = [int(shard) for shard, _ in groupby(shards[starts].tolist())]
        following = dict(pairwise(read))
        for start, stop in pairwise([*starts.tolist(), len(rows)]):
            shard, block = int(shards[start]), int(rows[start]) // BLOCK
            after = following.get(shard)
            path = shelf.get(index[shard], None if after is None else index[after])
            pairs = self._pairs.rows[shard]
            low, high = np.searchsorted(pairs, [block * BLOCK, (block + 1) * BLOCK])
            where = self._stream.place.shown(index[shard].name)
            usable, wanted = pairs[low:high].tolist(), rows[start:stop].tolist()
            yield [Task(shard, where, path, tuple(usable), tuple(wanted))]

    def _note(self, block: Block) -> None:
        """Count and name images that cannot be read; BadData where they are too many."""
        for one in block.broken:
            key = (block.task.shard, one.row)
            if key not in self._broken and len(self._broken) < _TOLD:
                self._stream.warn(f"warning: another pair takes the place of {one.reason}")
            self._broken[key] = one
        count, most = len(self._broken), MAX_REJECTED * len(self._pairs)
        if count > most:
            reasons = "; ".join(one.reason for one in list(self._broken.values())[:3])
            raise BadData(
                f"{count} images cannot be read, more than {MAX_REJECTED:.0%} of the "
                f"{len(self._pairs)} pairs: {reasons}"
            )


def _only(parts: list[Block | G2DBenchError]) -> Block | G2DBenchError:
    return parts[0]
