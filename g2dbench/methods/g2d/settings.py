"""G2D's part of a recipe's `[model]` table. Defaults follow the paper where it says something."""

from typing import Literal

from pydantic import Field, model_validator

from g2dbench.methods.settings import Settings, TowerSettings


class AttentionSettings(Settings):
    """`[model.attention]`: the pooling with one aggregating query, whose weights become the mask.

    heads: the paper's best is 3, the code has 4. head_dim: 0 is width // heads.
    stride: 32 attends over the last map; 16 over the stride-16 map joined with the up-sampled last
    one, for four times the pixels. query: a learned token (paper), or the mean of the pixels
    (code). keys: what the query attends to; "pixels+query" includes itself (code).
    positions: "learned" (code) binds the method to one image size.
    logits: "dot" is q.k / sqrt(head_dim), "cosine" the cosine of q and k; times `scale`.
    dense: what stands for a pixel in the shared space when a prompt is located: its projection
    (paper), or its own term of the pooled embedding ("value"), which the loss really aligns.
    """

    heads: int = Field(default=3, ge=1)
    head_dim: int = Field(default=0, ge=0)
    stride: Literal[16, 32] = 32
    query: Literal["token", "mean"] = "token"
    keys: Literal["pixels", "pixels+query"] = "pixels"
    positions: Literal["none", "learned"] = "none"
    logits: Literal["dot", "cosine"] = "dot"
    scale: float = Field(default=1.0, gt=0)
    dense: Literal["value", "projected"] = "value"


class MaskSettings(Settings):
    """`[model.mask]`: the five steps from attention to pseudo mask; each can be left out.

    heads: their mean, or one mask and one decoder channel each. body: "otsu" is the pixels
    brighter than Otsu's threshold, "outline" fills each row between its first and last such pixel:
    on 117 radiographs with lung masks the former holds 44 to 51 % of the lungs, the latter 95 %.
    sigma_space and radius in pixels of the input (radius 0 is 1.5 sigma, as in
    OpenCV); sigma_range is the bilateral filter's width in mask values 0 to 1.
    pairing: "shuffled" gives each image the mask of its neighbour in the batch (paper, table 8).
    """

    heads: Literal["mean", "separate"] = "mean"
    upsampling: Literal["bilinear", "nearest"] = "bilinear"
    body: Literal["otsu", "outline", "none"] = "outline"
    threshold: Literal["percentile", "mixture"] = "percentile"
    percentile: float = Field(default=85.0, ge=0, le=100)
    smoothing: Literal["bilateral", "none"] = "bilateral"
    sigma_space: float = Field(default=4.0, gt=0)
    sigma_range: float = Field(default=1.0, gt=0)
    radius: int = Field(default=0, ge=0)
    pairing: Literal["own", "shuffled"] = "own"

    def window(self) -> int:
        """Radius in pixels of the bilateral filter."""
        return self.radius or max(1, round(1.5 * self.sigma_space))


class PixelSettings(Settings):
    """`[model.pixel]`: the alignment of the decoder's output with the mask.

    start: optimiser steps before it is added, 0 for at once. values: soft Dice on probabilities
    (paper), or on raw logits (code). dice, bce: weights of the two terms.
    """

    start: int = Field(default=0, ge=0)
    values: Literal["probabilities", "logits"] = "probabilities"
    dice: float = Field(default=0.5, ge=0)
    bce: float = Field(default=0.5, ge=0)
    smooth: float = Field(default=1e-5, gt=0)


class G2DSettings(TowerSettings):
    """The whole `[model]` table of G2D."""

    attention: AttentionSettings = AttentionSettings()
    mask: MaskSettings = MaskSettings()
    pixel: PixelSettings = PixelSettings()

    @model_validator(mode="after")
    def _fits(self) -> "G2DSettings":
        if not self.attention.head_dim and self.width < self.attention.heads:
            raise ValueError(f"attention.heads {self.attention.heads} exceeds width {self.width}")
        if self.mask.smoothing == "bilateral" and self.mask.window() >= self.image.size:
            raise ValueError(
                f"the bilateral filter's radius {self.mask.window()} is not below image.size "
                f"{self.image.size}: lower mask.sigma_space or mask.radius"
            )
        return self
