"""Simulates the input of 64 training processes without a network.

    python benchmarks/ranks.py [--ranks 64] [--pairs 10000000] [--shard-pairs 1000] [--images 600]

1. The order of an epoch, computed from the counts of the shards alone: no pair lost or repeated,
   how many pairs and shards each process reads, also where the epoch is resumed in its middle, and
   where the next epoch runs with three quarters of the processes.
2. Real shards of synthetic radiographs, read by the stream loader of each process in turn, with a
   resumption in the middle.
3. A prepared store: an epoch that begins with all processes and goes on with half of them and twice
   their batch has the steps of an uninterrupted one.
"""

import argparse
import tempfile
import time
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from g2dbench.data.prepare import prepare
from g2dbench.data.shards.export import export
from g2dbench.data.shards.order import make_order
from g2dbench.data.shards.stream import open_stream
from g2dbench.data.store.request import GenerationSettings
from g2dbench.data.store.store import Store
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.text.tokenizer import Tokenize, train_wordpiece
from g2dbench.progress import quiet
from g2dbench.recipes.recipe import DataSettings
from g2dbench.registry import Registry
from g2dbench.training.batches import source
from g2dbench.training.batches.collate import LoaderSettings
from g2dbench.training.batches.pair_loader import PairLoader
from g2dbench.training.batches.shard_loader import StreamLoader

BATCH, BUFFER, SIZE = 128, 2048, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=10_000_000)
    parser.add_argument("--shard-pairs", type=int, default=1000)
    parser.add_argument("--images", type=int, default=600)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    few = args.shard_pairs // 2
    counts = rng.integers(few, args.shard_pairs + few, args.pairs // args.shard_pairs).tolist()
    order_of_counts(counts, args.ranks, epoch=0)
    order_of_counts(counts, args.ranks * 3 // 4, epoch=1)
    with tempfile.TemporaryDirectory(prefix="g2dbench-ranks-") as folder:
        real_shards(Path(folder), args.images, args.ranks)


def order_of_counts(counts: list[int], ranks: int, epoch: int) -> None:
    """Check and describe the order of one epoch; a seen pair is one byte."""
    starts = np.cumsum([0, *counts])
    total = int(starts[-1])
    steps = total // ranks // BATCH
    seen = np.zeros(total, np.uint8)
    unused, pairs, shards = 0, [], []
    began = time.perf_counter()
    for rank in range(ranks):
        order = make_order(counts, 0, epoch, rank=rank, world_size=ranks, buffer=BUFFER)
        rows = starts[order.shards] + order.pairs
        half = steps // 2 * BATCH  # the epoch stops here, and is resumed
        for part in (slice(0, half), slice(half, steps * BATCH)):
            np.add.at(seen, rows[order.training_order[part]], 1)
        unused += len(rows) - steps * BATCH
        pairs.append(len(rows))
        shards.append(len(np.unique(order.shards)))
    seconds = time.perf_counter() - began
    assert seen.max() == 1, "a pair is used twice"
    assert int((seen == 0).sum()) == unused, "a pair is lost"
    print(
        f"epoch {epoch}, {ranks} ranks, {total:,} pairs in {len(counts):,} shards: each pair at "
        f"most once; {unused:,} ({unused / total:.3%}) in incomplete last batches; {steps:,} steps "
        f"per rank; pairs {min(pairs):,} to {max(pairs):,} ({max(pairs) / min(pairs) - 1:.4%}), "
        f"shards {min(shards)} to {max(shards)} per rank; {sum(shards) / len(counts):.3f} "
        f"downloads per shard; order computed in {seconds / ranks:.2f} s per rank"
    )


def real_shards(folder: Path, images: int, ranks: int) -> None:
    store = prepare(
        "synthetic", None, folder / "store",
        progress=quiet, registry=Registry(), size=SIZE, generation=GenerationSettings(count=images),
    )  # fmt: skip
    export(store, "webdataset", str(folder / "shards"), shard_images=10, progress=quiet)
    stream = open_stream(str(folder / "shards"), SIZE, folder, progress=quiet, echo=lambda _: None)
    streamed = source.training_pairs(stream, DataSettings(size=SIZE), 1)
    tokenize = Tokenize(train_wordpiece(streamed.reports, 500), 32)
    used: list[str] = []
    for rank in range(ranks):
        loader = loader_of(streamed, tokenize, 2, rank, ranks)
        assert isinstance(loader, StreamLoader)
        half = loader.steps // 2
        first = [next(batches) for batches in [loader.epoch(0)] for _ in range(half)]
        used += chain.from_iterable(batch.ids for batch in (*first, *loader.epoch(0, half)))
    assert len(used) == len(set(used)) == loader.steps * 2 * ranks
    print(
        f"shards on disk: {len(streamed)} pairs, {ranks} ranks, {loader.steps} batches of 2 each, "
        f"resumed after batch {half}: {len(used)} pairs read, each once"
    )
    prepared_store(store, tokenize, ranks)


def prepared_store(store: Store, tokenize: Tokenize, ranks: int) -> None:
    pairs = source.training_pairs(store, DataSettings(size=SIZE), 1)
    orders = {}
    for world, batch in ((ranks, 2), (ranks // 2, 4)):
        loaders = [loader_of(pairs, tokenize, batch, rank, world) for rank in range(world)]
        parts = [loader.order(0) for loader in loaders if isinstance(loader, PairLoader)]
        assert len(parts) == world
        orders[world] = torch.cat(parts, dim=1)
    whole, halved = orders.values()
    assert torch.equal(whole, halved), "the steps differ"
    changed = torch.cat([whole[: len(whole) // 2], halved[len(whole) // 2 :]]).flatten()
    assert len(changed.unique()) == len(changed)
    print(
        f"prepared store: {len(whole)} steps of {ranks} x 2 pairs equal those of {ranks // 2} x 4; "
        f"after a change in the middle {len(changed)} pairs are used, each once"
    )


def loader_of(
    pairs: source.TrainingPairs, tokenize: Tokenize, batch: int, rank: int, world_size: int
) -> source.BatchLoader:
    settings = LoaderSettings(
        preprocess=Preprocess(size=32, mean=(0.5,)), tokenize=tokenize, batch_size=batch, seed=0,
        device=torch.device("cpu"), rank=rank, world_size=world_size,
    )  # fmt: skip
    return source.make_loader(pairs, settings)


if __name__ == "__main__":
    main()
