"""MGCA: aligns images with reports, regions with words, and both with shared prototypes.

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
from g2dbench.methods._mgca_losses import cross_attention, prototype_loss, token_loss
from g2dbench.methods.shared.contrastive import Contrastive
from g2dbench.methods.shared.pretrained_model import PretrainedImageTextModel
from g2dbench.methods.shared.settings import (
    ContrastiveSettings,
    ProjectorSettings,
    Settings,
    TowerSettings,
    check_stride,
    read_settings,
)
from g2dbench.methods.shared.two_towers import (
    PooledTwoTowers,
    Projector,
    TextTower,
    check_pairs,
    project_pixels,
)
from g2dbench.methods.shared.word_pieces import WordTextSettings, clipped_weights, cls_attention
from g2dbench.pretrained.text.word_grouping import WordGrouping
from g2dbench.system.seeded_init import seeded

CARD = MethodCard(
    name="mgca",
    summary="contrastive alignment of images and reports, regions and words, and by prototypes",
    paper="Wang et al., Multi-Granularity Cross-modal Alignment for Generalized Medical Visual "
    "Representation Learning, NeurIPS 2022, arXiv 2210.06044",
    capabilities=("embeds", "features", "locates"),
)


class MgcaProjectorSettings(ProjectorSettings):
    """`[model.projector]`: hidden width 2048, batch norms before the ReLU and at the end."""

    hidden: int = Field(default=2048, ge=-1)
    norm: Literal["batch", "layer", "none", "both"] = "both"


class MgcaContrastiveSettings(ContrastiveSettings):
    """`[model.contrastive]`, loss `ita`: both directions with weight 1."""

    image_to_text: float = Field(default=1.0, ge=0)
    text_to_image: float = Field(default=1.0, ge=0)


class TokenSettings(Settings):
    """`[model.local]`, loss `cta`: cross-attention between regions and words, in both directions.

    stride: of the map whose pixels are the regions. temperature: of attention and cross-entropy.
    """

    weight: float = Field(default=1.0, gt=0)
    stride: Literal[8, 16, 32] = 16
    temperature: float = Field(default=0.1, gt=0)


class PrototypeSettings(Settings):
    """`[model.prototypes]`, loss `cpa`: image and report predict each other's soft assignment.

    epsilon, iterations: of Sinkhorn's assignment, with equal shares for all prototypes.
    start: optimizer steps during which prototypes are frozen; in the source, the first epoch.
    """

    weight: float = Field(default=1.0, gt=0)
    count: int = Field(default=500, ge=2)
    temperature: float = Field(default=0.2, gt=0)
    epsilon: float = Field(default=0.05, gt=0)
    iterations: int = Field(default=3, ge=1)
    start: int = Field(default=0, ge=0)


class MgcaSettings(TowerSettings):
    """The `[model]` table; its defaults are those of mgca_module.py's command line.

    For a ResNet the source scales its input from 224 to 299 pixels; here the encoder's input has
    `image.size`. The source uses the first six layers of its BERT.
    """

    text: WordTextSettings = WordTextSettings()
    projector: MgcaProjectorSettings = MgcaProjectorSettings()
    contrastive: MgcaContrastiveSettings = MgcaContrastiveSettings()
    local: TokenSettings = TokenSettings()
    prototypes: PrototypeSettings = PrototypeSettings()

    @model_validator(mode="after")
    def _fits(self) -> "MgcaSettings":
        check_stride("local.stride", self.local.stride, self.image)
        return self


class EncodedReports(NamedTuple):
    """Reports (B, D), words (B, W, D) as unit vectors, is_word and weights of words (B, W)."""

    report: Tensor
    words: Tensor
    is_word: Tensor
    weights: Tensor


class MgcaTextTower(TextTower):
    """Encodes reports and their words, with a separate projector for each.

    [CLS] is not a word; [SEP] is a word with weight 0. The weight of a word is the attention of
    [CLS] to it in the last layer. The source instead pairs each token with the attention to the
    next one, and its batch norms include the padding.
    """

    def __init__(self, settings: MgcaSettings, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(settings, len(tokenizer))
        self.words = WordGrouping(tokenizer)
        self.local = Projector(settings.projector, self.encoder.width, settings.width)

    def encode(self, tokens: Tensor, attention: Tensor) -> EncodedReports:
        """(B, L) and (B, L) -> reports and words."""
        *_, before, last = self.encoder.states(tokens, attention)
        rows = self.words(tokens, attention)
        is_word = rows.any(2)
        words = self._embed(rows @ last.float(), is_word)[:, 1:]
        from_cls = cls_attention(self.encoder.bert, before, attention)
        weights = (rows @ from_cls.unsqueeze(2)).squeeze(2)
        weights = weights.masked_fill(self.words.is_sep(tokens, rows), 0.0)[:, 1:]
        report = self.project(last, attention)
        return EncodedReports(report, words, is_word[:, 1:], clipped_weights(weights))

    def prompt(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """(B, L) and (B, L) -> (B, D): sum of the words, in the space of the regions."""
        _, words, is_word, weights = self.encode(tokens, attention)
        weighted = is_word & (weights > 0)
        weighted = torch.where(weighted.any(1, keepdim=True), weighted, is_word)
        return (words * weighted.unsqueeze(2)).sum(1)

    def _embed(self, words: Tensor, is_word: Tensor) -> Tensor:
        """(B, W, E) -> unit vectors (B, W, D); the batch norms see only words, no padding."""
        projected = F.normalize(self.local(words[is_word]).float(), dim=-1)
        empty = projected.new_zeros(*is_word.shape, projected.shape[-1])
        return empty.masked_scatter(is_word.unsqueeze(2), projected)


class Mgca(PooledTwoTowers):
    """Three losses on two projections each of image and report.

    Prototypes are normalized within the graph; the source overwrites them in each step. `cta`
    compares regions and words within a pair, so it needs no pairs of other devices.
    """

    text: MgcaTextTower

    def __init__(self, settings: MgcaSettings, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(settings, MgcaTextTower(settings, tokenizer), tokenizer)
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
        reports = self.text.encode(batch.tokens, batch.attention)
        local, prototypes = self._settings.local, self._settings.prototypes
        unit_prototypes = self._unit_prototypes()
        if batch.step < prototypes.start:
            unit_prototypes = unit_prototypes.detach()
        cta = token_loss(
            self._regions(pyramid),
            reports.words,
            reports.is_word,
            reports.weights,
            local.temperature,
        )
        return {
            "ita": self.contrastive(image, reports.report),
            "cta": local.weight * cta,
            "cpa": prototypes.weight * prototype_loss(
                image, reports.report, unit_prototypes,
                prototypes.temperature, prototypes.epsilon, prototypes.iterations,
            ),
        }  # fmt: skip

    @torch.no_grad()
    def monitors(self, batch: Batch) -> dict[str, float]:
        """`word_entropy`: entropy of the words' attention over the regions; 1 is uniform.

        `prototypes_used`: number of prototypes nearest to some image, over the possible maximum.
        """
        pyramid = self.pyramid(batch.images)
        reports = self.text.encode(batch.tokens, batch.attention)
        _, attention = cross_attention(
            reports.words, self._regions(pyramid), None, self._settings.local.temperature
        )
        own = attention[reports.is_word]
        entropy = torch.special.entr(own).sum(-1).mean() / torch.tensor(own.shape[-1]).log()
        prototypes = self._unit_prototypes()
        images = F.normalize(self.embed_pyramid(pyramid).float(), dim=-1)
        nearest = (images @ prototypes.T).argmax(1)
        most = min(len(nearest), len(prototypes))
        return {
            "word_entropy": float(entropy) if own.shape[-1] > 1 else 1.0,
            "prototypes_used": len(nearest.unique()) / most,
        }

    def as_model(self) -> "MgcaModel":
        """The model to evaluate, sharing weights and mode."""
        return MgcaModel(self)

    def dense(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> (B, D, h, w): the regions, in the space of the words."""
        return project_pixels(self.local, pyramid[self._level])

    def _regions(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> unit vectors (B, N, D)."""
        return F.normalize(self.dense(pyramid).float().flatten(2).transpose(1, 2), dim=-1)

    def _unit_prototypes(self) -> Tensor:
        """The prototypes as unit vectors, (K, D)."""
        return F.normalize(self.prototypes.weight.float(), dim=-1)


class MgcaModel(PretrainedImageTextModel):
    """A trained MGCA; it locates prompts in the space of regions and words."""

    towers: Mgca

    def embed_prompts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1, fp32: the mean of their words."""
        return self._encode_texts(self.towers.text.prompt, texts)


def build(config: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast, seed: int) -> Mgca:
    """MGCA from a recipe's `[model]` table, with weights initialized from the seed."""
    settings = read_settings(MgcaSettings, config)
    return seeded(lambda: Mgca(settings, tokenizer), torch.Generator().manual_seed(seed))
