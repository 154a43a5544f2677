"""Masked image modeling with G2D's encoder and decoder, with or without reports.

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
from g2dbench.methods.shared.pretrained_model import PretrainedImageModel, PretrainedImageTextModel
from g2dbench.methods.shared.settings import (
    ContrastiveSettings,
    DecoderSettings,
    Settings,
    TowerSettings,
    read_settings,
)
from g2dbench.methods.shared.two_towers import (
    ImageEncoderMethod,
    Projector,
    TextTower,
    TwoTowers,
    check_pairs,
    non_empty_levels,
    project_pixels,
    pyramid_levels,
)
from g2dbench.methods.shared.unet import Decoder, decode, make_unet
from g2dbench.system.seeded_init import seeded

CARD = MethodCard(
    name="mae",
    summary="reconstruction of hidden patches by a U-Net; no reports unless contrastive.weight > 0",
    paper="after He et al., Masked Autoencoders Are Scalable Vision Learners, CVPR 2022, "
    "arXiv 2111.06377",
    capabilities=("features", "decodes"),
)

_MONITOR_SEED = 0  # of the patches that are hidden for the monitors


class MaskSettings(Settings):
    """`[model.mask]`: hidden patches and the target of the reconstruction.

    patch: side in pixels. share: fraction of patches that are hidden. target: grey values, or grey
    values normalized per patch to mean 0 and variance 1 (better in the paper).
    """

    patch: int = Field(default=16, ge=2)
    share: float = Field(default=0.75, gt=0, lt=1)
    target: Literal["grey", "patch"] = "patch"


class MaeContrastiveSettings(ContrastiveSettings):
    """`[model.contrastive]`: optional contrastive loss; weight 0 means no text encoder."""

    weight: float = Field(default=0.0, ge=0)


class MaeSettings(TowerSettings):
    """The `[model]` table; `width`, `text` and `projector` are used if `contrastive.weight` > 0.

    (`text` always sets the tokenizer, since every method gets reports.)
    """

    mask: MaskSettings = MaskSettings()
    decoder: DecoderSettings = DecoderSettings()
    contrastive: MaeContrastiveSettings = MaeContrastiveSettings()

    @model_validator(mode="after")
    def _fits(self) -> "MaeSettings":
        self.decoder.check(self.image)
        patches = (self.image.size // self.mask.patch) ** 2
        if self.image.size % self.mask.patch:
            raise ValueError(f"mask.patch {self.mask.patch} does not divide {self.image.size}")
        if not 0 < int(patches * (1 - self.mask.share)) < patches:
            raise ValueError(
                f"of {patches} patches, mask.share {self.mask.share} hides all or none: "
                "use another share or a smaller mask.patch"
            )
        return self


class MaskedReconstruction(nn.Module):
    """A U-Net that reconstructs hidden patches."""

    def __init__(self, settings: MaeSettings) -> None:
        super().__init__()
        self._mask = settings.mask
        encoder = image_encoder(settings.image)
        self.channels, self.strides = pyramid_levels(encoder)
        self.unet: Any = make_unet(encoder, settings.image, settings.decoder, 1)
        self.token = nn.Parameter(torch.zeros(3))

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the encoder's maps from stride 2 on."""
        return non_empty_levels(self.unet.encoder(images))

    def forward(self, images: Tensor, hidden: Tensor) -> tuple[list[Tensor], Tensor]:
        """(B, 3, S, S), (B, P) -> pyramid of the masked images, and error on hidden patches."""
        pyramid = self.pyramid(self.hide(images, hidden))
        head = self.unet.segmentation_head
        predicted = decode(self.unet.decoder, head, pyramid, self.strides)
        grey = images.mean(1, keepdim=True)
        return pyramid, masked_error(predicted, grey, hidden, self._mask)

    def sample_hidden(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, 3, S, S) -> (B, P), True for patches to hide: equally many in every image."""
        count = (images.shape[-1] // self._mask.patch) ** 2
        noise = torch.rand(len(images), count, generator=generator, device=images.device)
        return noise.argsort(1).argsort(1) >= int(count * (1 - self._mask.share))

    def hide(self, images: Tensor, hidden: Tensor) -> Tensor:
        """(B, 3, S, S), (B, P) -> the images with hidden patches replaced by the learned value."""
        grid = images.shape[-1] // self._mask.patch
        plane = hidden.view(-1, 1, grid, grid)
        pixels = plane.repeat_interleave(self._mask.patch, 2).repeat_interleave(self._mask.patch, 3)
        return torch.where(pixels, self.token.to(images.dtype).view(1, 3, 1, 1), images)

    def monitors(self, images: Tensor) -> dict[str, float]:
        """`masked_error` on fixed patches; predicting the mean of each patch gives 1."""
        generator = torch.Generator(images.device).manual_seed(_MONITOR_SEED)
        _, error = self(images, self.sample_hidden(images, generator))
        return {"masked_error": float(error)}


class Mae(ImageEncoderMethod):
    """Masked reconstruction without reports."""

    def __init__(self, settings: MaeSettings, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(settings, tokenizer)
        self.painter = MaskedReconstruction(settings)
        self.channels, self.strides = self.painter.channels, self.painter.strides

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """`reconstruction`."""
        _, error = self.painter(batch.images, self.painter.sample_hidden(batch.images))
        return {"reconstruction": error}

    @torch.no_grad()
    def monitors(self, batch: Batch) -> dict[str, float]:
        """See `MaskedReconstruction.monitors`."""
        return self.painter.monitors(batch.images)

    def as_model(self) -> "MaeModel":
        """The model to evaluate, sharing weights and mode."""
        return MaeModel(self)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the encoder's maps from stride 2 on."""
        return self.painter.pyramid(images)


