"""The decoder layer of models that ask for findings by text queries: KAD and its relatives.

Shapes: B images, Q queries, P patches, D width.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class QueryLayer(nn.Module):
    """A pre-norm transformer decoder layer that also returns its attention to the patches.

    It has no dropout, because it is never trained here. Source: xiaoman-zhang/KAD at 591d999,
    models/transformer_decoder.py, `forward_pre`.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, queries: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """(B, Q, D), (B, P, D) -> queries (B, Q, D), attention (B, Q, P), mean of heads."""
        normed = self.norm1(queries)
        queries = queries + self.self_attn(normed, normed, normed, need_weights=False)[0]
        attended, attention = self.multihead_attn(self.norm2(queries), patches, patches)
        queries = queries + attended
        return queries + self.linear2(F.relu(self.linear1(self.norm3(queries)))), attention
