"""Small networks of every method, in which pairs are independent."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from g2dbench.cards import MethodCard
from g2dbench.method import Batch, Method
from g2dbench.registry import Registry

REPORTS = ["the heart is large", "no effusion", "lungs are clear", "effusion", "a clear heart"]


TINY: dict[str, Any] = {
    "width": 8,
    "image": {"encoder": "resnet18", "size": 64},
    "text": {"layers": 1, "hidden": 16, "heads": 2, "max_length": 12, "dropout": 0.0},
    "projector": {"norm": "layer"},
    "contrastive": {"learned": True},
}


def build(name: str, tokenizer: PreTrainedTokenizerFast, **changes: Any) -> Method:
    """Training mode, but with batch norms in eval mode, so that pairs are independent."""
    module = Registry().find(MethodCard, name).load()
    method: Method = module.build({**TINY, **changes}, tokenizer, 0)
    for part in method.train().modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()
    return method


def batch(method: Method, size: int = 5, step: int = 0) -> Batch:
    images = torch.rand(size, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    reports = [REPORTS[index % 5] for index in range(size)]
    return Batch(images, *method.tokenize(reports), tuple(map(str, range(size))), step)


# A network's last bit may move a pixel across a pseudo mask's threshold; not across this one.
EVERYWHERE = {"mask": {"percentile": 0.0}}
