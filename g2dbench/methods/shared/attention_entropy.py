"""Entropy of an attention map, relative to a uniform one."""

import math

import torch
from torch import Tensor


def relative_entropy(attention: Tensor) -> float:
    """(B, H, h, w) -> mean entropy of the heads over that of uniform attention, in [0, 1].

    Each map is first normalized to sum 1 over its pixels.
    """
    flat = attention.float().flatten(2)
    if flat.shape[-1] == 1:
        return 1.0
    share = flat / flat.sum(-1, keepdim=True)
    return float(torch.special.entr(share).sum(-1).mean() / math.log(flat.shape[-1]))
