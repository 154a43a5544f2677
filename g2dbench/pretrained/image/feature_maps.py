"""Feature maps of any encoder, converted to the format that heads and tasks use.

Shapes: B images, S input side, N patches, D width, T texts, h w grid (N = h * w).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

StageMaps = Callable[[Tensor], list[Tensor]]
"""(B, 3, S, S) -> the feature map of each stage (B, D_i, h_i, w_i), fine to coarse."""


def to_grid(patches: Tensor) -> Tensor:
    """(B, N, D) patches of a square input, row by row -> (B, D, h, w)."""
    side = math.isqrt(patches.shape[1])
    assert side * side == patches.shape[1], (
        "the number of patches of a square input is a square number"
    )
    grid: Tensor = patches.transpose(1, 2).unflatten(2, (side, side))
    return grid


def nearest_stride(side: int, cells: int) -> int:
    """The power of two nearest to side / cells: 16 for a ViT with patches of 14 pixels."""
    return int(2 ** round(math.log2(side / cells)))


def resample_to_stride(grid: Tensor, side: int, stride: int) -> Tensor:
    """(B, D, h, w) -> (B, D, S / stride, S / stride), rounded up, by bilinear interpolation."""
    cells = math.ceil(side / stride)
    if grid.shape[-1] == cells:
        return grid
    return F.interpolate(grid, size=(cells, cells), mode="bilinear", align_corners=False)


def cosine_similarity(grid: Tensor, texts: Tensor) -> Tensor:
    """(B, D, h, w) features, (T, D) texts of length 1 -> (B, T, h, w) cosine similarities."""
    return torch.einsum("bdhw,td->bthw", F.normalize(grid, dim=1), texts)


@dataclass(frozen=True)
class PyramidLevels:
    """The stages of an encoder that form its feature pyramid: the last one of each stride above 1.

    indices: positions in the list of stages. channels and strides: as in the protocol `Features`.
    """

    indices: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def is_single(self) -> bool:
        """Whether all stages have the same grid, as the blocks of a ViT do."""
        return len(self.indices) == 1

    def pyramid(self, maps: Sequence[Tensor], side: int) -> list[Tensor]:
        """The maps of `indices`, in order -> the feature pyramid of an input of this side."""
        return [
            resample_to_stride(part, side, by) for part, by in zip(maps, self.strides, strict=True)
        ]


@torch.no_grad()
def find_levels(maps: StageMaps, side: int) -> PyramidLevels:
    """Find the pyramid's levels by running the encoder once on a zero input of its own size."""
    shapes = [tuple(part.shape) for part in maps(torch.zeros(1, 3, side, side))]
    last = {nearest_stride(side, shape[-1]): index for index, shape in enumerate(shapes)}
    levels = sorted((stride, index) for stride, index in last.items() if stride > 1)
    return PyramidLevels(
        indices=tuple(index for _, index in levels),
        channels=tuple(int(shapes[index][1]) for _, index in levels),
        strides=tuple(stride for stride, _ in levels),
    )
