"""ConVIRT: contrastive learning of image and report, the baseline that G2D adds its decoder to.

Shapes: B pairs, S image side, C channels, h w grid, D width of the shared space.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from g2dbench.cards import MethodCard
from g2dbench.method import Batch, joint_losses
from g2dbench.methods.shared.contrastive import Contrastive
from g2dbench.methods.shared.pretrained_model import Pretrained
from g2dbench.methods.shared.settings import (
    ContrastiveSettings,
    ProjectorSettings,
    TextSettings,
    TowerSettings,
    read_settings,
)
from g2dbench.methods.shared.two_towers import PooledTowers, TextTower, check_pairs
from g2dbench.system.seeded_init import seeded

CARD = MethodCard(
    name="convirt",
    summary="contrastive alignment of average-pooled image and mean-pooled report",
    paper="Zhang et al., Contrastive Learning of Medical Visual Representations from Paired Images "
    "and Text, MLHC 2022, arXiv 2010.00747",
    capabilities=("embeds", "features", "locates"),
)


class ConvirtText(TextSettings):
    """Mean of the tokens."""

    pool: Literal["cls", "mean"] = "mean"


class ConvirtProjector(ProjectorSettings):
    """Linear, ReLU, linear with biases, as wide inside as its input."""

    hidden: int = Field(default=-1, ge=-1)
    norm: Literal["batch", "layer", "none"] = "none"


class ConvirtLoss(ContrastiveSettings):
    """NT-Xent: temperature 0.1, three quarters of the weight on image to text."""

    temperature: float = Field(default=0.1, gt=0)
    image_to_text: float = Field(default=0.75, ge=0)
    text_to_image: float = Field(default=0.25, ge=0)


class ConvirtSettings(TowerSettings):
    """The `[model]` table; its defaults are those of edreisMD/ConVIRT-pytorch."""

    width: int = Field(default=512, ge=1)
    text: ConvirtText = ConvirtText()
    projector: ConvirtProjector = ConvirtProjector()
    contrastive: ConvirtLoss = ConvirtLoss()


class Convirt(PooledTowers):
    """Mean over the last map, MLP; mean over the tokens, MLP; NT-Xent in both directions."""

    def __init__(self, settings: TowerSettings, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(settings, TextTower(settings, len(tokenizer)), tokenizer)
        self.contrastive = Contrastive(settings.contrastive)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """`contrastive` alone."""
        check_pairs(batch)
        return joint_losses(self, batch)

    def embed(self, batch: Batch) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Image and report in the shared space, (B, D) each."""
        image = self.embed_pyramid(self.pyramid(batch.images))
        return (image, self.text(batch.tokens, batch.attention)), {}

    def compare(self, *joint: Tensor) -> dict[str, Tensor]:
        """The contrastive loss of images and reports, (B, D) each."""
        return {"contrastive": self.contrastive(*joint)}

    def as_model(self) -> Pretrained:
        """The evaluated model, sharing weights and mode."""
        return Pretrained(self)


def build(config: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast, seed: int) -> Convirt:
    """ConVIRT from a recipe's `[model]` table, its fresh weights drawn from the seed."""
    settings = read_settings(ConvirtSettings, config)
    return seeded(lambda: Convirt(settings, tokenizer), torch.Generator().manual_seed(seed))
