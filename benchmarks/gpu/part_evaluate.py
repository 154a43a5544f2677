"""Images a second of evaluation: ResNet-50 and ViT-B/16 with random weights at 224 px.

`encoder` is the forward pass alone on images that are on the GPU, in chunks as the engine uses
them and in larger ones; `engine` the pooled features of a packed store as every task gets them,
reading and preparation included, first without a cache, then filling it, then from it.
"""

import dataclasses
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from meter import flops, repeat, seconds
from part import Part, start
from steps import peak_flops

from g2dbench.cards import ModelCard
from g2dbench.data.prepare import prepare
from g2dbench.data.store.request import GenerationSettings
from g2dbench.dataset import Dataset
from g2dbench.evaluation.frozen_features import chunk_size, pooled_features
from g2dbench.model import Identity, Model
from g2dbench.pretrained.image.timm_encoder import TimmEncoder, timm_preprocess
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.system.machine import FeatureFolder, Machine
from g2dbench.task import Run

ENCODERS = {"ResNet-50": "resnet50", "ViT-B/16": "vit_base_patch16_224"}
SMALL = {"ResNet-18": "resnet18"}
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def main() -> None:
    part = start(__doc__)
    part.tell(
        bf16_flops_per_s=peak_flops(part.device, torch.bfloat16, part.small),
        fp32_flops_per_s=peak_flops(part.device, torch.float32, part.small),
        cudnn_tf32=torch.backends.cudnn.allow_tf32,
        matmul_tf32=torch.backends.cuda.matmul.allow_tf32,
    )
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        count = 32 if part.small else 1000
        store = prepare(
            "synthetic", None, place / "store",
            progress=quiet, registry=Registry(), size=224, workers=None,
            generation=GenerationSettings(count=count),
        )  # fmt: skip
        data = store if part.small else store.take([row % count for row in range(2 * count)])
        for label, name in (SMALL if part.small else ENCODERS).items():
            model = make_model(name)
            for precision in DTYPES:
                what = f"{label}, {precision}"
                part.attempt(what, partial(forward, part, model, label, precision), 6.0)
                run = partial(engine, part, model, label, precision, data, store, place)
                part.attempt(what, run, 10.0)


def make_model(name: str) -> Any:
    trunk = timm.create_model(name, pretrained=False, num_classes=0).eval()
    preprocess = dataclasses.replace(timm_preprocess(trunk), size=224, resize=None)
    card = Registry().find(ModelCard, "encoder").card
    model: Any = TimmEncoder(card, trunk, preprocess)
    model.identity = Identity(name)
    return model.eval()


def forward(part: Part, model: Any, label: str, precision: str) -> None:
    """The forward pass alone; share of the peak of this precision's matrix product."""
    device = part.device
    model.to(device)
    for chunk in (8,) if part.small else (chunk_size(device), 128, 512):
        images = torch.rand(chunk, model.preprocess.channels, 224, 224, device=device)

        def encode(images: torch.Tensor = images) -> None:
            with torch.no_grad(), Machine(device=device, precision=precision).autocast():
                model.pooled(images)

        for _ in range(3):
            encode()
        times = 2 if part.small else 20
        taken = seconds(partial(repeat, encode, times), device) / times
        work = flops(encode)
        peak = part.facts[f"{precision}_flops_per_s"]
        part.add(
            what="encoder", model=label, precision=precision, chunk=chunk,
            images_per_s=chunk / taken, share_of_peak=work / taken / peak,
        )  # fmt: skip


def engine(
    part: Part, model: Model, label: str, precision: str, data: Dataset, store: Dataset, place: Path
) -> None:
    """Pooled features through the engine: no cache, a cache being filled, the cache read."""
    features = FeatureFolder(place / f"{label.replace('/', '-')}-{precision}")
    rates: dict[str, float] = {}
    for name, folder, given in (
        ("uncached", None, data), ("filling", features, store), ("cached", features, store)
    ):  # fmt: skip
        machine = Machine(device=part.device, precision=precision, features=folder)
        run: Run[Any] = Run(
            train=given, valid=given, test=given, protocol=None, machine=machine, seed=0
        )
        if part.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(part.device)
        taken = seconds(partial(pooled_features, model, given, run, ""), part.device)
        rates[name] = len(given) / taken
    peak = None
    if part.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(part.device) / 2**30
    part.add(
        what="engine", model=label, precision=precision, images=len(data), peak_gib=peak, **rates
    )  # fmt: skip


if __name__ == "__main__":
    main()
