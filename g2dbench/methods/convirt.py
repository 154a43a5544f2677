"""ConVIRT: contrastive learning of images and reports, to which G2D adds a decoder.

Shapes: B pairs, S image side, C channels, h w grid, D width of the shared space.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from g2dbench.cards import MethodCard
from g2dbench.method import Batch, whole_batch_losses
from g2dbench.methods.shared.contrastive import Contrastive
from g2dbench.methods.shared.pretrained_model import PretrainedImageTextModel
from g2dbench.methods.shared.settings import (
    ContrastiveSettings,
    ProjectorSettings,
    TextSettings,
    TowerSettings,
    read_settings,
)
from g2dbench.methods.shared.two_towers import PooledTwoTowers, TextTower, check_pairs
from g2dbench.system.seeded_init import seeded

CARD = MethodCard(
    name="convirt",
    summary="contrastive alignment of average-pooled image and mean-pooled report",
    paper="Zhang et al., Contrastive Learning of Medical Visual Representations from Paired Images "
    "and Text, MLHC 2022, arXiv 2010.00747",
    capabilities=("embeds", "features", "locates"),
)


class ConvirtTextSettings(TextSettings):
    """`[model.text]`: a report is the mean of its tokens."""

    pool: Literal["cls", "mean"] = "mean"


class ConvirtProjectorSettings(ProjectorSettings):
    """`[model.projector]`: linear, ReLU, linear, with biases and the hidden width of the input."""

    hidden: int = Field(default=-1, ge=-1)
    norm: Literal["batch", "layer", "none"] = "none"


class ConvirtContrastiveSettings(ContrastiveSettings):
    """`[model.contrastive]`: NT-Xent, temperature 0.1, 3/4 of the weight on image to text."""

    temperature: float = Field(default=0.1, gt=0)
    image_to_text: float = Field(default=0.75, ge=0)
    text_to_image: float = Field(default=0.25, ge=0)


class ConvirtSettings(TowerSettings):
    """The `[model]` table; its defaults are those of edreisMD/ConVIRT-pytorch."""

    width: int = Field(default=512, ge=1)
    text: ConvirtTextSettings = ConvirtTextSettings()
    projector: ConvirtProjectorSettings = ConvirtProjectorSettings()
    contrastive: ConvirtContrastiveSettings = ConvirtContrastiveSettings()


class Convirt(PooledTwoTowers):
    """Contrasts the projected mean of the last map with the projected mean of the tokens."""

    def __init__(self, settings: TowerSettings, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(settings, TextTower(settings, len(tokenizer)), tokenizer)
        self.contrastive = Contrastive(settings.contrastive)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The only loss is `contrastive`."""
        check_pairs(batch)
        return whole_batch_losses(self, batch)

    def embed(self, batch: Batch) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Image and report in the shared space, (B, D) each."""
        on_host = self.text.encoder.read(batch.tokens, batch.attention)
        image = self.embed_pyramid(self.pyramid(batch.images))
        return (image, self.text(batch.tokens, batch.attention, on_host)), {}

    def compare(self, *representations: Tensor) -> dict[str, Tensor]:
        """The contrastive loss of images and reports, (B, D) each."""
        return {"contrastive": self.contrastive(*representations)}

    def as_model(self) -> PretrainedImageTextModel:
        """The model to evaluate, sharing weights and mode."""
        return PretrainedImageTextModel(self)


def build(config: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast, seed: int) -> Convirt:
    """ConVIRT from a recipe's `[model]` table, with weights initialized from the seed."""
    settings = read_settings(ConvirtSettings, config)
    return seeded(lambda: Convirt(settings, tokenizer), torch.Generator().manual_seed(seed))
