"""Attention pooling of projected pixels with one aggregating query.

Shapes: B images, D width, h w grid, N = h w pixels, H heads, K head dimension.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from g2dbench.errors import Misuse
from g2dbench.methods.g2d.settings import AttentionSettings


class AttentionPool(nn.Module):
    """(B, D, h, w) -> the image's embedding (B, D) and the attention to each pixel (B, H, h, w).

    Multi-head attention with a head dimension of its own, so that the width need not be a multiple
    of the number of heads. With keys "pixels" the weights of a head sum to 1 over the pixels; with
    "pixels+query" the map lacks the attention of the query to itself.
    Source: G2D paper, section 3.2; released code PRETRAIN/models/cnn_ae.py.
    """

    def __init__(self, attention: AttentionSettings, width: int, grid: int) -> None:
        super().__init__()
        self._settings, self._grid = attention, grid
        self._head_dim = attention.head_dim or width // attention.heads
        inner = attention.heads * self._head_dim
        if attention.query == "token":
            self.token = nn.Parameter(torch.randn(width) / math.sqrt(width))
        if attention.positions == "learned":
            self.positions = nn.Parameter(torch.randn(1 + grid**2, width) / math.sqrt(width))
        self.query, self.key = nn.Linear(width, inner), nn.Linear(width, inner)
        self.value, self.out = nn.Linear(width, inner), _output(attention, inner, width)
        if attention.output == "double":
            _initialize_as_torch(self.query, self.key, self.value)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D, h, w) -> (B, D), not normalized, and (B, H, h, w)."""
        values, weights = self._attend(pixels)
        pooled = (weights.to(values.dtype) @ values).transpose(1, 2).flatten(2)
        to_pixels = weights[..., 1:] if self._attends_to_query else weights
        attention = to_pixels[:, :, 0].unflatten(-1, list(pixels.shape[2:]))
        embedded: Tensor = self.out(pooled)[:, 0]
        return embedded, attention

    def shares(self, pixels: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, D, h, w), fp32: what each pixel adds to the pooled embedding.

        The sum over the pixels is the embedding: the terms that no pixel has, the bias and the
        query's attention to itself, are spread evenly.
        """
        values, weights = self._attend(pixels)
        with torch.autocast(pixels.device.type, enabled=False):
            terms = (weights[:, :, 0, :, None] * values.float()).transpose(1, 2).flatten(2)
            nothing = self.out(torch.zeros_like(terms[:, :1]))
            embedded = self.out(terms.sum(1, keepdim=True))
            if self._attends_to_query:
                terms = terms[:, 1:]
            own = self.out(terms) - nothing
            own = own + (embedded - own.sum(1, keepdim=True)) / own.shape[1]
        shares: Tensor = own.transpose(1, 2).reshape(pixels.shape)
        return shares

    def dense(self, pixels: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, D, h, w): for each pixel, the embedding with all attention on it.

        If all heads attend equally, their attention-weighted sum is the pooled embedding.
        """
        tokens, _ = self._tokens(pixels)
        embedded: Tensor = self.out(self.value(tokens)).transpose(1, 2)
        return embedded.reshape(pixels.shape)

    def _attend(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D, h, w) -> values (B, H, N, K) and the query's weights (B, H, 1, N), fp32."""
        tokens, query = self._tokens(pixels)
        keys = torch.cat([query, tokens], 1) if self._attends_to_query else tokens
        weights = self._logits(query, keys).softmax(-1)
        return self._split(self.value(keys)), weights

    @property
    def _attends_to_query(self) -> bool:
        return self._settings.keys == "pixels+query"

    def _tokens(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (B, N, D) and the query (B, 1, D), with positions added."""
        tokens = pixels.flatten(2).transpose(1, 2)
        if self._settings.query == "token":
            query = self.token.to(tokens.dtype).expand(len(tokens), 1, -1)
        else:
            query = tokens.mean(1, keepdim=True)
        if self._settings.positions == "none":
            return tokens, query
        if pixels.shape[2:] != (self._grid, self._grid):
            raise Misuse(
                f"this G2D learned positions for a grid of {self._grid} x {self._grid}, but the "
                f"image gives {pixels.shape[2]} x {pixels.shape[3]}: use the model's image size"
            )
        return tokens + self.positions[1:], query + self.positions[:1]

    def _logits(self, query: Tensor, keys: Tensor) -> Tensor:
        """(B, H, 1, N), in fp32: nearly uniform attention in bf16 would give ties in the mask."""
        q, k = self._split(self.query(query)).float(), self._split(self.key(keys)).float()
        scale = self._settings.scale
        if self._settings.logits == "cosine":
            q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        else:
            scale /= math.sqrt(self._head_dim)
        with torch.autocast(q.device.type, enabled=False):
            return (q @ k.transpose(-1, -2)) * scale

    def _split(self, x: Tensor) -> Tensor:
        """(B, N, H K) -> (B, H, N, K)."""
        return x.view(*x.shape[:2], self._settings.heads, self._head_dim).transpose(1, 2)


def _output(attention: AttentionSettings, inner: int, width: int) -> nn.Module:
    """(..., H K) -> (..., D)."""
    if attention.output == "single":
        return nn.Linear(inner, width)
    first = nn.Linear(inner, width)
    nn.init.zeros_(first.bias)
    return nn.Sequential(first, nn.Linear(width, width))


def _initialize_as_torch(*layers: nn.Linear) -> None:
    """As in torch's MultiheadAttention: Xavier uniform over the stacked layers, biases 0."""
    outputs = sum(layer.out_features for layer in layers)
    bound = math.sqrt(6 / (layers[0].in_features + outputs))
    for layer in layers:
        nn.init.uniform_(layer.weight, -bound, bound)
        nn.init.zeros_(layer.bias)
