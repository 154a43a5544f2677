"""How long evaluations take, beside the simple way to do the same.

    python benchmarks/eval.py cls [--images 2000] [--size 224] [--encoder resnet50] [--epochs 2]

`cls`: a grid of 3 fractions x 5 seeds of linear classification, fitted and scored on cached
features, the encoder's one pass over the images included. Beside it, each cell with the encoder in
the loop, as published code fits it: 50 epochs of training and validation images, and one pass over
the test images. Two epochs are timed and extrapolated. Random weights: speed does not depend on
them.
"""

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from g2dbench.cards import ModelCard, TaskCard
from g2dbench.data.prepare import prepare
from g2dbench.data.splits.fractions import sample_fraction
from g2dbench.data.store.request import GenerationSettings
from g2dbench.dataset import Dataset
from g2dbench.model import Identity, Model
from g2dbench.pretrained.image.timm_encoder import TimmEncoder, timm_preprocess
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.system.machine import FeatureFolder, Machine
from g2dbench.task import Run

FRACTIONS, SEEDS, EPOCHS, BATCH = (0.01, 0.1, 1.0), range(5), 50, 8
REGISTRY = Registry()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("cls",))
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--encoder", default="resnet50")
    parser.add_argument("--epochs", type=int, default=2)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cls(Path(folder), chosen.images, chosen.size, chosen.encoder, chosen.epochs)


def cls(folder: Path, images: int, size: int, encoder: str, epochs: int) -> None:
    data = prepare(
        "synthetic", None, folder / "store",
        progress=quiet, registry=REGISTRY, size=size, generation=GenerationSettings(count=images),
    )  # fmt: skip
    train, valid, test = (data.split(name) for name in ("train", "valid", "test"))
    print(
        f"{len(train)} training, {len(valid)} validation, {len(test)} test images at {size} px, "
        f"{encoder}, {torch.get_num_threads()} threads"
    )
    model = make_model(encoder, size)
    subsets = [
        train.take(sample_fraction(train, share, 0, list(data.card.findings)).indices)
        for share in FRACTIONS
    ]
    cached: dict[str, float] = {}
    for protocol in ("sweep", "g2d"):
        features = FeatureFolder(folder / protocol)
        cached[protocol] = seconds(partial(grid, model, protocol, subsets, valid, test, features))
    looped = 0.0
    for share, subset in zip(FRACTIONS, subsets, strict=True):
        per_epoch = seconds(partial(in_the_loop, model, subset, valid, epochs)) / epochs
        tested = seconds(lambda: encode(model, test))
        looped += len(SEEDS) * (EPOCHS * per_epoch + tested)
        print(
            f"fraction {share:g}, {len(subset)} images: {per_epoch:.1f} s per epoch in the loop "
            f"({epochs} timed), {tested:.1f} s for the test images"
        )
    cells = len(FRACTIONS) * len(SEEDS)
    print(f"{cells} cells, encoder in the loop, {EPOCHS} epochs (extrapolated): {looped:,.0f} s")
    for protocol, taken in cached.items():
        print(f"{cells} cells, {protocol} on cached features: {taken:.1f} s, {looped / taken:.0f}x")


def grid(
    model: Model, protocol: str, subsets: list[Any], valid: Dataset, test: Dataset,
    features: FeatureFolder,
) -> None:  # fmt: skip
    """Fit and score every cell; the first one encodes the images."""
    task = REGISTRY.find(TaskCard, "cls").load()
    settings = task.PROTOCOLS[protocol]
    machine = Machine(device=torch.device("cpu"), features=features)
    for subset in reversed(subsets):
        for seed in SEEDS:
            run: Run[Any] = Run(
                train=subset, valid=valid, test=test, protocol=settings, machine=machine, seed=seed
            )
            task.score(task.predict(model, run), settings)


def in_the_loop(model: Any, train: Dataset, valid: Dataset, epochs: int) -> None:
    """A linear layer, with the encoder's pass for each batch, training and validation."""
    head = nn.Linear(model.trunk.num_features, 14)
    optimizer = torch.optim.AdamW(head.parameters(), lr=5e-4)
    for _ in range(epochs):
        for rows in torch.randperm(len(train)).split(BATCH):
            logits = head(pooled(model, train, rows.tolist()))
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(
                logits, torch.zeros_like(logits)
            ).backward()
            optimizer.step()
        encode(model, valid)


def encode(model: Model, data: Dataset) -> None:
    for rows in torch.arange(len(data)).split(BATCH):
        pooled(model, data, rows.tolist())


@torch.no_grad()
def pooled(model: Any, data: Dataset, rows: list[int]) -> torch.Tensor:
    images = model.preprocess.batch([data[row].image for row in rows])
    found: torch.Tensor = model.pooled(images)
    return found


def make_model(encoder: str, size: int) -> Model:
    trunk = timm.create_model(encoder, pretrained=False, num_classes=0).eval()
    preprocess = dataclasses.replace(timm_preprocess(trunk), size=size, resize=None)
    card = REGISTRY.find(ModelCard, "encoder").card
    model: Model = TimmEncoder(card, trunk, preprocess)
    model.identity = Identity(encoder)
    return model.eval()


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
