"""Settings and weights of words, for methods that align words with image regions.

Shapes: B reports, L tokens, W words of the longest report, E the text encoder's width.
"""

import math
from typing import Any

import torch
from pydantic import model_validator
from torch import Tensor

from g2dbench.methods.shared.settings import TextSettings


class WordTextSettings(TextSettings):
    """`[model.text]` of a method that reads several layers of the encoder."""

    @model_validator(mode="after")
    def _every_layer(self) -> "WordTextSettings":
        if self.frozen_cache or self.buckets > 1:
            raise ValueError(
                "this method reads several layers of the text encoder, which frozen_cache and "
                "buckets leave out: use frozen_cache = 0 and buckets = 1"
            )
        return self


@torch.no_grad()
def cls_attention(bert: Any, before: Tensor, attention: Tensor) -> Tensor:
    """The last layer's input (B, L, E) and (B, L) -> (B, L): attention of [CLS] to each token.

    Mean over the heads, without dropout, no gradient; fp32.
    """
    layer, heads = bert.encoder.layer[-1].attention.self, bert.config.num_attention_heads
    query = layer.query(before[:, :1]).float().unflatten(-1, (heads, -1)).transpose(1, 2)
    key = layer.key(before).float().unflatten(-1, (heads, -1)).transpose(1, 2)
    with torch.autocast(before.device.type, enabled=False):
        logits = query @ key.transpose(-1, -2) / math.sqrt(key.shape[-1])
    logits = logits.masked_fill(~attention.bool()[:, None, None], -torch.inf)
    found: Tensor = logits.softmax(-1)[:, :, 0].mean(1)
    return found


@torch.no_grad()
def clipped_weights(weights: Tensor) -> Tensor:
    """(B, W) >= 0 -> (B, W): positive weights clipped to their 1st and 9th decile, rows sum to 1.

    Zeros stay zeros; fp32, since torch has no quantile in bf16 or fp16.
    Source: HKU-MedAI/MGCA mgca_module.py, word_atten_weights.
    """
    weights = weights.float()
    positive = weights > 0
    known = weights.masked_fill(~positive, torch.nan)
    low, high = (known.nanquantile(q, dim=1, keepdim=True) for q in (0.1, 0.9))
    clipped = torch.where(positive, weights.clamp(low, high), 0.0)
    return clipped / clipped.sum(1, keepdim=True).clamp(min=torch.finfo(clipped.dtype).tiny)
