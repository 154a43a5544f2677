"""Masked-image reconstruction with G2D's encoder and decoder; with or without reports.

Shapes: B images, S side, P patches of p x p pixels, h w grid, D width of the shared space.
Sources: facebookresearch/mae models_mae.py for mask and loss; SimMIM (Xie et al., CVPR 2022) for
hiding patches behind a learned value, since a CNN cannot drop them.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from g2dbench.cards import MethodCard
from g2dbench.method import Batch
from g2dbench.methods.shared.contrastive import Contrastive
from g2dbench.methods.shared.encoders import image_encoder
from g2dbench.methods.shared.pretrained_model import Pretrained, PretrainedImages
from g2dbench.methods.shared.settings import (
    ContrastiveSettings,
    DecoderSettings,
    Settings,
    TowerSettings,
    read_settings,
)
from g2dbench.methods.shared.two_towers import (
    ImageMethod,
    Projector,
    TextTower,
    Towers,
    by_pixel,
    check_pairs,
    levels,
    present,
)
from g2dbench.methods.shared.unet import Decoder, decode, unet_around
from g2dbench.system.seeded_init import seeded

CARD = MethodCard(
    name="mae",
    summary="reconstruction of hidden patches by a U-Net; no reports unless contrastive.weight > 0",
    paper="after He et al., Masked Autoencoders Are Scalable Vision Learners, CVPR 2022, "
    "arXiv 2111.06377",
    capabilities=("features", "decodes"),
)

_SAME = 0  # seed of the patches that are hidden when monitors look


class HidingSettings(Settings):
    """`[model.mask]`: what is hidden, and what is compared.

    patch: side in pixels. share: part of the patches that is hidden. target: grey values, or
    those of each patch brought to mean 0 and variance 1 (the paper's better one).
    """

    patch: int = Field(default=16, ge=2)
    share: float = Field(default=0.75, gt=0, lt=1)
    target: Literal["grey", "patch"] = "patch"


class ReportSettings(ContrastiveSettings):
    """Report contrast beside the reconstruction; weight 0 trains no text encoder at all."""

    weight: float = Field(default=0.0, ge=0)


class MaeSettings(TowerSettings):
    """The `[model]` table; `width`, `text` and `projector` matter with `contrastive.weight` only.

    (`text` gives the tokenizer in any case, since every method is handed reports.)
    """

    mask: HidingSettings = HidingSettings()
    decoder: DecoderSettings = DecoderSettings()
    contrastive: ReportSettings = ReportSettings()

    @model_validator(mode="after")
    def _fits(self) -> "MaeSettings":
        self.decoder.check(self.image)
        patches = (self.image.size // self.mask.patch) ** 2
        if self.image.size % self.mask.patch:
            raise ValueError(f"mask.patch {self.mask.patch} does not divide {self.image.size}")
        if not 0 < int(patches * (1 - self.mask.share)) < patches:
            raise ValueError(
                f"of {patches} patches, mask.share {self.mask.share} hides all or none: "
                "take another share or a smaller mask.patch"
            )
        return self


class Painter(nn.Module):
    """A U-Net that paints what is hidden from it."""

    def __init__(self, settings: MaeSettings) -> None:
        super().__init__()
        self._mask = settings.mask
        encoder = image_encoder(settings.image)
        self.channels, self.strides = levels(encoder)
        self.unet: Any = unet_around(encoder, settings.image, settings.decoder, 1)
        self.token = nn.Parameter(torch.zeros(3))

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the encoder's maps from stride 2 on."""
        return present(self.unet.encoder(images))

    def forward(self, images: Tensor, hidden: Tensor) -> tuple[list[Tensor], Tensor]:
        """(B, 3, S, S), (B, P) -> the pyramid of what is left to see, and the error of the rest."""
        pyramid = self.pyramid(self.cover(images, hidden))
        head = self.unet.segmentation_head
        painted = decode(self.unet.decoder, head, pyramid, self.strides)
        grey = images.mean(1, keepdim=True)
        return pyramid, masked_error(painted, grey, hidden, self._mask)

    def draw(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, 3, S, S) -> (B, P), True where a patch is to be hidden: as many in every image."""
        count = (images.shape[-1] // self._mask.patch) ** 2
        noise = torch.rand(len(images), count, generator=generator, device=images.device)
        return noise.argsort(1).argsort(1) >= int(count * (1 - self._mask.share))

    def cover(self, images: Tensor, hidden: Tensor) -> Tensor:
        """(B, 3, S, S), (B, P) -> the images with the learned value in place of hidden patches."""
        grid = images.shape[-1] // self._mask.patch
        plane = hidden.view(-1, 1, grid, grid)
        pixels = plane.repeat_interleave(self._mask.patch, 2).repeat_interleave(self._mask.patch, 3)
        return torch.where(pixels, self.token.to(images.dtype).view(1, 3, 1, 1), images)

    def monitors(self, images: Tensor) -> dict[str, float]:
        """`masked_error` with the same patches each time; 1 is a patch painted in its own mean."""
        generator = torch.Generator(images.device).manual_seed(_SAME)
        _, error = self(images, self.draw(images, generator))
        return {"masked_error": float(error)}


class Mae(ImageMethod):
    """Reconstruction alone."""

    def __init__(self, settings: MaeSettings, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(settings, tokenizer)
        self.painter = Painter(settings)
        self.channels, self.strides = self.painter.channels, self.painter.strides

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """`reconstruction`."""
        _, error = self.painter(batch.images, self.painter.draw(batch.images))
        return {"reconstruction": error}

    @torch.no_grad()
    def monitors(self, batch: Batch) -> dict[str, float]:
        """See `Painter.monitors`."""
        return self.painter.monitors(batch.images)

    def as_model(self) -> "MaeModel":
        """The evaluated model, sharing weights and mode."""
        return MaeModel(self)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the encoder's maps from stride 2 on."""
        return self.painter.pyramid(images)


class MaeWithReports(Towers):
    """Reconstruction, and contrast of the covered image with its report."""

    def __init__(self, settings: MaeSettings, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(settings, TextTower(settings, len(tokenizer)), tokenizer)
        self.contrastive = Contrastive(settings.contrastive)
        self._weight = settings.contrastive.weight
        self.painter = Painter(settings)
        self.channels, self.strides = self.painter.channels, self.painter.strides
        self.projector = Projector(settings.projector, self.channels[-1], settings.width)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """`reconstruction` and `contrastive`."""
        check_pairs(batch)
        pyramid, error = self.painter(batch.images, self.painter.draw(batch.images))
        text = self.text(batch.tokens, batch.attention)
        contrast = self.contrastive(self.embed_pyramid(pyramid), text)
        return {"reconstruction": error, "contrastive": self._weight * contrast}

    @torch.no_grad()
    def monitors(self, batch: Batch) -> dict[str, float]:
        """See `Painter.monitors`."""
        return self.painter.monitors(batch.images)

    def as_model(self) -> "MaeWithReportsModel":
        """The evaluated model, sharing weights and mode."""
        return MaeWithReportsModel(self)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the encoder's maps from stride 2 on."""
        return self.painter.pyramid(images)

    def embed_pyramid(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> (B, D): projected mean of the last map."""
        embedded: Tensor = self.projector(pyramid[-1].mean((2, 3)))
        return embedded

    def dense(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> (B, D, h, w): the same projection, pixel by pixel."""
        return by_pixel(self.projector, pyramid[-1])


class MaeModel(PretrainedImages):
    """An encoder and its decoder; no text."""

    towers: Mae

    def pretrained_decoder(self) -> nn.Module:
        """A fresh copy of the decoder: `features` pyramid -> (B, 1, S, S)."""
        return Decoder(self.towers.painter.unet, self.towers.strides)


class MaeWithReportsModel(Pretrained):
    """The same with a space of image and report."""

    towers: MaeWithReports

    def pretrained_decoder(self) -> nn.Module:
        """A fresh copy of the decoder: `features` pyramid -> (B, 1, S, S)."""
        return Decoder(self.towers.painter.unet, self.towers.strides)


def masked_error(painted: Tensor, grey: Tensor, hidden: Tensor, mask: HidingSettings) -> Tensor:
    """(B, 1, S, S) twice, (B, P) -> scalar: mean squared error over the hidden patches, fp32.

    Variance as in the source: unbiased, plus 1e-6.
    """
    with torch.autocast(painted.device.type, enabled=False):
        found, wanted = (_patches(x.float(), mask.patch) for x in (painted, grey))
        if mask.target == "patch":
            variance = wanted.var(-1, keepdim=True)
            wanted = (wanted - wanted.mean(-1, keepdim=True)) / (variance + 1e-6).sqrt()
        return (found - wanted).square().mean(-1)[hidden].mean()


def _patches(images: Tensor, patch: int) -> Tensor:
    """(B, 1, S, S) -> (B, P, p p), row by row."""
    return F.unfold(images, patch, stride=patch).transpose(1, 2)


def build(
    config: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast, seed: int
) -> Mae | MaeWithReports:
    """The method from a recipe's `[model]` table, its fresh weights drawn from the seed."""
    settings = read_settings(MaeSettings, config)
    kind = MaeWithReports if settings.contrastive.weight else Mae
    return seeded(lambda: kind(settings, tokenizer), torch.Generator().manual_seed(seed))
