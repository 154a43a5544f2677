"""GLoRIA: images against reports, and words against the image regions that they attend to.

Shapes: B images, T reports (as many, row by row a pair), S image side, C channels, N = h w regions,
L tokens, W words, D width of the shared space. Source: marshuang80/gloria at 416466a.
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
from g2dbench.methods.shared.pretrained_model import Pretrained
from g2dbench.methods.shared.settings import (
    ContrastiveSettings,
    InputSettings,
    Settings,
    check_stride,
    read_settings,
)
from g2dbench.methods.shared.two_towers import TextSide, Towers, check_pairs, levels, present
from g2dbench.methods.shared.word_pieces import Words, WordTextSettings
from g2dbench.system.seeded_init import seeded

CARD = MethodCard(
    name="gloria",
    summary="contrastive alignment of images with reports and of image regions with words",
    paper="Huang et al., GLoRIA: A Multimodal Global-Local Representation Learning Framework for "
    "Label-efficient Medical Image Recognition, ICCV 2021",
    capabilities=("embeds", "features", "locates"),
)


class GloriaText(WordTextSettings):
    """The sum of the encoder's last layers (or all it has), over all tokens of a word.

    `pool` and `project` are not read: a report is the mean of its words, and not projected.
    """

    last_layers: int = Field(default=4, ge=1)


class GloriaLoss(ContrastiveSettings):
    """Both directions in full, over cosines times 10."""

    temperature: float = Field(default=0.1, gt=0)
    image_to_text: float = Field(default=1.0, ge=0)
    text_to_image: float = Field(default=1.0, ge=0)


class LocalSettings(Settings):
    """`[model.local]`: words against regions; the three factors are temp1 to temp3 of the source.

    weight: of both directions. stride: of the map whose pixels are the regions. attention: factor
    of the logits over regions. words: of the cosines before they are joined over the words.
    pairs: of a report's similarity to an image before the cross-entropy.
    """

    weight: float = Field(default=1.0, gt=0)
    stride: Literal[8, 16, 32] = 16
    attention: float = Field(default=4.0, gt=0)
    words: float = Field(default=5.0, gt=0)
    pairs: float = Field(default=10.0, gt=0)


class GloriaSettings(InputSettings):
    """The `[model]` table; its defaults are those of configs/chexpert_pretrain_config.yaml.

    The source scales its input of 224 to 299 pixels; here `image.size` is what the encoder sees.
    """

    width: int = Field(default=768, ge=1)
    text: GloriaText = GloriaText()
    contrastive: GloriaLoss = GloriaLoss()
    local: LocalSettings = LocalSettings()

    @model_validator(mode="after")
    def _fits(self) -> "GloriaSettings":
        check_stride("local.stride", self.local.stride, self.image)
        return self


class Reading(NamedTuple):
    """Reports as words: (B, W, D), which of them exist (B, W), and their mean (B, D)."""

    words: Tensor
    exist: Tensor
    report: Tensor


class GloriaWords(TextSide):
    """Reports to words and their mean, in the shared space.

    A linear map without bias where the space's width is not the encoder's, as the hooks `emb_local`
    and `emb_global` of the source would; in the source the widths are equal.
    """

    def __init__(self, settings: GloriaSettings, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.encoder = TextEncoder(settings.text, len(tokenizer))
        self.words = Words(tokenizer)
        same = self.encoder.width == settings.width
        self.embedder: nn.Module = (
            nn.Identity() if same else nn.Linear(self.encoder.width, settings.width, bias=False)
        )
        self._last = settings.text.last_layers

    def forward(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """(B, L) and (B, L) -> (B, D)."""
        return self.read(tokens, attention).report

    def read(self, tokens: Tensor, attention: Tensor) -> Reading:
        """The source's words: [CLS] is one, [SEP] is none but counts in the report's mean."""
        layers = torch.stack(self.encoder.states(tokens, attention)[1:][-self._last :])
        rows = self.words(tokens, attention)
        words = self.embedder(rows @ layers.sum(0).float())
        exist = rows.any(2)
        report = words.sum(1) / exist.sum(1, keepdim=True)
        return Reading(words, exist & ~self.words.ends(tokens, rows), report)


class Gloria(Towers):
    """Linear maps of the pooled last map and of a finer map's pixels, against the report's words.

    Differs from the source where its count of words leaves out unknown ones ("[UNK]") and drops
    as many real ones at the end. Local negatives are those of this device.
    """

    text: GloriaWords

    def __init__(self, settings: GloriaSettings, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(settings, GloriaWords(settings, tokenizer), tokenizer)
        self.contrastive = Contrastive(settings.contrastive)
        self._local = settings.local
        self.encoder = image_encoder(settings.image)
        self.channels, self.strides = levels(self.encoder)
        self._level = self.strides.index(settings.local.stride)
        self.global_embedder = nn.Linear(self.channels[-1], settings.width)
        self.local_embedder = nn.Conv2d(
            self.channels[self._level], settings.width, kernel_size=1, bias=False
        )

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """`global` and `local`, both directions of each."""
        check_pairs(batch)
        pyramid = self.pyramid(batch.images)
        reading = self.text.read(batch.tokens, batch.attention)
        similarity = word_similarity(
            self.dense(pyramid).flatten(2).transpose(1, 2),
            reading.words,
            reading.exist,
            self._local,
        )
        return {
            "global": self.contrastive(self.embed_pyramid(pyramid), reading.report),
            "local": self._local.weight * both_directions(similarity),
        }

    @torch.no_grad()
    def monitors(self, batch: Batch) -> dict[str, float]:
        """`word_entropy`: of the words' attention over their own image; 1 is no attention."""
        regions = self.dense(self.pyramid(batch.images))
        reading = self.text.read(batch.tokens, batch.attention)
        flat = regions.float().flatten(2).transpose(1, 2)
        attention = region_attention(flat, reading.words, reading.exist, self._local.attention)
        own = attention.diagonal().movedim(-1, 0)[reading.exist]
        return {"word_entropy": relative_entropy(own.view(1, len(own), *regions.shape[2:]))}

    def as_model(self) -> Pretrained:
        """The evaluated model; a prompt is located by the cosine of its words' mean."""
        return Pretrained(self)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the encoder's maps from stride 2 on."""
        return present(self.encoder(images))

    def embed_pyramid(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> (B, D): mapped mean of the last map."""
        embedded: Tensor = self.global_embedder(pyramid[-1].mean((2, 3)))
        return embedded

    def dense(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> (B, D, h, w): the regions."""
        regions: Tensor = self.local_embedder(pyramid[self._level])
        return regions


def region_attention(regions: Tensor, words: Tensor, exist: Tensor, factor: float) -> Tensor:
    """(B, N, D), (T, W, D), (T, W) -> (B, T, W, N): each word's attention over the regions, sum 1.

    Dot products; a softmax over the words of the report, then one over regions of that times the
    factor. In fp32 already. Source: gloria/loss/gloria_loss.py, attention_fn.
    """
    products = torch.einsum("bnd,twd->btwn", regions, words)
    shares = products.masked_fill(~_some(exist)[None, :, :, None], -torch.inf).softmax(2)
    return (shares * factor).softmax(-1)


def word_similarity(regions: Tensor, words: Tensor, exist: Tensor, local: LocalSettings) -> Tensor:
    """(B, N, D), (T, W, D), (T, W) -> (B, T): how well each report's words find their regions.

    Cosine of each word with what it attends to, joined over words by log-sum-exp; fp32. A report
    without words is as similar to one image as to another: 0. Source: local_loss, agg "sum".
    """
    with torch.autocast(regions.device.type, enabled=False):
        regions, words = regions.float(), words.float()
        attention = region_attention(regions, words, exist, local.attention)
        attended = (attention.flatten(1, 2) @ regions).unflatten(1, exist.shape)
        cosines = F.cosine_similarity(attended, words[None], dim=-1) * local.words
        joined = cosines.masked_fill(~_some(exist), -torch.inf).logsumexp(-1)
        return torch.where(exist.any(1), joined * local.pairs, 0.0)


def both_directions(similarity: Tensor) -> Tensor:
    """(B, B) logits, pairs on the diagonal -> scalar: cross-entropy of rows plus of columns."""
    own = torch.arange(len(similarity), device=similarity.device)
    return F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)


def _some(exist: Tensor) -> Tensor:
    """A report without words counts its padding, so that no softmax is over nothing."""
    return exist | ~exist.any(1, keepdim=True)


def build(config: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast, seed: int) -> Gloria:
    """GLoRIA from a recipe's `[model]` table, its fresh weights drawn from the seed."""
    settings = read_settings(GloriaSettings, config)
    return seeded(lambda: Gloria(settings, tokenizer), torch.Generator().manual_seed(seed))
