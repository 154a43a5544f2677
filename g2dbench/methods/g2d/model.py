"""G2D: aligns images with reports, and trains a decoder on masks from its own attention.

Shapes: B pairs, S image side, C channels, h w grid of the attention, D width of the shared space,
H heads, K masks of an image.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from g2dbench.method import Batch, whole_batch_losses
from g2dbench.methods.g2d import monitors
from g2dbench.methods.g2d.attention import AttentionPool
from g2dbench.methods.g2d.losses import pixel_alignment, reconstruction
from g2dbench.methods.g2d.pseudo_mask import PseudoMask
from g2dbench.methods.g2d.settings import G2DSettings
from g2dbench.methods.g2d.warnings import WARNING_RULES
from g2dbench.methods.shared.attention_entropy import relative_entropy
from g2dbench.methods.shared.contrastive import Contrastive
from g2dbench.methods.shared.encoders import image_encoder
from g2dbench.methods.shared.pretrained_model import PretrainedImageTextModel, along_prompts
from g2dbench.methods.shared.two_towers import (
    Projector,
    TextTower,
    TwoTowers,
    check_pairs,
    non_empty_levels,
    project_pixels,
    pyramid_levels,
)
from g2dbench.methods.shared.unet import Decoder, decode, make_unet


class G2D(TwoTowers):
    """Vision-language alignment plus pixel alignment with pseudo masks (arXiv 2312.01522).

    `unet` is smp's Unet, so that its state_dict has the names of the authors' released files.
    """

    warning_rules = WARNING_RULES

    def __init__(self, settings: G2DSettings, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(settings, TextTower(settings, len(tokenizer)), tokenizer)
        self.contrastive = Contrastive(settings.contrastive)
        self._settings = settings
        encoder = image_encoder(settings.image)
        self.unet: Any = make_g2d_unet(encoder, settings)
        self.channels, self.strides = pyramid_levels(encoder)
        width, attention = settings.width, settings.attention
        self._finest_level = self.strides.index(attention.stride)
        self.projector = Projector(
            settings.projector, sum(self.channels[self._finest_level :]), width
        )
        self.pool = AttentionPool(attention, width, settings.image.size // attention.stride)
        self.pseudo_mask = PseudoMask(settings.mask, self.preprocess)
        if settings.mask.pairing == "shuffled":
            self.why_whole = (
                "model.mask.pairing is shuffled, across the batch: set micro_batch to 0"
            )
        elif settings.mask.threshold == "batch":
            self.why_whole = "model.mask.threshold is that of a batch: set micro_batch to 0"

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """`vla`, and from step `pixel.start` on `pa`, before which the decoder gets no gradient."""
        check_pairs(batch)
        return whole_batch_losses(self, batch)

    def embed(self, batch: Batch) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Image and report in the shared space, (B, D) each, and `pa`."""
        on_host = self.text.encoder.read(batch.tokens, batch.attention)
        pyramid = self.pyramid(batch.images)
        pixels = self.projected(pyramid)
        pooled, attention = self.pool(pixels)
        report = self.text(batch.tokens, batch.attention, on_host)
        pixel = self._settings.pixel
        if pixel.target == "none" or batch.step < pixel.start:
            return (pooled, report), {}
        if pixel.target == "image":
            grey = self.pseudo_mask.grey(batch.images)[:, None]
            pixel_loss = reconstruction(self.decode(pyramid), grey, pixel)
        else:
            mask = self.pseudo_mask(self._mask_source(pixels, attention, report), batch.images)
            pixel_loss = pixel_alignment(self.decode(pyramid), mask, pixel)
        return (pooled, report), {"pa": pixel_loss}

    def compare(self, *representations: Tensor) -> dict[str, Tensor]:
        """The contrastive loss of images and reports, (B, D) each."""
        return {"vla": self.contrastive(*representations)}

    @torch.no_grad()
    def monitors(self, batch: Batch) -> dict[str, float]:
        """The values of `g2d.monitors`; those of masks only if the decoder is trained on them."""
        pyramid = self.pyramid(batch.images)
        pixels = self.projected(pyramid)
        attention = self.pool(pixels)[1]
        scores = self._mask_source(pixels, attention, self.text(batch.tokens, batch.attention))
        found = {"attention_entropy": relative_entropy(scores)}
        if self._settings.pixel.target == "mask":
            mask = self.pseudo_mask(scores, batch.images)
            found |= monitors.mask_monitors(mask, self.decode(pyramid).float().sigmoid())
        return found

    @torch.no_grad()
    def panels(self, images: Tensor, report: Tensor | None) -> dict[str, Tensor]:
        """See `G2DModel.panels`; report: (B, D), one embedding per image."""
        pyramid = self.pyramid(images)
        pixels = self.projected(pyramid)
        attention = self.pool(pixels)[1]
        found = {"attention / peak": _of_peak(attention)}
        if self._settings.mask.source == "query":
            found |= self.pseudo_mask.steps(attention, images)
        elif report is not None:
            scores = self._mask_source(pixels, attention, report)
            found[f"{self._settings.mask.source} / peak"] = _of_peak(scores)
            found |= self.pseudo_mask.steps(scores, images)
        if self._settings.pixel.target != "none":
            found["decoder"] = self.decode(pyramid).float().sigmoid().mean(1)
        return found

    def as_model(self) -> "G2DModel":
        """The model to evaluate, sharing weights and mode; without target the decoder is random."""
        return G2DModel(self)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the encoder's maps from stride 2 on."""
        return non_empty_levels(self.unet.encoder(images))

    def embed_pyramid(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> (B, D): attention pooling over the projected pixels."""
        embedded: Tensor = self.pool(self.projected(pyramid))[0]
        return embedded

    def attend(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> (B, H, h, w): the query's attention to each pixel."""
        attention: Tensor = self.pool(self.projected(pyramid))[1]
        return attention

    def dense(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> (B, D, h, w): embeddings of pixels, by the setting `attention.dense`."""
        return self._dense(self.projected(pyramid))

    @property
    def locates_shares(self) -> bool:
        """Whether a located prompt reads shares instead of cosines: `attention.located`."""
        return self._settings.attention.located == "share"

    def shares(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> (B, D, h, w), whose sum over the pixels is the normalized embedding."""
        shares: Tensor = self.pool.shares(self.projected(pyramid))
        length = shares.sum((2, 3), keepdim=True).norm(dim=1, keepdim=True)
        normalized: Tensor = shares / length.clamp(min=1e-12)
        return normalized

    def decode(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> (B, K, S, S) logits."""
        return decode(self.unet.decoder, self.unet.segmentation_head, pyramid, self.strides)

    def projected(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> (B, D, h, w): the projected pixels, input of the attention pooling."""
        fine, *coarser = pyramid[self._finest_level :]
        size = fine.shape[2:]
        wide = [F.interpolate(level, size=size, mode="bilinear") for level in coarser]
        return project_pixels(self.projector, torch.cat([fine, *wide], 1))

    def _dense(self, pixels: Tensor) -> Tensor:
        projected = self._settings.attention.dense == "projected"
        return pixels if projected else self.pool.dense(pixels)

    @torch.no_grad()
    def _mask_source(self, pixels: Tensor, attention: Tensor, report: Tensor) -> Tensor:
        """Maps for the pseudo masks, (B, H, h, w), from what `mask.source` names."""
        if self._settings.mask.source == "query":
            return attention
        if self._settings.mask.source == "gradient":
            return self.relevance(pixels, report)
        dense = F.normalize(self._dense(pixels).float(), dim=1)
        cosines = torch.einsum("bdhw,bd->bhw", dense, F.normalize(report.float(), dim=-1))
        scores = (cosines * self.contrastive.scale()).flatten(1).softmax(-1)
        return scores.view_as(cosines)[:, None]

    def relevance(self, pixels: Tensor, report: Tensor) -> Tensor:
        """Projected pixels (B, D, h, w), reports (B, D) -> (B, 1, h, w), at least 0.

        The gradient of the cosine of pooled image and report, times the pixel, summed over D.
        """
        with torch.enable_grad(), torch.autocast(pixels.device.type, enabled=False):
            leaf = pixels.detach().float().requires_grad_()
            pooled = self.pool(leaf)[0]
            similarity = F.cosine_similarity(pooled, report.detach().float()).sum()
            (gradient,) = torch.autograd.grad(similarity, leaf)
        found: Tensor = (gradient * leaf.detach()).sum(1, keepdim=True).clamp(min=0)
        return found


class G2DModel(PretrainedImageTextModel):
    """A trained G2D, with its decoder."""

    towers: G2D

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T, h, w), fp32: cosines, or shares of the image's cosine.

        The setting `attention.located` chooses.
        """
        if not self.towers.locates_shares:
            return super().locate(images, texts)
        shares = self.towers.shares(self.towers.pyramid(images))
        return along_prompts(shares, self.embed_prompts(texts))

    def panels(self, images: Tensor, reports: Sequence[str] | None) -> dict[str, Tensor]:
        """Attention over its peak, the steps to the pseudo mask, and the decoder's output.

        Masks from the report are left out without reports, and the decoder's output if the decoder
        was not trained.
        """
        return self.towers.panels(images, None if reports is None else self.embed_texts(reports))

    def pretrained_decoder(self) -> nn.Module:
        """A fresh copy of the decoder: `features` pyramid -> (B, 1, S, S) logits."""
        return Decoder(self.towers.unet, self.towers.strides)


def _of_peak(attention: Tensor) -> Tensor:
    """(B, H, h, w) -> (B, h, w): the mean of the heads, divided by its maximum."""
    mean = attention.float().mean(1)
    return mean / mean.amax((1, 2), keepdim=True)


def make_g2d_unet(encoder: nn.Module, settings: G2DSettings) -> Any:
    """smp's Unet around the given encoder."""
    masks = settings.attention.heads if settings.mask.heads == "separate" else 1
    return make_unet(encoder, settings.image, settings.decoder, masks)