class MaeWithReports(TwoTowers):
    """Masked reconstruction, and contrastive learning of the masked image and its report."""

    def __init__(self, settings: MaeSettings, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(settings, TextTower(settings, len(tokenizer)), tokenizer)
        self.contrastive = Contrastive(settings.contrastive)
        self._weight = settings.contrastive.weight
        self.painter = MaskedReconstruction(settings)
        self.channels, self.strides = self.painter.channels, self.painter.strides
        self.projector = Projector(settings.projector, self.channels[-1], settings.width)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """`reconstruction` and `contrastive`."""
        check_pairs(batch)
        pyramid, error = self.painter(batch.images, self.painter.sample_hidden(batch.images))
        text = self.text(batch.tokens, batch.attention)
        contrast = self.contrastive(self.embed_pyramid(pyramid), text)
        return {"reconstruction": error, "contrastive": self._weight * contrast}

    @torch.no_grad()
    def monitors(self, batch: Batch) -> dict[str, float]:
        """See `MaskedReconstruction.monitors`."""
        return self.painter.monitors(batch.images)

    def as_model(self) -> "MaeWithReportsModel":
        """The model to evaluate, sharing weights and mode."""
        return MaeWithReportsModel(self)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the encoder's maps from stride 2 on."""
        return self.painter.pyramid(images)

    def embed_pyramid(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> (B, D): projected mean of the last map."""
        embedded: Tensor = self.projector(pyramid[-1].mean((2, 3)))
        return embedded

    def dense(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> (B, D, h, w): the same projection for every pixel."""
        return project_pixels(self.projector, pyramid[-1])


class MaeModel(PretrainedImageModel):
    """The image encoder and decoder of `Mae`."""

    towers: Mae

    def pretrained_decoder(self) -> nn.Module:
        """A fresh copy of the decoder: `features` pyramid -> (B, 1, S, S)."""
        return Decoder(self.towers.painter.unet, self.towers.strides)


class MaeWithReportsModel(PretrainedImageTextModel):
    """The encoders and the decoder of `MaeWithReports`."""

    towers: MaeWithReports

    def pretrained_decoder(self) -> nn.Module:
        """A fresh copy of the decoder: `features` pyramid -> (B, 1, S, S)."""
        return Decoder(self.towers.painter.unet, self.towers.strides)


def masked_error(predicted: Tensor, grey: Tensor, hidden: Tensor, mask: MaskSettings) -> Tensor:
    """(B, 1, S, S) twice, (B, P) -> scalar: mean squared error over the hidden patches, fp32.

    Variance as in the source: unbiased, plus 1e-6.
    """
    with torch.autocast(predicted.device.type, enabled=False):
        found, target = (_patches(x.float(), mask.patch) for x in (predicted, grey))
        if mask.target == "patch":
            variance = target.var(-1, keepdim=True)
            target = (target - target.mean(-1, keepdim=True)) / (variance + 1e-6).sqrt()
        return (found - target).square().mean(-1)[hidden].mean()


def _patches(images: Tensor, patch: int) -> Tensor:
    """(B, 1, S, S) -> (B, P, p p), row by row."""
    return F.unfold(images, patch, stride=patch).transpose(1, 2)


def build(
    config: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast, seed: int
) -> Mae | MaeWithReports:
    """The method from a recipe's `[model]` table, with weights initialized from the seed."""
    settings = read_settings(MaeSettings, config)
    kind = MaeWithReports if settings.contrastive.weight else Mae
    return seeded(lambda: kind(settings, tokenizer), torch.Generator().manual_seed(seed))
