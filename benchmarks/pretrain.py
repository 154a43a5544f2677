"""Training speed of G2D: the published step against ours, each optimization of ours, and g2d-tiny.

    python benchmarks/pretrain.py [compare|steps|tiny ...] [--threads 2] [--open-i FOLDER]

compare  both steps in alternation on the same batches of 16 reports of real length, with a
         ResNet-50 U-Net at 256 px and BERT-base with random weights; medians, ratios, and the
         share of the machine's matrix-product peak, which is measured between the steps.
steps    the effect of each optimization: our step without any, then with one more each time. They
         are timed one after the other, so the machine must be idle.
tiny     the recipe g2d-tiny from stored images to weights, with pixel alignment, at two sizes.

Each part runs in its own process; the default is `compare` and `tiny`. On a GPU the published step
runs under fp16 autocast and ours in bf16; on a CPU in fp32, or bf16 if it has bf16 instructions.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from unittest import mock

import numpy as np
import pandas as pd
import torch
from lengths import open_i_reports, with_median
from meter import copy_bytes_per_s, flops, matmul_flops_per_s, seconds, traffic
from published_step import SIZE, published_step
from torch import Tensor
from torch.nn import functional as F

from g2dbench.cards import MethodCard
from g2dbench.data.prepare import prepare
from g2dbench.data.store.request import GenerationSettings
from g2dbench.data.synthetic.synthetic import generate
from g2dbench.dataset import Dataset
from g2dbench.method import Batch, Method
from g2dbench.methods.shared import unet
from g2dbench.pretrained.text.tokenizer import make_tokenizer
from g2dbench.progress import quiet
from g2dbench.recipes import recipe as recipes
from g2dbench.recipes.recipe import OptimSettings
from g2dbench.registry import Registry
from g2dbench.sample import Sample
from g2dbench.system.device import choose_device, choose_precision
from g2dbench.system.machine import Machine
from g2dbench.training.batches.collate import LoaderSettings
from g2dbench.training.batches.pair_loader import PairLoader, Pairs
from g2dbench.training.distributed import make_accelerator
from g2dbench.training.fit import fit
from g2dbench.training.optimizer import MethodOptimizer

PAIRS, BATCH = 64, 16
MEDIANS = {"Open-i": 41, "MIMIC-like": 90}
BERT_BASE = {"source": "scratch", "layers": 12, "hidden": 768, "heads": 12, "frozen_layers": 9}
SAVING = {"frozen_embeddings": True, "frozen_mode": "eval", "frozen_cache": 1024, "buckets": 4}
Step = Callable[[Batch], None]


class SyntheticImages:
    """Synthetic radiographs at the size of the model, as `PairLoader` reads them."""

    def __init__(self) -> None:
        self._samples = [generate(index, SIZE) for index in range(PAIRS)]

    def __len__(self) -> int:
        return PAIRS

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]


def our_method(reports: list[str], text: dict[str, Any]) -> Method:
    """The recipe g2d with a BERT of the published size and random weights."""
    table = recipes.load("g2d").model
    table = {
        **table,
        "image": {**table["image"], "weights": ""},
        "text": {**table["text"], **BERT_BASE, **text},
        "pixel": {**table["pixel"], "start": 0},
    }
    tokenizer = make_tokenizer(table["text"], reports)
    method: Method = Registry().find(MethodCard, "g2d").load().build(table, tokenizer, 0)
    return method


def our_step(method: Method, device: torch.device, precision: str) -> Step:
    """The optimizer step of the training loop."""
    method.to(device).train()
    optimizer = MethodOptimizer(
        method, OptimSettings(lr=1e-4), 0, make_accelerator(device, precision)
    )

    def step(batch: Batch) -> None:
        optimizer.step(batch, 1e-4)

    return step


def batches(
    method: Method, reports: list[str], images: SyntheticImages, device: torch.device
) -> list[Batch]:
    """The four batches of an epoch, from the real loader."""
    names = tuple(map(str, range(PAIRS)))
    groups = np.array([[name, name] for name in names], dtype=object)
    # PairLoader asks for the number of images and for single images, nothing else.
    pairs = Pairs(cast(Dataset, images), tuple(reports), names, groups)
    settings = LoaderSettings(
        preprocess=method.preprocess, tokenize=method.tokenize,
        batch_size=BATCH, seed=0, device=device, policy="light",
    )  # fmt: skip
    return list(PairLoader(pairs, settings).epoch(0))


@contextmanager
def timed_masks(method: Any, device: torch.device) -> Iterator[list[float]]:
    """Collect the seconds of each pseudo mask within the block."""
    times: list[float] = []
    make = method.pseudo_mask.forward

    def forward(*given: Tensor) -> Tensor:
        found: list[Tensor] = []
        times.append(seconds(lambda: found.append(make(*given)), device))
        return found[0]

    with mock.patch.object(method.pseudo_mask, "forward", forward):
        yield times


def compare(args: argparse.Namespace) -> None:
    """Time both steps in alternation on the batches of each kind of report."""
    device = choose_device("auto")
    precision = choose_precision("auto", device)
    reports, images = open_i_reports(args.open_i), SyntheticImages()
    method = our_method(reports, SAVING)
    steps = {"published": published_step(device), "ours": our_step(method, device, precision)}
    dtype = {"bf16": torch.bfloat16}.get(precision, torch.float32)
    print(
        f"{device}, ours in {precision}, {torch.get_num_threads()} threads, batch {BATCH}",
        flush=True,
    )
    for kind, median in MEDIANS.items():
        chosen = with_median(reports, method.tokenize, median, PAIRS)
        given = batches(method, chosen, images, device)
        first = seconds(lambda: steps["ours"](given[0]), device)  # noqa: B023
        for batch in given[1 : args.repeats]:
            steps["ours"](batch)  # now all reports are in the cache
        times: dict[str, list[float]] = {name: [] for name in steps}
        limits, masks = [], []
        for at in range(args.repeats):
            batch = given[at % len(given)]
            with timed_masks(method, device) as mask:
                for name, step in steps.items():
                    times[name].append(seconds(lambda: step(batch), device))  # noqa: B023
            limits.append(matmul_flops_per_s(device, dtype))
            masks += mask
        work = flops(lambda: steps["ours"](given[0]))  # noqa: B023
        print_kind(kind, tokens_of(given), times, max(limits), work, masks, first)
    moved, ours = traffic(lambda: steps["ours"](given[0])), statistics.median(times["ours"])
    print(
        f"memory: at most {moved / 1e9:.1f} GB a step, {moved / ours / 1e9:.0f} GB/s, where a "
        f"large copy moves {copy_bytes_per_s(device) / 1e9:.0f} GB/s",
        flush=True,
    )


def tokens_of(given: list[Batch]) -> float:
    return float(torch.cat([batch.attention.sum(1) for batch in given]).float().median())


def print_kind(
    kind: str, tokens: float, times: dict[str, list[float]], limit: float, work: int,
    masks: list[float], first: float,
) -> None:  # fmt: skip
    theirs, ours = (statistics.median(times[name]) for name in ("published", "ours"))
    print(
        f"{kind} (median {tokens:.0f} tokens): published {BATCH / theirs:.2f}, "
        f"ours {BATCH / ours:.2f} images/s: {theirs / ours:.2f}x; ours with the frozen part not "
        f"yet in the cache {BATCH / first:.2f}\n"
        f"  {work / BATCH / 1e9:.1f} GFLOP an image executed, {work / ours / 1e9:.0f} GFLOP/s, "
        f"{100 * work / ours / limit:.0f} % of the matrix-product peak of {limit / 1e9:.0f}; "
        f"pseudo mask {100 * statistics.median(masks) / ours:.1f} % of the step",
        flush=True,
    )


def variants() -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Name, text settings, and whether the decoder is smp's, each with one more optimization."""
    text: dict[str, Any] = {"padding": "max_length", "frozen_embeddings": False}
    yield "none: text padded to 256, 9 layers below trained embeddings", text, True
    text = {**text, "padding": "longest"}
    yield "text padded to the longest of the batch", text, True
    text = {**text, "frozen_embeddings": True, "frozen_mode": "eval"}
    yield "embeddings frozen too: no gradient below layer 10", text, True
    text = {**text, "frozen_cache": SAVING["frozen_cache"]}
    yield "frozen part from the cache", text, True
    text = {**text, "buckets": SAVING["buckets"]}
    yield "reports encoded in four groups of like length", text, True
    yield "decoder convolves before up-sampling", text, False


