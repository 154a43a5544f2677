"""Images a second of the training loader, from a packed store and from memory.

The store holds synthetic radiographs of 256 px; the model sees 256 or 224 px. The first batches of
an epoch, in which the workers start, are not counted in the rate and reported on their own. A step
needs as many images as the part `train` measured.
"""

import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from part import Part, start
from steps import our_method

from g2dbench.data.prepare import prepare
from g2dbench.data.store.request import GenerationSettings
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.training.batches import pair_loader
from g2dbench.training.batches.collate import LoaderSettings
from g2dbench.training.batches.pair_loader import PairLoader, Pairs, find_pairs

BATCH, STARTING = 128, 4
WORKERS = (4, 12, 0)


def main() -> None:
    part = start(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        count = 64 if part.small else 1000
        store = prepare(
            "synthetic", None, Path(folder),
            progress=quiet, registry=Registry(), size=256, workers=None,
            generation=GenerationSettings(count=count),
        )  # fmt: skip
        part.tell(prepared_images=count, prepared_seconds=time.perf_counter() - part.began)
        pairs = find_pairs(store, "all")
        for size in (64,) if part.small else (256, 224):
            method = our_method(size, True)  # only its preprocessing and tokenizer are used
            for workers in (0, 2) if part.small else WORKERS:
                name = f"{size} px, {workers} workers"
                measure = partial(one, part, pairs, method, size, workers)
                part.attempt(name, measure, 6.0)


def one(part: Part, pairs: Pairs, method: Any, size: int, workers: int) -> None:
    """The rate from the store, and from memory once all images are there."""
    batch = 8 if part.small else BATCH
    steps = (6 if part.small else 20) + 3 * workers
    needed = needed_rate(part.results, size)
    for source in ("store", "memory"):
        pair_loader.CACHE_BYTES = 0 if source == "store" else 2**31
        loader = PairLoader(repeated(pairs, steps * batch), settings(part, method, batch, workers))
        filled = time.perf_counter()
        if source == "memory":
            loader._images()
        began = time.perf_counter()
        first = rate = 0.0
        for at, _ in enumerate(loader.epoch(0)):
            if at == STARTING - 1:
                synchronize(part.device)
                first = time.perf_counter()
        synchronize(part.device)
        rate = (loader.steps - STARTING) * batch / (time.perf_counter() - first)
        part.add(
            size=size, workers=workers, source=source, images_per_s=rate,
            seconds_of_first_batches=first - began, fill_seconds=began - filled,
            needed=needed, times_the_need=rate / needed if needed else None,
        )  # fmt: skip


def settings(part: Part, method: Any, batch: int, workers: int) -> LoaderSettings:
    return LoaderSettings(
        preprocess=method.preprocess, tokenize=method.tokenize,
        batch_size=batch, seed=0, device=part.device, policy="light", workers=workers,
    )  # fmt: skip


def repeated(pairs: Pairs, count: int) -> Pairs:
    """At least `count` pairs: these, over and over."""
    rows = [row % len(pairs) for row in range(count)]
    chosen = tuple(pairs.reports[row] for row in rows)
    return Pairs(
        pairs.dataset.take(rows), chosen, tuple(map(str, range(count))), pairs.groups[rows]
    )


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def needed_rate(results: Path, size: int) -> float | None:
    """The fastest training of this size that the part `train` measured, in images a second."""
    file = results / "train.json"
    if not file.is_file():
        return None
    rows = json.loads(file.read_text())["rows"]
    return max((row["ours"] for row in rows if row.get("size") == size), default=None)


if __name__ == "__main__":
    main()
