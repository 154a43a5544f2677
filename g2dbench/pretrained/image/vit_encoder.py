"""An image encoder that is one of timm's vision transformers, under a card.

Shapes: B batch, S input side, D width.
"""

from typing import Any

from torch import Tensor

from g2dbench.cards import ModelCard
from g2dbench.model import Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.image.vit import patch_grid


class ViTEncoder(Model):
    """The vector is the class token, the map the patches, both after the final norm."""

    fixed_size = True

    def __init__(self, card: ModelCard, preprocess: Preprocess, trunk: Any) -> None:
        super().__init__()
        self.card, self.preprocess = card, preprocess
        self.trunk = trunk
        self.channels, self.strides = (trunk.embed_dim,), (trunk.patch_embed.patch_size[0],)

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> one map of patch tokens."""
        return [patch_grid(self.trunk, images)]

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D)."""
        tokens: Tensor = self.trunk.forward_features(images)
        return tokens[:, 0]