def run_smp_decoder(decoder: Any, pyramid: list[Tensor]) -> Tensor:
    """smp's own forward pass; it reads only the size of the first level."""
    image = F.interpolate(pyramid[0][:, :1], scale_factor=2.0)
    found: Tensor = decoder([image, *pyramid])
    return found


def steps(args: argparse.Namespace) -> None:
    """Time each optimization on top of those before it, on two batches of Open-i reports."""
    device = choose_device("auto")
    precision = choose_precision("auto", device)
    reports, images = open_i_reports(args.open_i), SyntheticImages()
    times: dict[str, float] = {}
    for name, text, smps_decoder in variants():
        method = our_method(reports, text)
        step = our_step(method, device, precision)
        chosen = with_median(reports, method.tokenize, MEDIANS["Open-i"], PAIRS)
        given = batches(method, chosen, images, device)[:2]
        decode = run_smp_decoder if smps_decoder else unet.run_decoder
        with mock.patch.object(unet, "run_decoder", decode):
            for batch in given:
                step(batch)  # now all reports are in the cache
            step_times = [seconds(lambda: step(b), device) for b in given * args.repeats]  # noqa: B023
        times[name] = statistics.median(step_times)
        first_time, previous = next(iter(times.values())), list(times.values())[-2:][0]
        print(
            f"{name:58s} {BATCH / times[name]:6.2f} images/s  x{previous / times[name]:.2f}, "
            f"in all x{first_time / times[name]:.2f}",
            flush=True,
        )


