"""Image encoders that give one vector and a grid of patch tokens, such as ViTs.

Shapes: B batch, S input side, N patches, C width, D' width of the pooled vector.
"""

import torch
from torch import Tensor

from g2dbench.model import Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.image.feature_maps import nearest_stride, resample_to_stride, to_grid


class PatchEncoder(Model):
    """The protocol `Features` for an encoder of one input size whose `tokens` a wrapper defines."""

    fixed_size = True

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self.preprocess = preprocess

    def tokens(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> pooled vector (B, D') and patches (B, N, C), row by row."""
        raise NotImplementedError

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> one feature map of the patches."""
        grid = to_grid(self.tokens(images)[1])
        return [resample_to_stride(grid, images.shape[-1], self.strides[0])]

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D')."""
        return self.tokens(images)[0]

    @torch.no_grad()
    def measure(self) -> None:
        """Set `channels` and `strides` from one run on a zero image of the own size."""
        side = self.preprocess.size
        patches = self.tokens(torch.zeros(1, 3, side, side))[1]
        self.channels = (int(patches.shape[-1]),)
        self.strides = (nearest_stride(side, int(patches.shape[1] ** 0.5)),)
