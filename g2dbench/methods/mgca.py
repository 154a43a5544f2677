"""MGCA: images with reports, regions with words, and diseases as prototypes that both share.

Shapes: B pairs, S image side, C channels, N = h w regions, L tokens, W words, E the text encoder's
width, D width of the shared spaces, K prototypes. Source: HKU-MedAI/MGCA at 680fe4a.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from g2dbench.cards import MethodCard
from g2dbench.method import Batch
from g2dbench.methods._mgca_losses import cross_attended, prototype_loss, token_loss
from g2dbench.methods.shared.contrastive import Contrastive
from g2dbench.methods.shared.pretrained_model import Pretrained
from g2dbench.methods.shared.settings import (
    ContrastiveSettings,
    ProjectorSettings,
    Settings,
    TowerSettings,
    check_stride,
    read_settings,
)
from g2dbench.methods.shared.two_towers import (
    PooledTowers,
    Projector,
    TextTower,
    by_pixel,
    check_pairs,
)
from g2dbench.methods.shared.word_pieces import (
    Words,
    WordTextSettings,
    attention_of_cls,
    clipped_shares,
)
from g2dbench.system.seeded_init import seeded

CARD = MethodCard(
    name="mgca",
    summary="contrastive alignment of images and reports, regions and words, and by prototypes",
    paper="Wang et al., Multi-Granularity Cross-modal Alignment for Generalized Medical Visual "
    "Representation Learning, NeurIPS 2022, arXiv 2210.06044",
    capabilities=("embeds", "features", "locates"),
)


class MgcaProjector(ProjectorSettings):
    """2048 wide inside, batch norms before the ReLU and at the end; one for each of four inputs."""

    hidden: int = Field(default=2048, ge=-1)
    norm: Literal["batch", "layer", "none", "both"] = "both"


class MgcaLoss(ContrastiveSettings):
    """`ita`: both directions in full."""

    image_to_text: float = Field(default=1.0, ge=0)
    text_to_image: float = Field(default=1.0, ge=0)


class TokenSettings(Settings):
    """`[model.local]`, `cta`: regions attend to words and words to regions, both compared.

    stride: of the map whose pixels are the regions. temperature: of attention and cross-entropy.
    """

    weight: float = Field(default=1.0, gt=0)
    stride: Literal[8, 16, 32] = 16
    temperature: float = Field(default=0.1, gt=0)


class PrototypeSettings(Settings):
    """`[model.prototypes]`, `cpa`: each side predicts the other's soft assignment to prototypes.

    epsilon, iterations: of Sinkhorn's assignment, equal shares for all prototypes.
    start: optimiser steps in which they stay as they began; the source takes the first epoch.
    """

    weight: float = Field(default=1.0, gt=0)
    count: int = Field(default=500, ge=2)
    temperature: float = Field(default=0.2, gt=0)
    epsilon: float = Field(default=0.05, gt=0)
    iterations: int = Field(default=3, ge=1)
    start: int = Field(default=0, ge=0)


class MgcaSettings(TowerSettings):
    """The `[model]` table; its defaults are those of mgca_module.py's command line.

    The source scales its input of 224 to 299 pixels for a ResNet; here the encoder sees
    `image.size`. It takes the first six layers of its BERT.
    """

    text: WordTextSettings = WordTextSettings()
    projector: MgcaProjector = MgcaProjector()
    contrastive: MgcaLoss = MgcaLoss()
    local: TokenSettings = TokenSettings()
    prototypes: PrototypeSettings = PrototypeSettings()

    @model_validator(mode="after")
    def _fits(self) -> "MgcaSettings":
        check_stride("local.stride", self.local.stride, self.image)
        return self


class Reading(NamedTuple):
    """Reports (B, D), words (B, W, D) of length 1, which exist and what they weigh (B, W)."""

    report: Tensor
    words: Tensor
    exist: Tensor
    weights: Tensor


class MgcaText(TextTower):
    """Reports and their words, each through a projector of its own.

    [CLS] is no word; [SEP] is one without weight. A word's weight is the last layer's attention of
    [CLS] to it. Differs from the source, which pairs each token with the attention to the next one,
    and whose batch norms see the padding.
    """

    def __init__(self, settings: MgcaSettings, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(settings, len(tokenizer))
        self.words = Words(tokenizer)
        self.local = Projector(settings.projector, self.encoder.width, settings.width)

    def read(self, tokens: Tensor, attention: Tensor) -> Reading:
        """(B, L) and (B, L) -> reports and words."""
        *_, before, last = self.encoder.states(tokens, attention)
        rows = self.words(tokens, attention)
        exist = rows.any(2)
        words = self._embed(rows @ last.float(), exist)[:, 1:]
        seen = attention_of_cls(self.encoder.bert, before, attention)
        weights = (rows @ seen.unsqueeze(2)).squeeze(2)
        weights = weights.masked_fill(self.words.ends(tokens, rows), 0.0)[:, 1:]
        report = self.project(last, attention)
        return Reading(report, words, exist[:, 1:], clipped_shares(weights))

    def prompt(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """(B, L) and (B, L) -> (B, D): mean of the words in the space of the regions."""
        _, words, exist, weights = self.read(tokens, attention)
        real = exist & (weights > 0)
        real = torch.where(real.any(1, keepdim=True), real, exist)
        return (words * real.unsqueeze(2)).sum(1)

    def _embed(self, words: Tensor, exist: Tensor) -> Tensor:
        """(B, W, E) -> (B, W, D) of length 1; only words that exist enter the batch norms."""
        projected = F.normalize(self.local(words[exist]).float(), dim=-1)
        empty = projected.new_zeros(*exist.shape, projected.shape[-1])
        return empty.masked_scatter(exist.unsqueeze(2), projected)


class Mgca(PooledTowers):
    """Three losses over two projections of each side.

    Prototypes are brought to length 1 within the graph; the source overwrites them in each step.
    Regions and words are compared within a pair, so other devices have no part in `cta`.
    """

    text: MgcaText

    def __init__(self, settings: MgcaSettings, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(settings, MgcaText(settings, tokenizer), tokenizer)
        self.contrastive = Contrastive(settings.contrastive)
        self._settings = settings
        self._level = self.strides.index(settings.local.stride)
        width = settings.width
        self.local = Projector(settings.projector, self.channels[self._level], width)
        self.prototypes = nn.Linear(width, settings.prototypes.count, bias=False)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """`ita`, `cta` and `cpa`, each with its weight."""
        check_pairs(batch)
        pyramid = self.pyramid(batch.images)
        image = self.embed_pyramid(pyramid)
        reading = self.text.read(batch.tokens, batch.attention)
        local, prototypes = self._settings.local, self._settings.prototypes
        ends = self._ends() if batch.step >= prototypes.start else self._ends().detach()
        cta = token_loss(
            self._regions(pyramid), reading.words, reading.exist, reading.weights, local.temperature
        )
        return {
            "ita": self.contrastive(image, reading.report),
            "cta": local.weight * cta,
            "cpa": prototypes.weight * prototype_loss(
                image, reading.report, ends,
                prototypes.temperature, prototypes.epsilon, prototypes.iterations,
            ),
        }  # fmt: skip

    @torch.no_grad()
    def monitors(self, batch: Batch) -> dict[str, float]:
        """`word_entropy`: of the words' attention over the regions; 1 is no attention.

        `prototypes_used`: prototypes that are some image's nearest, as a share of those that could.
        """
        pyramid = self.pyramid(batch.images)
        reading = self.text.read(batch.tokens, batch.attention)
        _, attention = cross_attended(
            reading.words, self._regions(pyramid), None, self._settings.local.temperature
        )
        own = attention[reading.exist]
        entropy = torch.special.entr(own).sum(-1).mean() / torch.tensor(own.shape[-1]).log()
        ends = self._ends()
        nearest = (F.normalize(self.embed_pyramid(pyramid).float(), dim=-1) @ ends.T).argmax(1)
        most = min(len(nearest), len(ends))
        return {
            "word_entropy": float(entropy) if own.shape[-1] > 1 else 1.0,
            "prototypes_used": len(nearest.unique()) / most,
        }

    def as_model(self) -> "MgcaModel":
        """The evaluated model, sharing weights and mode."""
        return MgcaModel(self)

    def dense(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> (B, D, h, w): the regions, in the space of the words."""
        return by_pixel(self.local, pyramid[self._level])

    def _regions(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> (B, N, D), of length 1."""
        return F.normalize(self.dense(pyramid).float().flatten(2).transpose(1, 2), dim=-1)

    def _ends(self) -> Tensor:
        """The prototypes, (K, D), of length 1."""
        return F.normalize(self.prototypes.weight.float(), dim=-1)


class MgcaModel(Pretrained):
    """What MGCA leaves behind; prompts are located in the space of regions and words."""

    towers: Mgca

    def embed_prompts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1, fp32: the mean of their words."""
        return self._read(self.towers.text.prompt, texts)


def build(config: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast, seed: int) -> Mgca:
    """MGCA from a recipe's `[model]` table, its fresh weights drawn from the seed."""
    settings = read_settings(MgcaSettings, config)
    return seeded(lambda: Mgca(settings, tokenizer), torch.Generator().manual_seed(seed))
