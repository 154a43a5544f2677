"""Loads image-report pairs from a stream of shards, without reading the whole data set first.

Shapes: M pairs of this process in an epoch, B pairs of a batch, S image side. Loader workers read
blocks of rows (`shard_blocks`) in the order in which they are needed; this process buffers `buffer`
pairs and one more block, each pair as (S, S) bytes and a text. `data.shards.order` gives the order;
the augmentation of an image is a function of (seed, epoch, shard, row).

The next readable pair of its block replaces an image that cannot be read, with a warning: batches
keep their size, and a resumed epoch its order. More than 5 % unreadable images end the training.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import data

from g2dbench.data.reports.cleaning import CleaningName, clean
from g2dbench.data.shards.download_cache import DownloadCache
from g2dbench.data.shards.files import BLOCK_ROWS, open_shard
from g2dbench.data.shards.order import EpochOrder, make_order
from g2dbench.data.shards.stream import Stream
from g2dbench.data.store.build import MAX_REJECTED
from g2dbench.data.store.memory import MemoryDataset
from g2dbench.errors import BadData, G2DBenchError
from g2dbench.method import Batch
from g2dbench.sample import Sample, ViewFilter
from g2dbench.training.batches.collate import (
    Collator,
    LoaderSettings,
    TokenizedReports,
    ignore_interrupts,
)
from g2dbench.training.batches.pair_loader import PairLoader, Pairs, find_pairs
from g2dbench.training.batches.shard_blocks import (
    Block,
    BlockDataset,
    BlockRequest,
    ShardFormat,
    UnreadableRow,
    read_samples,
)

MAX_TOKENIZER_REPORTS = 20_000
"""A tokenizer is trained on at most this many reports, from the first shards on."""

FALLBACK_PAIRS = 32
"""Training pairs that monitoring uses if there are no held-out pairs."""

_MAX_NAMED = 5  # broken images that are named one by one

BufferedPair = tuple[str, tuple[str, str], NDArray[np.uint8]]
"""A pair that was read but not yet used: id, (study or id, report), pixels (S, S)."""


class StreamPairs:
    """The pairs of one split of a stream; only their positions are in memory."""

    def __init__(
        self, stream: Stream, split: str, views: ViewFilter, cleaning: CleaningName
    ) -> None:
        self.stream, self._views, self._cleaning = stream, views, cleaning
        index = stream.index
        self.shard_format = ShardFormat(index.kind, index.columns, stream.side, cleaning)
        self.rows = [shard.pairs(split, views, cleaning) for shard in index.shards]
        self.counts = [len(rows) for rows in self.rows]
        self.flat = np.concatenate([np.zeros(0, np.int64), *self.rows])
        self.starts = np.cumsum([0, *self.counts])

    def __len__(self) -> int:
        return sum(self.counts)

    @property
    def reports(self) -> Iterator[str]:
        """Cleaned reports of at most `MAX_TOKENIZER_REPORTS` pairs, read lazily."""
        return islice(self._reports(), MAX_TOKENIZER_REPORTS)

    def _reports(self) -> Iterator[str]:
        with self.stream.download_cache() as cache:
            for at, shard in enumerate(self.stream.index.shards):
                if not self.counts[at]:
                    continue
                where = self.stream.location.address_of(shard.name)
                reader = open_shard(cache.get(shard), self.shard_format.kind, where)
                for metadata in reader.metadata(self.rows[at].tolist(), self.shard_format.columns):
                    yield clean(metadata.report, self._cleaning).text or ""
                cache.evict(shard)

    def first(self, most: int) -> Pairs:
        """At most `most` first pairs, in memory, with a warning for each unreadable one."""
        samples: list[Sample] = []
        with self.stream.download_cache() as cache:
            for at, shard in enumerate(self.stream.index.shards):
                if not self.counts[at] or len(samples) >= most:
                    continue
                path = cache.get(shard)
                for rows in split_into_blocks(self.rows[at][: most - len(samples)]):
                    where = self.stream.location.address_of(shard.name)
                    found, unreadable = read_samples(
                        self.shard_format, BlockRequest(at, where, path, rows, rows)
                    )
                    unique = {sample.id: sample for sample in found}
                    samples += unique.values()
                    for one in unreadable:
                        self.stream.warn(f"warning: left out: {one.reason}")
                cache.evict(shard)
        stream = self.stream
        dataset = MemoryDataset(samples, stream.card, stream.size, stream.fingerprint)
        return find_pairs(dataset, self._views, "raw")


def split_into_blocks(rows: NDArray[np.int64]) -> Iterator[tuple[int, ...]]:
    """Split ascending rows of a shard into its blocks."""
    for _, block in groupby(rows.tolist(), key=lambda row: row // BLOCK_ROWS):
        yield tuple(block)


class StreamLoader:
    """Batches of a stream on the device; they do not depend on the number of workers."""

    def __init__(self, pairs: StreamPairs, settings: LoaderSettings) -> None:
        self._pairs, self._stream, self._settings = pairs, pairs.stream, settings
        self._collator = Collator(settings.preprocess, settings.device)
        self._groups: dict[str, tuple[str, str]] = {}
        self._unreadable: dict[tuple[int, int], UnreadableRow] = {}

    @property
    def steps(self) -> int:
        """Optimizer steps of an epoch, equal for all processes."""
        return len(self._pairs) // self._settings.world_size // self._settings.batch_size

    def order(self, epoch: int) -> EpochOrder:
        """The order of an epoch for this process."""
        settings, buffer = self._settings, self._stream.buffer
        return make_order(
            self._pairs.counts,
            settings.seed,
            epoch,
            rank=settings.rank,
            world_size=settings.world_size,
            buffer=buffer,
        )

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The training batches of an epoch from batch `first` on; earlier ones are not read."""
        order, size = self.order(epoch), self._settings.batch_size
        needed = order.training_order[first * size : self.steps * size]
        with self._stream.download_cache() as cache:
            blocks = self._read_blocks(order, np.sort(needed), epoch, cache)
            buffered: dict[int, BufferedPair] = {}
            for at, drawn in enumerate(needed.reshape(-1, size), first):
                chosen = []
                for position in drawn.tolist():
                    while position not in buffered:
                        buffered.update(next(blocks))
                    chosen.append(buffered.pop(position))
                yield self._batch(chosen, epoch * self.steps + at)

    def unaugmented(self, step: int = 0) -> Iterator[Batch]:
        """A few fixed pairs, without augmentation."""
        in_process = replace(self._settings, workers=0)
        yield from PairLoader(self._pairs.first(FALLBACK_PAIRS), in_process).unaugmented(step)

    def groups(self, ids: Sequence[str]) -> NDArray[np.object_]:
        """Study and report, (B, 2), of pairs of the last batch, by id."""
        return np.array([self._groups[name] for name in ids], dtype=object).reshape(-1, 2)

    def _batch(self, chosen: list[BufferedPair], step: int) -> Batch:
        ids, groups, pixels = zip(*chosen, strict=True)
        self._groups = dict(zip(ids, groups, strict=True))
        tokens = TokenizedReports([report for _, report in groups], self._settings.tokenize)
        rows = torch.arange(len(ids))
        return self._collator.batch(
            torch.from_numpy(np.stack(pixels)), *tokens.batch(rows), ids, step
        )

    def _read_blocks(
        self, order: EpochOrder, needed: NDArray[np.int64], epoch: int, cache: DownloadCache
    ) -> Iterator[dict[int, BufferedPair]]:
        """Position -> pair, block by block, for these ascending positions in the epoch."""
        shards = order.shards[needed]
        rows = self._pairs.flat[self._pairs.starts[shards] + order.pairs[needed]]
        settings = self._settings
        reader = BlockDataset(
            self._pairs.shard_format, settings.preprocess, settings.policy, settings.seed, epoch
        )
        loaded = data.DataLoader(
            reader,
            batch_sampler=self._requests(shards, rows, cache),
            collate_fn=_single,
            num_workers=settings.workers,
            worker_init_fn=ignore_interrupts,
            generator=torch.Generator(),
        )
        begin, at = 0, -1
        for block in loaded:
            if isinstance(block, G2DBenchError):
                raise block
            if at not in (-1, block.request.shard):
                cache.evict(self._stream.index.shards[at])
            at = block.request.shard
            self._report_unreadable(block)
            positions = needed[begin : begin + len(block.ids)].tolist()
            begin += len(block.ids)
            # Copies: otherwise one buffered pair would keep its whole block in memory.
            pixels = [image.copy() for image in block.pixels]
            pairs = zip(block.ids, block.groups, pixels, strict=True)
            yield dict(zip(positions, pairs, strict=True))

    def _requests(
        self, shards: NDArray[np.int64], rows: NDArray[np.int64], cache: DownloadCache
    ) -> Iterator[list[BlockRequest]]:
        """Requests for the blocks of these rows; the shards are fetched one at a time."""
        index = self._stream.index.shards
        starts = np.flatnonzero(
            np.diff(shards, prepend=-1) | np.diff(rows // BLOCK_ROWS, prepend=-1)
        )
        read = [int(shard) for shard, _ in groupby(shards[starts].tolist())]
        following = dict(pairwise(read))
        for start, stop in pairwise([*starts.tolist(), len(rows)]):
            shard, block = int(shards[start]), int(rows[start]) // BLOCK_ROWS
            after = following.get(shard)
            path = cache.get(index[shard], None if after is None else index[after])
            pairs = self._pairs.rows[shard]
            low, high = np.searchsorted(pairs, [block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS])
            where = self._stream.location.address_of(index[shard].name)
            usable, wanted = pairs[low:high].tolist(), rows[start:stop].tolist()
            yield [BlockRequest(shard, where, path, tuple(usable), tuple(wanted))]

    def _report_unreadable(self, block: Block) -> None:
        """Count and report unreadable images; raises BadData if there are too many."""
        for one in block.unreadable:
            key = (block.request.shard, one.row)
            if key not in self._unreadable and len(self._unreadable) < _MAX_NAMED:
                self._stream.warn(f"warning: another pair takes the place of {one.reason}")
            self._unreadable[key] = one
        count, most = len(self._unreadable), MAX_REJECTED * len(self._pairs)
        if count > most:
            reasons = "; ".join(one.reason for one in list(self._unreadable.values())[:3])
            raise BadData(
                f"{count} images cannot be read, more than {MAX_REJECTED:.0%} of the "
                f"{len(self._pairs)} pairs: {reasons}"
            )


def _single(parts: list[Block | G2DBenchError]) -> Block | G2DBenchError:
    return parts[0]
