"""CheXzero's preparation of images, which Med-UniC's zero-shot code copies.

Source: rajpurkarlab/CheXzero at 5c341db (zero_shot.py, data_process.py).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from g2dbench.preprocess import InputGeometry, Preprocess

PADDED, MEAN, STD = 320, 101.48761 / 255, 83.43944 / 255
"""Side of the padded square, mean and standard deviation of its gray levels (zero_shot.py)."""


@dataclass(frozen=True, kw_only=True)
class TwoStepPreprocess(Preprocess):
    """Pads to a square of side `resize`, normalizes, then resizes the tensor to `size`, bicubic."""

    def __call__(self, image: NDArray[np.uint8]) -> Tensor:
        """(H, W) uint8 -> (C, S, S) float32."""
        if self.resize is None:
            return super().__call__(image)
        planes = self._padded()(image)[None]
        # The original's torchvision did not smooth tensors before it reduced them.
        reduced = F.interpolate(planes, (self.size, self.size), mode="bicubic", antialias=False)
        return reduced[0]

    def geometry(self, height: int, width: int) -> InputGeometry:
        """The geometry for an image of this size in pixels."""
        if self.resize is None:
            return super().geometry(height, width)
        padded, ratio = self._padded().geometry(height, width), self.size / self.resize
        return replace(
            padded,
            size=self.size,
            scale_x=padded.scale_x * ratio,
            scale_y=padded.scale_y * ratio,
            offset_x=padded.offset_x * ratio,
            offset_y=padded.offset_y * ratio,
        )

    def _padded(self) -> Preprocess:
        side = self.resize or self.size
        return Preprocess(
            size=side, fit="pad", mean=self.mean, std=self.std, resampling=self.resampling
        )


def chexzero_preprocess(side: int) -> TwoStepPreprocess:
    """Padded to 320 pixels, normalized, then resized to `side`; at 320 in one step."""
    return TwoStepPreprocess(
        size=side,
        resize=None if side == PADDED else PADDED,
        fit="pad",
        mean=(MEAN,) * 3,
        std=(STD,) * 3,
        resampling="lanczos",
    )
