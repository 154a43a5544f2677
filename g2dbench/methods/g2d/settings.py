"""G2D's part of a recipe's `[model]` table. Defaults follow the paper where it says something."""

from typing import Literal

from pydantic import Field, model_validator

from g2dbench.methods.shared.settings import DecoderSettings, Settings, TowerSettings, check_stride


class AttentionSettings(Settings):
    """`[model.attention]`: the pooling with one aggregating query, whose weights become the mask.

    heads: the paper's best is 3, the code has 4. head_dim: 0 is width // heads.
    stride: 32 attends over the last map; 16 or 8 over the map of that stride joined with the
    up-sampled coarser ones, for four or sixteen times the pixels.
    query: a learned token (paper), or the mean of the pixels (code). keys: what the query attends
    to; "pixels+query" includes itself (code).
    positions: "learned" (code) binds the method to one image size.
    output: one linear layer after the heads, or two with nothing between (code: CLIP's pool, in
    whose forward pass they are one), which also start as torch's MultiheadAttention does.
    logits: "dot" is q.k / sqrt(head_dim), "cosine" the cosine of q and k; times `scale`.
    dense: what stands for a pixel in the shared space when a prompt is located: its projection
    (paper), or its own term of the pooled embedding ("value"), which the loss really aligns.
    """

    heads: int = Field(default=3, ge=1)
    head_dim: int = Field(default=0, ge=0)
    stride: Literal[8, 16, 32] = 32
    query: Literal["token", "mean"] = "token"
    keys: Literal["pixels", "pixels+query"] = "pixels"
    positions: Literal["none", "learned"] = "none"
    output: Literal["single", "double"] = "single"
    logits: Literal["dot", "cosine"] = "dot"
    scale: float = Field(default=1.0, gt=0)
    dense: Literal["value", "projected"] = "value"


class MaskSettings(Settings):
    """`[model.mask]`: the five steps from attention to pseudo mask; each can be left out.

    source: "query" is the attention of the aggregating query (paper); "report" the softmax over
    pixels of each pixel's cosine with the image's own report, at the contrastive temperature.
    heads: their mean, or one mask and one decoder channel each. body: "otsu" is the pixels
    brighter than Otsu's threshold, "outline" fills each row between its first and last such pixel:
    on 117 radiographs with lung masks the former holds 44 to 51 % of the lungs, the latter 95 %.
    smoothing: the paper's bilateral filter of the binary mask, or a guided filter, which gives the
    mask the edges of the image. sigma_space and radius in pixels of the input (radius 0 is 1.5
    sigma, as in OpenCV); sigma_range is the bilateral filter's width in mask values 0 to 1,
    guide_eps the variance of grey values 0 to 1 below which the guided filter sees no edge.
    pairing: "shuffled" gives each image the mask of its neighbour in the batch (paper, table 8).
    """

    source: Literal["query", "report"] = "query"
    heads: Literal["mean", "separate"] = "mean"
    upsampling: Literal["bilinear", "nearest"] = "bilinear"
    body: Literal["otsu", "outline", "none"] = "outline"
    threshold: Literal["percentile", "mixture"] = "percentile"
    percentile: float = Field(default=85.0, ge=0, le=100)
    smoothing: Literal["bilateral", "guided", "none"] = "bilateral"
    sigma_space: float = Field(default=4.0, gt=0)
    sigma_range: float = Field(default=1.0, gt=0)
    guide_eps: float = Field(default=1e-3, gt=0)
    radius: int = Field(default=0, ge=0)
    pairing: Literal["own", "shuffled"] = "own"

    def window(self) -> int:
        """Radius in pixels of the smoothing filter."""
        return self.radius or max(1, round(1.5 * self.sigma_space))


class PixelSettings(Settings):
    """`[model.pixel]`: the alignment of the decoder's output with its target.

    target: the pseudo mask; the image's grey values, which makes the decoder reconstruct (paper,
    table 5a); or "none", vision-language alignment alone, which leaves the decoder as it began.
    start: optimiser steps before it is added, 0 for at once. values: soft Dice on probabilities
    (paper), or on raw logits (code). dice, bce: weights of the two terms for a mask; mse that of
    the mean squared error for the image.
    """

    target: Literal["mask", "image", "none"] = "mask"
    start: int = Field(default=0, ge=0)
    values: Literal["probabilities", "logits"] = "probabilities"
    dice: float = Field(default=0.5, ge=0)
    bce: float = Field(default=0.5, ge=0)
    mse: float = Field(default=1.0, ge=0)
    smooth: float = Field(default=1e-5, gt=0)


class G2DSettings(TowerSettings):
    """The whole `[model]` table of G2D."""

    attention: AttentionSettings = AttentionSettings()
    mask: MaskSettings = MaskSettings()
    decoder: DecoderSettings = DecoderSettings()
    pixel: PixelSettings = PixelSettings()

    @model_validator(mode="after")
    def _fits(self) -> "G2DSettings":
        check_stride("attention.stride", self.attention.stride, self.image)
        self.decoder.check(self.image)
        if not self.attention.head_dim and self.width < self.attention.heads:
            raise ValueError(f"attention.heads {self.attention.heads} exceeds width {self.width}")
        if self.mask.smoothing != "none" and self.mask.window() >= self.image.size:
            raise ValueError(
                f"the smoothing filter's radius {self.mask.window()} is not below image.size "
                f"{self.image.size}: lower mask.sigma_space or mask.radius"
            )
        if self.mask.source == "report" and self.mask.heads == "separate":
            raise ValueError("a report gives one map: mask.heads = separate needs source = query")
        if self.pixel.target == "image" and self.mask.heads == "separate":
            raise ValueError("an image is one target: mask.heads = separate needs target = mask")
        return self
