"""Compares the speed of streaming pairs from shards with that of the prepared store's loader.

    python benchmarks/streaming.py [--images 1000] [--size 256] [--shard-images 250]

One process on one core, synthetic radiographs, batches of 64, one epoch each, the fastest of three.
The policy `none` has no augmentation, so that it measures reading alone. The store's loader reads
from the memory-mapped file without its cache in memory, because a stream has no cache either. The
first line of each kind of shard includes hashing the shards, which every training does once.
"""

import argparse
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from data import BATCH, fastest

from g2dbench.data.prepare import prepare
from g2dbench.data.shards.export import export
from g2dbench.data.shards.index import Kind
from g2dbench.data.shards.stream import open_stream
from g2dbench.data.store.request import GenerationSettings
from g2dbench.data.store.store import Store
from g2dbench.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from g2dbench.pretrained.text.tokenizer import Tokenize, train_wordpiece
from g2dbench.progress import quiet
from g2dbench.recipes.recipe import AugmentPolicy, DataSettings
from g2dbench.registry import Registry
from g2dbench.training.batches import pair_loader, source
from g2dbench.training.batches.collate import LoaderSettings

POLICIES: tuple[AugmentPolicy, ...] = ("none", "light")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--shard-images", type=int, default=250)
    args = parser.parse_args()
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pair_loader.CACHE_BYTES = 0
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), args.images, args.size, args.shard_images)


def measure(folder: Path, images: int, size: int, shard_images: int) -> None:
    store = prepare(
        "synthetic", None, folder / "store",
        progress=quiet, registry=Registry(), size=size, generation=GenerationSettings(count=images),
    )  # fmt: skip
    settings = DataSettings(size=size)
    pairs = source.training_pairs(store, settings, BATCH)
    tokenize = Tokenize(train_wordpiece(pairs.reports, 1000), 64)
    print(f"{len(pairs)} pairs at {size} px, one process on one core")
    store_rates = {policy: images_per_second(pairs, tokenize, size, policy) for policy in POLICIES}
    for policy, rate in store_rates.items():
        print(f"store, policy {policy}: {rate:,.0f} images/s")
    for kind in get_args(Kind):
        address = str(folder / kind)
        seconds = fastest(partial(write_shards, store, kind, folder, shard_images), 1)
        shards = sum(path.stat().st_size for path in Path(address).iterdir())
        print(f"{kind}: exported {images / seconds:,.0f} images/s, {shards / images:,.0f} B/image")
        stream = open_stream(address, size, folder, progress=quiet, echo=lambda _: None)
        streamed = source.training_pairs(stream, settings, BATCH)
        for policy in POLICIES:
            rate = images_per_second(streamed, tokenize, size, policy)
            ratio = rate / store_rates[policy]
            print(f"{kind}, policy {policy}: {rate:,.0f} images/s, {ratio:.2f} of the store's")


def write_shards(store: Store, kind: Kind, folder: Path, shard_images: int) -> None:
    export(store, kind, str(folder / kind), shard_images=shard_images, progress=quiet)


def images_per_second(
    pairs: source.TrainingPairs, tokenize: Tokenize, size: int, policy: AugmentPolicy
) -> float:
    preprocess = Preprocess(size=size, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    settings = LoaderSettings(
        preprocess=preprocess, tokenize=tokenize,
        batch_size=BATCH, seed=0, device=torch.device("cpu"), policy=policy,
    )  # fmt: skip
    batches = source.make_loader(pairs, settings)
    return batches.steps * BATCH / fastest(lambda: sum(1 for _ in batches.epoch(0)))


if __name__ == "__main__":
    main()
