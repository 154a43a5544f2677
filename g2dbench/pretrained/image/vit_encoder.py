"""An image encoder that is one of timm's vision transformers, under a card.

Shapes: B batch, S input side, D width.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from g2dbench.cards import ModelCard
from g2dbench.errors import Misuse
from g2dbench.model import Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.image.vit import make_vit, patch_grid
from g2dbench.pretrained.layouts import strip_wrappers
from g2dbench.pretrained.weights import State, digest, find_state, load_state, read_weights


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


def read_source(card: ModelCard, source: str | None) -> tuple[State, Path]:
    """The state_dict of a weights file without `module.`, and the file.

    Raises Misuse without a source, BadCheckpoint for an unreadable file.
    """
    if source is None:
        raise Misuse(
            f"{card.name} needs its weights: --model {card.name}:FILE, FILE of {card.source}"
        )
    file = Path(source).expanduser()
    return strip_wrappers(find_state(read_weights(file), file), file), file


def build_vit(
    card: ModelCard, preprocess: Preprocess, state: State, file: Path, **options: Any
) -> ViTEncoder:
    """The encoder with these weights, by timm's key names; a classifier's are left out.

    options: further arguments of timm's class. Raises BadCheckpoint for weights that do not fit.
    """
    trunk = make_vit(state, "", file, preprocess.size, **options)
    load_state(trunk, state, file, (r"^head\.",))
    model = ViTEncoder(card, preprocess, trunk)
    model.identity = Identity(card.name, digest(model))
    return model.eval()
