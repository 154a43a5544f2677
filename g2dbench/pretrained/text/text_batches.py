"""Texts are encoded a few at a time, so that memory does not grow with their number."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

BATCH = 64


def encode_in_batches(encode: Callable[[Sequence[str]], Tensor], texts: Sequence[str]) -> Tensor:
    """T texts -> (T, ...): the results of `encode` for at most 64 texts at a time."""
    starts = range(0, len(texts), BATCH)
    return torch.cat([encode(texts[at : at + BATCH]) for at in starts])
