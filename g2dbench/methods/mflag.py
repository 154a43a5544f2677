"""M-FLAG: a frozen language model, alignment without negatives, an orthogonal image latent.

Shapes: B pairs, S image side, C channels of the last map, h w grid, D width of the shared space.
Source: cheliu-computation/M-FLAG-MICCAI2023 at a7fea3c.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from g2dbench.cards import MethodCard
from g2dbench.method import Batch
from g2dbench.methods.shared.pretrained_model import PretrainedImageTextModel
from g2dbench.methods.shared.settings import (
    ProjectedSettings,
    ProjectorSettings,
    Settings,
    TextSettings,
    read_settings,
)
from g2dbench.methods.shared.two_towers import PooledTwoTowers, TextTower, check_pairs
from g2dbench.system.seeded_init import seeded

CARD = MethodCard(
    name="mflag",
    summary="alignment with a frozen language model, and an orthogonality loss on the image latent",
    paper="Liu et al., M-FLAG: Medical Vision-Language Pre-training with Frozen Language Models "
    "and Latent Space Geometry Optimization, MICCAI 2023",
    capabilities=("embeds", "features", "locates"),
)


class MflagTextSettings(TextSettings):
    """`[model.text]`: the [CLS] token of a frozen language model in eval mode.

    With source "scratch" the model is random, which still separates reports; M-FLAG uses CXR-BERT.
    """

    frozen_layers: int = Field(default=-1, ge=-1)
    frozen_embeddings: bool = True
    frozen_mode: Literal["train", "eval"] = "eval"


class MflagProjectorSettings(ProjectorSettings):
    """`[model.projector]`: hidden width 2048, batch norms before the ReLU and at the end."""

    hidden: int = Field(default=2048, ge=-1)
    norm: Literal["batch", "layer", "none", "both"] = "both"


class LatentSettings(Settings):
    """`[model.latent]`: the geometry of the image latent.

    weight: of the loss. off_diagonal: weight of the products of two different channels.
    """

    weight: float = Field(default=1.0, ge=0)
    off_diagonal: float = Field(default=0.0051, ge=0)


class MflagSettings(ProjectedSettings):
    """The `[model]` table; its defaults are those of utils_builder.py and utils_trainer.py."""

    width: int = Field(default=1024, ge=1)
    text: MflagTextSettings = MflagTextSettings()
    projector: MflagProjectorSettings = MflagProjectorSettings()
    latent: LatentSettings = LatentSettings()


class Mflag(PooledTwoTowers):
    """Aligns the projected mean of the last map (the latent) with the projected frozen text."""

    def __init__(self, settings: MflagSettings, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(settings, TextTower(settings, len(tokenizer)), tokenizer)
        self._latent = settings.latent

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """`align` and `orthogonal`."""
        check_pairs(batch)
        on_host = self.text.encoder.read(batch.tokens, batch.attention)
        latent = self.pyramid(batch.images)[-1].mean((2, 3))
        text = self.text(batch.tokens, batch.attention, on_host)
        geometry = orthogonality(latent, self._latent.off_diagonal)
        return {
            "align": alignment(self.projector(latent), text),
            "orthogonal": self._latent.weight * geometry,
        }

    @torch.no_grad()
    def monitors(self, batch: Batch) -> dict[str, float]:
        """`latent_rank`: the `effective_rank`; near 1 the latent has collapsed."""
        return {"latent_rank": effective_rank(self.pyramid(batch.images)[-1].mean((2, 3)))}

    def as_model(self) -> PretrainedImageTextModel:
        """The model to evaluate, sharing weights and mode."""
        return PretrainedImageTextModel(self)


def alignment(image: Tensor, text: Tensor) -> Tensor:
    """(B, D) and (B, D) -> scalar: mean of 4 - 4 cosine, fp32. Source: align_loss."""
    with torch.autocast(image.device.type, enabled=False):
        return (4 - 4 * F.cosine_similarity(image.float(), text.float(), dim=-1)).mean()


def orthogonality(latent: Tensor, off_diagonal: float) -> Tensor:
    """(B, C) -> scalar: distance between the channels' second moments and the identity.

    Half of the squared errors on the diagonal plus weighted squares off the diagonal; fp32. The
    latent is neither centered nor scaled. Source: orthogonal_loss.
    """
    with torch.autocast(latent.device.type, enabled=False):
        latent = latent.float()
        moments = latent.T @ latent / len(latent)
        diagonal = moments.diagonal()
        others = moments.square().sum() - diagonal.square().sum()
        return ((diagonal - 1).square().sum() + off_diagonal * others) / 2


def effective_rank(latent: Tensor) -> float:
    """(B, C) -> exp of the entropy of the centered latent's singular values: 1 to min(B - 1, C).

    Source: Roy and Vetterli, The Effective Rank, EUSIPCO 2007.
    """
    values = torch.linalg.svdvals((latent - latent.mean(0)).float())
    share = values / values.sum().clamp(min=torch.finfo(torch.float32).tiny)
    return float(torch.special.entr(share).sum().exp())


def build(config: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast, seed: int) -> Mflag:
    """M-FLAG from a recipe's `[model]` table, with weights initialized from the seed."""
    settings = read_settings(MflagSettings, config)
    return seeded(lambda: Mflag(settings, tokenizer), torch.Generator().manual_seed(seed))
