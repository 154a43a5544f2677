"""The `[model]` table of G2D; defaults follow the paper where it states a value."""

from typing import Literal

from pydantic import Field, model_validator

from g2dbench.methods.shared.settings import DecoderSettings, Settings, TowerSettings, check_stride


class AttentionSettings(Settings):
    """`[model.attention]`: attention pooling with one query, whose weights become the mask.

    heads: 3 is best in the paper, the code uses 4. head_dim: 0 is width // heads.
    stride: 32 attends to the last map; 16 or 8 to the map of that stride concatenated with the
    upsampled coarser ones, with four or sixteen times as many pixels.
    query: a learned token (paper), or the mean of the pixels (code). keys: what the query attends
    to; "pixels+query" includes the query itself (code).
    positions: "learned" (code) fixes the image size.
    output: one linear layer after the heads, or two in a row ("double", code; CLIP's attention pool
    uses only one), where all layers are initialized as in torch's MultiheadAttention.
    logits: "dot" is q.k / sqrt(head_dim), "cosine" the cosine of q and k; both times `scale`.
    dense: the embedding of a pixel when a prompt is located: its projection (paper), or its term of
    the pooled embedding ("value"), which the contrastive loss aligns.
    located: what a pixel gets for a prompt: the cosine of its embedding and the prompt (paper), or
    its "share" of the cosine of image and prompt, attention included: the shares sum to that
    cosine (docs/decisions/013-what-a-located-prompt-reads.md).
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
    located: Literal["cosine", "share"] = "cosine"


class MaskSettings(Settings):
    """`[model.mask]`: the five steps from attention to pseudo mask.

    source: "query" is the attention of the aggregating query (paper); "report" the softmax over
    pixels of the cosine between a pixel and the image's report, at the contrastive temperature;
    "gradient" how much a pixel adds to the similarity of image and report, as the positive part of
    its gradient times the pixel (Grad-CAM's idea, without classes).
    threshold: a percentile of each image's map; "batch" takes the percentile over all maps of the
    batch, so that images without a peak have small or empty masks; "mixture" fits two Gaussians.
    heads: their mean, or one mask and one decoder channel each. body: "otsu" is the pixels brighter
    than Otsu's threshold, "outline" fills each row between its first and last such pixel; on 117
    radiographs with lung masks, "otsu" covers 44 to 51 % of the lungs and "outline" 95 %.
    smoothing: the paper's bilateral filter of the binary mask, or a guided filter, which aligns the
    mask with edges of the image. sigma_space, radius: in pixels of the input (radius 0 is 1.5
    sigma, as in OpenCV). sigma_range: of the bilateral filter, for mask values 0 to 1. guide_eps:
    variance of grey values 0 to 1 below which the guided filter sees no edge.
    pairing: "shuffled" gives each image the mask of the previous one in the batch (paper, table 8).
    """

    source: Literal["query", "report", "gradient"] = "query"
    heads: Literal["mean", "separate"] = "mean"
    upsampling: Literal["bilinear", "nearest"] = "bilinear"
    body: Literal["otsu", "outline", "none"] = "outline"
    threshold: Literal["percentile", "batch", "mixture"] = "percentile"
    percentile: float = Field(default=85.0, ge=0, le=100)
    smoothing: Literal["bilateral", "guided", "none"] = "bilateral"
    sigma_space: float = Field(default=4.0, gt=0)
    sigma_range: float = Field(default=1.0, gt=0)
    guide_eps: float = Field(default=1e-3, gt=0)
    radius: int = Field(default=0, ge=0)
    pairing: Literal["own", "shuffled"] = "own"

    def window(self) -> int:
        """Radius of the smoothing filter in pixels."""
        return self.radius or max(1, round(1.5 * self.sigma_space))


class PixelSettings(Settings):
    """`[model.pixel]`: the loss of the decoder.

    target: the pseudo mask; the grey values of the image, for reconstruction (paper, table 5a); or
    "none", which does not train the decoder. start: optimizer steps before this loss is added.
    values: soft Dice of probabilities (paper), or of raw logits (code). dice, bce: weights of the
    two terms for a mask; mse: weight of the mean squared error for the image.
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
                f"the radius {self.mask.window()} of the smoothing filter must be below image.size "
                f"{self.image.size}: lower mask.sigma_space or mask.radius"
            )
        if self.mask.source != "query" and self.mask.heads == "separate":
            raise ValueError(
                f"mask.source = {self.mask.source} gives one map: mask.heads = separate needs "
                "source = query"
            )
        if self.pixel.target == "image" and self.mask.heads == "separate":
            raise ValueError("an image is one target: mask.heads = separate needs target = mask")
        return self
