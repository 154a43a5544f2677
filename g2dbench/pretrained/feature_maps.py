"""Feature maps of encoders of any family, brought to the one form that heads and tasks read.

Shapes: B images, S input side, N patches, D width, T texts, h w grid (N = h * w).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Maps = Callable[[Tensor], list[Tensor]]
"""(B, 3, S, S) -> every stage's map (B, D_i, h_i, w_i), fine to coarse."""


def to_grid(patches: Tensor) -> Tensor:
    """(B, N, D) patches of a square input, row by row -> (B, D, h, w)."""
    side = math.isqrt(patches.shape[1])
    assert side * side == patches.shape[1], "patches of a square input form a square"
    grid: Tensor = patches.transpose(1, 2).unflatten(2, (side, side))
    return grid


def stride_of(side: int, cells: int) -> int:
    """The power of two nearest to side / cells: 16 for the patches of 14 pixels of a ViT/14."""
    return int(2 ** round(math.log2(side / cells)))


def at_stride(grid: Tensor, side: int, stride: int) -> Tensor:
    """(B, D, h, w) -> (B, D, S / stride, S / stride), rounded up; resampled where it differs."""
    cells = math.ceil(side / stride)
    if grid.shape[-1] == cells:
        return grid
    return F.interpolate(grid, size=(cells, cells), mode="bilinear", align_corners=False)


def cosines(grid: Tensor, texts: Tensor) -> Tensor:
    """(B, D, h, w) grid of any length and (T, D) texts of length 1 -> (B, T, h, w)."""
    return torch.einsum("bdhw,td->bthw", F.normalize(grid, dim=1), texts)


@dataclass(frozen=True)
class Levels:
    """Which of an encoder's stages make its pyramid: the last one of each stride over 1.

    indices: into the list of stages. channels and strides: as `Features` wants them.
    """

    indices: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def single(self) -> bool:
        """Whether all stages share one grid, as the blocks of a ViT do."""
        return len(self.indices) == 1

    def pyramid(self, maps: Sequence[Tensor], side: int) -> list[Tensor]:
        """The maps of `indices`, in order -> the pyramid over an input of this side."""
        return [at_stride(part, side, by) for part, by in zip(maps, self.strides, strict=True)]


@torch.no_grad()
def find_levels(maps: Maps, side: int) -> Levels:
    """Run an encoder once on an empty input of its own side and see what its stages give."""
    shapes = [tuple(part.shape) for part in maps(torch.zeros(1, 3, side, side))]
    last = {stride_of(side, shape[-1]): index for index, shape in enumerate(shapes)}
    kept = sorted((stride, index) for stride, index in last.items() if stride > 1)
    return Levels(
        indices=tuple(index for _, index in kept),
        channels=tuple(int(shapes[index][1]) for _, index in kept),
        strides=tuple(stride for stride, _ in kept),
    )
