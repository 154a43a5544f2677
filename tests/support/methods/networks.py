"""Networks of a few channels of every method, and a batch of three pairs for them."""

from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from g2dbench.cards import MethodCard
from g2dbench.method import Batch, Method
from g2dbench.registry import Registry

REPORTS = ["the heart is large", "no effusion", "lungs are clear"]


def build(name: str, tokenizer: PreTrainedTokenizerFast, settings: dict[str, Any]) -> Method:
    method: Method = Registry().find(MethodCard, name).load().build(settings, tokenizer, 0)
    return method


def batch(method: Method, step: int = 0, side: int = 64) -> Batch:
    images = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(5))
    return Batch(images, *method.tokenize(REPORTS), ("a", "b", "c"), step)