def tiny(args: argparse.Namespace) -> None:
    """Time `g2dbench pretrain --recipe g2d-tiny` with pixel alignment from the first step."""
    changes = ["model.pixel.start=0", "optim.epochs=2"]
    recipe = recipes.override(recipes.load("g2d-tiny"), changes)
    with tempfile.TemporaryDirectory() as place:
        store = prepare(
            "synthetic", None, Path(place),
            progress=quiet, registry=Registry(), size=recipe.data.size,
            generation=GenerationSettings(count=1400),
        )  # fmt: skip
        train = store.split("train")
        for count in (len(train) // 2, len(train)):
            run = fit(
                recipe, train.take(range(count)), Path(place) / str(count),
                seed=0, machine=Machine.choose(), echo=quiet_echo,
            )  # fmt: skip
            log = pd.read_csv(run.folder / "log.csv")
            rate, spent = log["images_per_s"].iloc[-1], log["seconds"].iloc[-1]
            print(f"g2d-tiny, {count} pairs: {rate:.1f} images/s, {spent:.1f} s an epoch")
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of the process {peak_gib:.2f} GiB, {torch.get_num_threads()} threads")


def quiet_echo(_: str) -> None:
    """Print nothing."""


PARTS = {"compare": compare, "steps": steps, "tiny": tiny}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", default=["compare", "tiny"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--open-i", type=Path, default=Path("../shared/data/open_i"))
    args = parser.parse_args()
    if len(args.parts) > 1:
        options = ["--threads", str(args.threads), "--repeats", str(args.repeats)]
        for part in args.parts:
            command = [sys.executable, __file__, part, *options, "--open-i", str(args.open_i)]
            subprocess.run(command, check=True)
        return
    torch.set_num_threads(args.threads)
    PARTS[args.parts[0]](args)


if __name__ == "__main__":
    main()
