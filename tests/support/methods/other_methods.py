"""Small networks of GLoRIA, MGCA, M-FLAG and MAE, and vectors of unit length."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from g2dbench.cards import MethodCard
from g2dbench.method import Method
from g2dbench.registry import Registry
from support.methods import networks

GLORIA, MAE, MFLAG, MGCA = (
    Registry().find(MethodCard, name).load() for name in ("gloria", "mae", "mflag", "mgca")
)


LOCAL = GLORIA.LocalSettings()


TEXT = {"layers": 2, "hidden": 16, "heads": 2, "max_length": 12, "dropout": 0.0}


TINY: dict[str, Any] = {"width": 8, "image": {"encoder": "resnet18", "size": 64}, "text": TEXT}


def build(name: str, tokenizer: PreTrainedTokenizerFast, **changes: Any) -> Method:
    return networks.build(name, tokenizer, {**TINY, **changes})


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)
