"""Two towers and one space: what every contrastive method of image and report shares.

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
from g2dbench.methods.shared.settings import (
    InputSettings,
    ProjectedSettings,
    ProjectorSettings,
    TextSettings,
)
from g2dbench.pretrained.tokenizer import SCRATCH, Tokenize


class Projector(nn.Module):
    """Linear, norm, ReLU, linear (norm) over the last axis: (..., C) -> (..., D).

    On a map with its channels last it is the 1 x 1 convolution of the published methods.
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
    """Report to the shared space: (B, L) tokens and attention -> (B, D), not normalised."""

    encoder: TextEncoder


class TextTower(BaseTextTower):
    """Report to the shared space: encoder, pooling, projector, in the order of the settings."""

    def __init__(self, settings: ProjectedSettings, vocabulary: int) -> None:
        super().__init__()
        self.encoder = TextEncoder(settings.text, vocabulary)
        self.projector = Projector(settings.projector, self.encoder.width, settings.width)
        self._text: TextSettings = settings.text

    def forward(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """(B, L) and (B, L) -> (B, D), not normalised."""
        return self.project(self.encoder(tokens, attention), attention)

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
    """Base of every method: an image encoder, preprocessing, tokenising.

    Attributes: `channels` and `strides` describe `pyramid`, fine to coarse; `uncut` is that of
    `Separable`, for those that have its other parts.
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
    """Base of the methods that bring image and report into one space; the text side is given.

    A method adds its image side: `pyramid`, `embed_pyramid` and `dense`.
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
        """Pyramid -> (B, D), not normalised: what the contrastive loss compares with the text."""

    @abstractmethod
    def dense(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> (B, D, h, w), not normalised: the shared space at every pixel of a grid."""


class PooledTwoTowers(TwoTowers):
    """Towers whose image side is a CNN and a projector on the mean of its last map."""

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
        """Pyramid -> (B, D, h, w): the same projection, pixel by pixel."""
        return project_pixels(self.projector, pyramid[-1])


def check_pairs(batch: Batch) -> None:
    """Refuse a batch that has nothing to contrast."""
    if len(batch.images) < 2:
        raise Misuse(
            f"a training batch has {len(batch.images)} pair: a contrastive loss needs at least 2; "
            "take a larger batch size and drop the last, incomplete batch"
        )


def project_pixels(projector: Projector, feature: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, D, h, w) through a projector, pixel by pixel."""
    pixels: Tensor = projector(feature.permute(0, 2, 3, 1))
    return pixels.permute(0, 3, 1, 2)


def pyramid_levels(encoder: nn.Module) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels and strides of the levels that an smp encoder really has, without its input.

    Transformers of smp give an empty map at stride 2.
    """
    channels = cast(list[int], encoder.out_channels)
    found = [(width, 2**level) for level, width in enumerate(channels) if level and width]
    return tuple(width for width, _ in found), tuple(stride for _, stride in found)


def non_empty_levels(pyramid: list[Tensor]) -> list[Tensor]:
    """smp's six maps without the input and without empty ones."""
    return [feature for feature in pyramid[1:] if feature.shape[1]]
