"""Base classes of two-tower methods: image and text encoders with a shared embedding space.

Shapes: B pairs, C channels, S image side, h w grid, L tokens, D width of the shared space.
"""

from abc import abstractmethod
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from g2dbench.errors import Misuse
from g2dbench.method import Batch, Method
from g2dbench.methods.shared.encoders import TextEncoder, image_encoder
from g2dbench.methods.shared.frozen_text_cache import HostReports
from g2dbench.methods.shared.settings import (
    InputSettings,
    ProjectedSettings,
    ProjectorSettings,
    TextSettings,
)
from g2dbench.pretrained.text.tokenizer import SCRATCH, Tokenize


class Projector(nn.Module):
    """Linear, norm, ReLU, linear, optional norm over the last axis: (..., C) -> (..., D).

    On a map with channels last it equals the 1 x 1 convolutions of the published methods.
    """

    def __init__(self, projector: ProjectorSettings, channels: int, width: int) -> None:
        super().__init__()
        hidden = {0: width, -1: channels}.get(projector.hidden, projector.hidden)
        plain = projector.norm in ("none", "both")
        self.first = nn.Linear(channels, hidden, bias=plain)
        self.norm = _norm(projector, hidden)
        both = projector.norm == "both"
        self.second = nn.Linear(hidden, width, bias=plain)
        self.last = nn.BatchNorm1d(width, affine=False) if both else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., D)."""
        hidden = self.first(x)
        flat = self.norm(hidden.reshape(-1, hidden.shape[-1]))
        projected: Tensor = self.last(self.second(F.relu(flat)))
        return projected.view(*hidden.shape[:-1], -1)


def _norm(projector: ProjectorSettings, hidden: int) -> nn.Module:
    if projector.norm == "batch":
        return nn.BatchNorm1d(hidden, affine=False)
    if projector.norm == "layer":
        return nn.LayerNorm(hidden)
    if projector.norm == "both":
        return nn.BatchNorm1d(hidden)
    return nn.Identity()


class BaseTextTower(nn.Module):
    """Base class of text towers: (B, L) tokens and attention -> (B, D), not normalized."""

    encoder: TextEncoder


class TextTower(BaseTextTower):
    """Embeds reports: encoder, pooling and projector, in the order that the settings give."""

    def __init__(self, settings: ProjectedSettings, vocabulary: int) -> None:
        super().__init__()
        self.encoder = TextEncoder(settings.text, vocabulary)
        self.projector = Projector(settings.projector, self.encoder.width, settings.width)
        self._text: TextSettings = settings.text

    def forward(self, tokens: Tensor, attention: Tensor, host: HostReports | None = None) -> Tensor:
        """(B, L) and (B, L) -> (B, D), not normalized; host: of the encoder's `read`."""
        return self.project(self.encoder(tokens, attention, host), attention)

    def project(self, hidden: Tensor, attention: Tensor) -> Tensor:
        """The encoder's output (B, L, E) -> (B, D): pooled and projected."""
        if self._text.project == "tokens":
            return self._pool(self.projector(hidden), attention)
        projected: Tensor = self.projector(self._pool(hidden, attention))
        return projected

    def _pool(self, hidden: Tensor, attention: Tensor) -> Tensor:
        if self._text.pool == "cls":
            return hidden[:, 0]
        weights = attention.to(hidden.dtype).unsqueeze(-1)
        return (hidden * weights).sum(1) / weights.sum(1)


class ImageEncoderMethod(Method):
    """Base class of all methods here: image encoder, preprocessing, tokenization.

    Attributes: `channels` and `strides` describe `pyramid`, fine to coarse; `why_whole` belongs to
    the protocol `Separable`, which some methods implement.
    """

    why_whole = ""
    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def __init__(self, settings: InputSettings, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.preprocess = settings.image.preprocess()
        self.tokenize = Tokenize(tokenizer, settings.text.max_length, settings.text.padding)
        self.architecture = settings.model_dump(mode="json", exclude_none=True)
        self.architecture["image"]["weights"] = ""

    @abstractmethod
    def pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> [(B, channels[i], S / strides[i], S / strides[i])]."""


class TwoTowers(ImageEncoderMethod):
    """Base class of methods that embed images and reports in one space.

    The text tower is given; a method adds its image tower: `pyramid`, `embed_pyramid`, `dense`.
    """

    def __init__(
        self, settings: InputSettings, text: BaseTextTower, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        super().__init__(settings, tokenizer)
        self.text = text
        if settings.text.source != SCRATCH:  # sizes rebuild it without a download
            self.architecture["text"].update(text.encoder.sizes())

    @abstractmethod
    def embed_pyramid(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> (B, D), not normalized: the embedding for the contrastive loss."""

    @abstractmethod
    def dense(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> (B, D, h, w), not normalized: the embedding of every pixel of a grid."""


class PooledTwoTowers(TwoTowers):
    """Two towers whose image tower projects the mean of a CNN's last map."""

    def __init__(
        self, settings: ProjectedSettings, text: BaseTextTower, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        super().__init__(settings, text, tokenizer)
        self.encoder = image_encoder(settings.image)
        self.channels, self.strides = pyramid_levels(self.encoder)
        self.projector = Projector(settings.projector, self.channels[-1], settings.width)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the encoder's maps from stride 2 on."""
        return non_empty_levels(self.encoder(images))

    def embed_pyramid(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> (B, D): projected mean of the last map."""
        embedded: Tensor = self.projector(pyramid[-1].mean((2, 3)))
        return embedded

    def dense(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> (B, D, h, w): the same projection for every pixel."""
        return project_pixels(self.projector, pyramid[-1])


def check_pairs(batch: Batch) -> None:
    """Raise Misuse for a batch without negatives."""
    if len(batch.images) < 2:
        raise Misuse(
            f"a training batch has {len(batch.images)} pair: a contrastive loss needs at least 2; "
            "use a larger batch size and drop the last, incomplete batch"
        )


def project_pixels(projector: Projector, feature: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, D, h, w): apply a projector to every pixel."""
    pixels: Tensor = projector(feature.permute(0, 2, 3, 1))
    return pixels.permute(0, 3, 1, 2)


def pyramid_levels(encoder: nn.Module) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels and strides of an smp encoder's non-empty levels, without the input.

    smp's transformers have an empty map at stride 2.
    """
    channels = cast(list[int], encoder.out_channels)
    found = [(width, 2**level) for level, width in enumerate(channels) if level and width]
    return tuple(width for width, _ in found), tuple(stride for _, stride in found)


def non_empty_levels(pyramid: list[Tensor]) -> list[Tensor]:
    """The maps of an smp encoder without the input and empty levels."""
    return [feature for feature in pyramid[1:] if feature.shape[1]]
