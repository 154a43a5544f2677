"""Decoders for segmentation: SETR's for a ViT, a linear layer alone, and the choice of one.

Legend: B images, S input side, K outputs, C channels, h w grid.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from g2dbench.errors import BadCheckpoint
from g2dbench.evaluation.heads.unet import UnetHead, adapt_decoder, resize_to
from g2dbench.model import Decodes, Features, Model
from g2dbench.system.seeded_init import seeded

Start: TypeAlias = Literal["pretrained", "fresh"]
"""pretrained: from the model's own decoder if it has one. fresh: from a new one."""

NewDecoder: TypeAlias = Literal["auto", "unet", "setr", "linear"]
"""auto: SETR's for an encoder with a single map, a U-Net for a pyramid."""

SETR_WIDTHS = (512, 256, 128, 64)
"""Channels of SETR's blocks; each doubles the side of the grid."""


class SetrHead(nn.Module):
    """The coarsest map of a pyramid -> (B, K, S, S) logits, by convolutions and up-sampling.

    A linear layer, then one block per factor of 2 up to the input's side: 3x3 convolution, batch
    norm, ReLU, bilinear up-sampling. A stride-16 map gets MGCA's four blocks of 512, 256, 128 and
    64 channels; a finer map gets the last ones, a coarser map more blocks of 64.
    Source: MGCA mgca/models/backbones/transformer_seg.py (SETRModel).
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], outputs: int, size: int
    ) -> None:
        super().__init__()
        self.size = size
        blocks = max(1, round(math.log2(strides[-1])))
        spare = [SETR_WIDTHS[-1]] * max(0, blocks - len(SETR_WIDTHS))
        self.widths = (*SETR_WIDTHS[-blocks:], *spare)
        self.project = nn.Conv2d(channels[-1], channels[-1], 1)
        steps = zip((channels[-1], *self.widths[:-1]), self.widths, strict=True)
        self.blocks = nn.Sequential(*(_block(before, after) for before, after in steps))
        self.out = nn.Conv2d(self.widths[-1], outputs, 3, padding=1)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """The pyramid of the model's `features` -> (B, K, S, S) logits."""
        logits: Tensor = self.out(self.blocks(self.project(pyramid[-1])))
        return resize_to(logits, self.size)


def _block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
    )


class DenseProbe(nn.Module):
    """One linear layer on the features of each pixel: pyramid -> (B, K, S, S) logits.

    A pixel's features are those of all levels, up-sampled bilinearly to the input's side and
    concatenated. A linear layer of them equals the sum of one linear layer per level, up-sampled
    afterwards, which is what is computed. Features are standardized per channel by batch norm
    without weights, which is linear in evaluation, so that the learning rate fits every encoder.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], outputs: int, size: int
    ) -> None:
        super().__init__()
        self.size = size
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, affine=False) for width in channels)
        self.layers = nn.ModuleList(
            nn.Conv2d(width, outputs, 1, bias=level == 0) for level, width in enumerate(channels)
        )
        for layer in self.layers:  # starts undecided, whatever the number of channels
            for weight in layer.parameters():
                nn.init.zeros_(weight)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """The pyramid of the model's `features` -> (B, K, S, S) logits."""
        parts = zip(pyramid, self.norms, self.layers, strict=True)
        logits = [resize_to(layer(norm(level)), self.size) for level, norm, layer in parts]
        return torch.stack(logits).sum(0)


def choose_decoder(model: Model, start: Start, new: NewDecoder) -> str:
    """The decoder's name: "pretrained", or the architecture of a new one."""
    assert isinstance(model, Features)
    if start == "pretrained" and isinstance(model, Decodes):
        return "pretrained"
    if new == "auto":
        return "setr" if len(model.channels) == 1 else "unet"
    return new


_NEW_DECODERS: Mapping[str, Callable[..., nn.Module]] = {
    "unet": UnetHead,
    "setr": SetrHead,
    "linear": DenseProbe,
}


def make_decoder(model: Model, decoder: str, outputs: int, generator: torch.Generator) -> nn.Module:
    """The decoder at its start, pyramid -> (B, K, S, S) logits."""
    assert isinstance(model, Features)
    channels, strides, size = model.channels, model.strides, model.preprocess.size
    if decoder != "pretrained":
        new = _NEW_DECODERS[decoder]
        return seeded(lambda: new(channels, strides, outputs, size), generator)
    if not isinstance(model, Decodes):
        raise BadCheckpoint(
            f"the fitted decoder started from the model's own, which {model.identity.label} lacks: "
            "use the model that it was fitted on"
        )
    levels = zip(channels, strides, strict=True)
    example = [torch.zeros(1, width, size // step, size // step) for width, step in levels]
    return adapt_decoder(model.pretrained_decoder().cpu(), outputs, example, generator)
