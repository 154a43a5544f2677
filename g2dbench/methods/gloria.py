"""GLoRIA: contrasts images with reports, and words with the image regions that they attend to.

Shapes: B images, T = B reports (row i of both is a pair), S image side, C channels, N = h w
regions, L tokens, W words, D width of the shared space. Source: marshuang80/gloria at 416466a.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from g2dbench.cards import MethodCard
from g2dbench.method import Batch
from g2dbench.methods.shared.attention_entropy import relative_entropy
from g2dbench.methods.shared.contrastive import Contrastive
from g2dbench.methods.shared.encoders import TextEncoder, image_encoder
from g2dbench.methods.shared.pretrained_model import PretrainedImageTextModel
from g2dbench.methods.shared.settings import (
    ContrastiveSettings,
    InputSettings,
    Settings,
    check_stride,
    read_settings,
)
from g2dbench.methods.shared.two_towers import (
    BaseTextTower,
    TwoTowers,
    check_pairs,
    non_empty_levels,
    pyramid_levels,
)
from g2dbench.methods.shared.word_pieces import WordTextSettings
from g2dbench.pretrained.text.word_grouping import WordGrouping
from g2dbench.system.seeded_init import seeded

CARD = MethodCard(
    name="gloria",
    summary="contrastive alignment of images with reports and of image regions with words",
    paper="Huang et al., GLoRIA: A Multimodal Global-Local Representation Learning Framework for "
    "Label-efficient Medical Image Recognition, ICCV 2021",
    capabilities=("embeds", "features", "locates"),
)


class GloriaTextSettings(WordTextSettings):
    """`[model.text]`: a word is the sum of its tokens over the encoder's last layers.

    last_layers: how many, or all if the encoder has fewer. `pool` and `project` are ignored: a
    report is the mean of its words, without projector.
    """

    last_layers: int = Field(default=4, ge=1)


class GloriaContrastiveSettings(ContrastiveSettings):
    """`[model.contrastive]`: both directions with weight 1, temperature 0.1."""

    temperature: float = Field(default=0.1, gt=0)
    image_to_text: float = Field(default=1.0, ge=0)
    text_to_image: float = Field(default=1.0, ge=0)


class LocalSettings(Settings):
    """`[model.local]`: the loss between words and regions.

    weight: of the loss. stride: of the map whose pixels are the regions. attention, words, pairs:
    inverse temperatures, in the source temp1 to temp3, of the attention over regions, of the
    log-sum-exp over words, and of the cross-entropy over pairs.
    """

    weight: float = Field(default=1.0, gt=0)
    stride: Literal[8, 16, 32] = 16
    attention: float = Field(default=4.0, gt=0)
    words: float = Field(default=5.0, gt=0)
    pairs: float = Field(default=10.0, gt=0)


class GloriaSettings(InputSettings):
    """The `[model]` table; its defaults are those of configs/chexpert_pretrain_config.yaml.

    The source scales its input from 224 to 299 pixels; here the encoder's input has `image.size`.
    """

    width: int = Field(default=768, ge=1)
    text: GloriaTextSettings = GloriaTextSettings()
    contrastive: GloriaContrastiveSettings = GloriaContrastiveSettings()
    local: LocalSettings = LocalSettings()

    @model_validator(mode="after")
    def _fits(self) -> "GloriaSettings":
        check_stride("local.stride", self.local.stride, self.image)
        return self


class EncodedReports(NamedTuple):
    """Words (B, W, D), which of them are words and not padding (B, W), and their mean (B, D)."""

    words: Tensor
    is_word: Tensor
    report: Tensor


class GloriaTextTower(BaseTextTower):
    """Encodes reports as words and their mean, in the shared space.

    If the widths of encoder and shared space differ, a linear map without bias follows, like
    `emb_local` and `emb_global` of the source, where the widths are equal.
    """

    def __init__(self, settings: GloriaSettings, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.encoder = TextEncoder(settings.text, len(tokenizer))
        self.words = WordGrouping(tokenizer)
        same = self.encoder.width == settings.width
        self.embedder: nn.Module = (
            nn.Identity() if same else nn.Linear(self.encoder.width, settings.width, bias=False)
        )
        self._last = settings.text.last_layers

    def forward(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """(B, L) and (B, L) -> (B, D)."""
        return self.encode(tokens, attention).report

    def encode(self, tokens: Tensor, attention: Tensor) -> EncodedReports:
        """Words as in the source: [CLS] is a word; [SEP] is not, but counts in the mean."""
        layers = torch.stack(self.encoder.states(tokens, attention)[1:][-self._last :])
        rows = self.words(tokens, attention)
        words = self.embedder(rows @ layers.sum(0).float())
        is_word = rows.any(2)
        report = words.sum(1) / is_word.sum(1, keepdim=True)
        return EncodedReports(words, is_word & ~self.words.is_sep(tokens, rows), report)


class Gloria(TwoTowers):
    """Contrasts the pooled last map with reports, and the pixels of a finer map with words.

    The source does not count unknown words ("[UNK]") and therefore drops as many real words at the
    end; this class does not. Negatives of the local loss are those of this device.
    """

    text: GloriaTextTower

    def __init__(self, settings: GloriaSettings, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(settings, GloriaTextTower(settings, tokenizer), tokenizer)
        self.contrastive = Contrastive(settings.contrastive)
        self._local = settings.local
        self.encoder = image_encoder(settings.image)
        self.channels, self.strides = pyramid_levels(self.encoder)
        self._level = self.strides.index(settings.local.stride)
        self.global_embedder = nn.Linear(self.channels[-1], settings.width)
        self.local_embedder = nn.Conv2d(
            self.channels[self._level], settings.width, kernel_size=1, bias=False
        )

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """`global` and `local`, each in both directions."""
        check_pairs(batch)
        pyramid = self.pyramid(batch.images)
        reports = self.text.encode(batch.tokens, batch.attention)
        similarity = word_similarity(
            self.dense(pyramid).flatten(2).transpose(1, 2),
            reports.words,
            reports.is_word,
            self._local,
        )
        return {
            "global": self.contrastive(self.embed_pyramid(pyramid), reports.report),
            "local": self._local.weight * symmetric_cross_entropy(similarity),
        }

    @torch.no_grad()
    def monitors(self, batch: Batch) -> dict[str, float]:
        """`word_entropy`: entropy of the words' attention over their own image; 1 is uniform."""
        regions = self.dense(self.pyramid(batch.images))
        reports = self.text.encode(batch.tokens, batch.attention)
        flat = regions.float().flatten(2).transpose(1, 2)
        attention = region_attention(flat, reports.words, reports.is_word, self._local.attention)
        own = attention.diagonal().movedim(-1, 0)[reports.is_word]
        return {"word_entropy": relative_entropy(own.view(1, len(own), *regions.shape[2:]))}

    def as_model(self) -> PretrainedImageTextModel:
        """The model to evaluate; it locates a prompt by the cosine with the mean of its words."""
        return PretrainedImageTextModel(self)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the encoder's maps from stride 2 on."""
        return non_empty_levels(self.encoder(images))

    def embed_pyramid(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> (B, D): linear map of the mean of the last map."""
        embedded: Tensor = self.global_embedder(pyramid[-1].mean((2, 3)))
        return embedded

    def dense(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> (B, D, h, w): the regions."""
        regions: Tensor = self.local_embedder(pyramid[self._level])
        return regions


def region_attention(regions: Tensor, words: Tensor, is_word: Tensor, factor: float) -> Tensor:
    """(B, N, D), (T, W, D), (T, W) -> (B, T, W, N): each word's attention over the regions, sum 1.

    A softmax of the dot products over the words of a report, times the factor, then a softmax over
    regions. Inputs are fp32. Source: gloria/loss/gloria_loss.py, attention_fn.
    """
    products = torch.einsum("bnd,twd->btwn", regions, words)
    shares = products.masked_fill(~_not_empty(is_word)[None, :, :, None], -torch.inf).softmax(2)
    return (shares * factor).softmax(-1)


def word_similarity(
    regions: Tensor, words: Tensor, is_word: Tensor, local: LocalSettings
) -> Tensor:
    """(B, N, D), (T, W, D), (T, W) -> (B, T): how well the words of a report match the regions.

    Log-sum-exp over words of the cosine between a word and what it attends to; fp32. A report
    without words has similarity 0 with every image. Source: local_loss, agg "sum".
    """
    with torch.autocast(regions.device.type, enabled=False):
        regions, words = regions.float(), words.float()
        attention = region_attention(regions, words, is_word, local.attention)
        attended = (attention.flatten(1, 2) @ regions).unflatten(1, is_word.shape)
        cosines = F.cosine_similarity(attended, words[None], dim=-1) * local.words
        joined = cosines.masked_fill(~_not_empty(is_word), -torch.inf).logsumexp(-1)
        return torch.where(is_word.any(1), joined * local.pairs, 0.0)


def symmetric_cross_entropy(similarity: Tensor) -> Tensor:
    """(B, B) logits, pairs on the diagonal -> scalar: cross-entropy of rows plus of columns."""
    own = torch.arange(len(similarity), device=similarity.device)
    return F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)


def _not_empty(is_word: Tensor) -> Tensor:
    """Mark the padding of a report without words as words, so that no softmax is empty."""
    return is_word | ~is_word.any(1, keepdim=True)


def build(config: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast, seed: int) -> Gloria:
    """GLoRIA from a recipe's `[model]` table, with weights initialized from the seed."""
    settings = read_settings(GloriaSettings, config)
    return seeded(lambda: Gloria(settings, tokenizer), torch.Generator().manual_seed(seed))
