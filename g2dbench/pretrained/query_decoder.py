"""Decoder layers of models that ask for findings by text queries: KAD and its relatives.

Shapes: B images, Q queries, P patches, D width. They have no dropout, because they are never
trained here.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class CrossLayer(nn.Module):
    """A pre-norm decoder layer without self-attention: queries do not see each other.

    Source: laihaoran/CARZero at fa4e09c, models/transformer_decoder.py,
    TransformerDecoderWoSelfAttenLayer.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, queries: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """(B, Q, D), (B, P, D) -> queries (B, Q, D), attention (B, Q, P), mean of heads."""
        attended, attention = self.multihead_attn(self.norm2(queries), patches, patches)
        queries = queries + attended
        return queries + self.linear2(F.relu(self.linear1(self.norm3(queries)))), attention


class QueryLayer(CrossLayer):
    """A pre-norm transformer decoder layer that also returns its attention to the patches.

    Source: xiaoman-zhang/KAD at 591d999, models/transformer_decoder.py, `forward_pre`.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__(width, heads, hidden)
        self.self_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm1 = nn.LayerNorm(width)

    def forward(self, queries: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """(B, Q, D), (B, P, D) -> queries (B, Q, D), attention (B, Q, P), mean of heads."""
        normed = self.norm1(queries)
        attended = self.self_attn(normed, normed, normed, need_weights=False)[0]
        return super().forward(queries + attended, patches)
