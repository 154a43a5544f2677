"""A G2D of a few channels, its attention pool, and values without a random generator."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from g2dbench.method import Method
from g2dbench.methods.g2d.attention import AttentionPool
from g2dbench.methods.g2d.settings import AttentionSettings
from support.methods import networks

TINY: dict[str, Any] = {
    "width": 8,
    "image": {"encoder": "resnet18", "size": 64},
    "text": {"layers": 1, "hidden": 16, "heads": 2, "max_length": 12},
}


CODE = {"heads": 2, "query": "mean", "keys": "pixels+query", "positions": "learned"}


def build(tokenizer: PreTrainedTokenizerFast, **changes: Any) -> Method:
    return networks.build("g2d", tokenizer, {**TINY, **changes})


def wave(*shape: int, phase: float = 0.0) -> Tensor:
    at = torch.arange(int(np.prod(shape)), dtype=torch.float64) * 1.7 + phase
    return (torch.sin(at) * 0.6).float().view(shape)


def pool(**settings: Any) -> AttentionPool:
    made = AttentionPool(AttentionSettings.model_validate(settings), 8, 4)
    for index, (_, weight) in enumerate(sorted(made.named_parameters())):
        weight.data.copy_(wave(*weight.shape, phase=float(index)))
    return made
