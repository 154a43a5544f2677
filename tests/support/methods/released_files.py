"""Files in the layouts of G2D's released code, and the models that are read from them."""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from g2dbench.cards import ModelCard
from g2dbench.methods.g2d.export import Export, export
from g2dbench.model import Identity, Model
from g2dbench.pretrained.weights import digest
from g2dbench.recipes import recipe as recipes
from g2dbench.registry import Registry
from support.methods import networks

LAYOUTS = ("encoder", "encoder_decoder", "checkpoint")


TEXT = {"layers": 1, "hidden": 768, "heads": 12, "feed_forward": 32, "max_length": 12}


CODE = {"heads": 4, "query": "mean", "keys": "pixels+query", "positions": "learned"}


OURS: dict[str, Any] = {
    "width": 8,
    "image": {"encoder": "resnet18", "size": 64, "mean": [0.5], "std": [0.25]},
    "text": TEXT,
    "attention": {**CODE, "dense": "projected"},
}
"""A G2D that a checkpoint of the released code can hold, with another encoder."""


def build(tokenizer: PreTrainedTokenizerFast, **changes: Any) -> Any:
    """A G2D whose weights and running statistics all differ from their initial values."""
    method = networks.build("g2d", tokenizer, {**OURS, **changes})
    noise = torch.Generator().manual_seed(1)
    for value in (*method.parameters(), *method.buffers()):
        if value.is_floating_point() and value.ndim:
            value.data += 0.02 * torch.rand(value.shape, generator=noise)
    return method.eval()


def as_model(method: Any) -> Model:
    model: Model = method.as_model().eval()
    model.identity = Identity("g2d-x", digest(model), 0)
    return model


def export_to(method: Any, out: Path) -> Export:
    return export(as_model(method), out, "x", recipes.load("g2d-tiny").optim)


def load(file: Path) -> Any:
    return Registry().find(ModelCard, "g2d").load().load(str(file), seed=0)


def file_of(folder: Path, layout: str) -> Path:
    (found,) = folder.glob(f"*[xn0-9]_{layout}.pth")
    return found
