"""Preprocessing of a radiograph for one model, and mapping of predictions back to its pixels.

Shapes: H, W pixels of the image; S the network's input side; C channels; h, w a coarse grid.
An `InputGeometry` maps between image and input pixels. Scores are always computed in image pixels,
so that models with different crops and resolutions are compared on the same pixels.
"""

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

Fit = Literal["stretch", "crop", "pad"]
Resampling = Literal["nearest", "bilinear", "bicubic"]
"""Of a coarse map; an image has two more."""
ImageResampling = Literal["nearest", "bilinear", "bicubic", "lanczos", "area"]
_PIL = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class InputGeometry:
    """The map from image to input pixels: x_input = x_image * scale_x + offset_x, y likewise."""

    height: int
    width: int
    size: int
    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float

    def boxes_to_input(self, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """(N, 4) xyxy image pixels -> (N, 4) xyxy input pixels, clipped to the input."""
        scaled = boxes * self._scale4() + self._offset4()
        return np.clip(scaled, 0, self.size).astype(np.float32)

    def boxes_to_image(self, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """(N, 4) xyxy input pixels -> (N, 4) xyxy image pixels, clipped to the image."""
        limit = np.array([self.width, self.height, self.width, self.height])
        return np.clip((boxes - self._offset4()) / self._scale4(), 0, limit).astype(np.float32)

    def mask_to_input(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(H, W) bool -> (S, S) bool, nearest pixel; False outside the image."""
        rows, inside_y = self._source_pixels(self.offset_y, self.scale_y, self.height)
        columns, inside_x = self._source_pixels(self.offset_x, self.scale_x, self.width)
        return mask[np.ix_(rows, columns)] & np.outer(inside_y, inside_x)

    def map_to_image(
        self, grid: NDArray[np.floating], how: Resampling = "bilinear"
    ) -> NDArray[np.float32]:
        """(h, w) map over the input -> (H, W) map over the image; NaN outside the crop.

        Grid cells tile the input; the map is sampled at pixel centers, clamped at the edges.
        """
        y = ((np.arange(self.height) + 0.5) * self.scale_y + self.offset_y) / self.size
        x = ((np.arange(self.width) + 0.5) * self.scale_x + self.offset_x) / self.size
        points = np.stack(np.broadcast_arrays(2 * x[None, :] - 1, 2 * y[:, None] - 1), axis=-1)
        sampled = F.grid_sample(
            torch.from_numpy(np.ascontiguousarray(grid, dtype=np.float32))[None, None],
            torch.from_numpy(points.astype(np.float32))[None],
            mode=how,
            padding_mode="border",
            align_corners=False,
        )[0, 0].numpy()
        outside = ((y < 0) | (y >= 1))[:, None] | ((x < 0) | (x >= 1))[None, :]
        return np.where(outside, np.float32(np.nan), sampled)

    def _scale4(self) -> NDArray[np.float64]:
        return np.array([self.scale_x, self.scale_y, self.scale_x, self.scale_y])

    def _offset4(self) -> NDArray[np.float64]:
        return np.array([self.offset_x, self.offset_y, self.offset_x, self.offset_y])

    def _source_pixels(
        self, offset: float, scale: float, length: int
    ) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        position = np.floor((np.arange(self.size) + 0.5 - offset) / scale).astype(np.intp)
        inside = (position >= 0) & (position < length)
        return np.clip(position, 0, length - 1), inside


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Converts an (H, W) uint8 gray image to a model's (C, S, S) float input.

    The image is resized to `resize` (fit "stretch": both sides; "crop": the short side; "pad": the
    long side, then zero-padded to a square), center-cropped to `size`, scaled to [0, 1] and
    normalized by mean and std. resize: None means `size`. resampling: by Pillow, "area" as
    OpenCV's INTER_AREA. intensity: "minmax" first stretches the image's gray levels to 0..255, as
    BioViL does; "minmax_input" stretches those of the cropped input to [0, 1], as CheXFound does,
    and makes a constant one zero.
    """

    size: int
    fit: Fit = "stretch"
    resize: int | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: int = 3
    resampling: ImageResampling = "bilinear"
    intensity: Literal["as_is", "minmax", "minmax_input"] = "as_is"

    def __call__(self, image: NDArray[np.uint8]) -> Tensor:
        """(H, W) uint8 -> (C, S, S) float32."""
        pixels = torch.from_numpy(self.resized(image)).float().div_(255)
        if self.intensity == "minmax_input":
            low, high = pixels.aminmax()
            pixels = (pixels - low) / (high - low) if high > low else torch.zeros_like(pixels)
        planes = pixels.expand(self.channels, self.size, self.size)
        return (planes - self._per_channel(self.mean)) / self._per_channel(self.std)

    def resized(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W) uint8 -> (S, S) uint8: resized and cropped, before scaling to [0, 1]."""
        if self.intensity == "minmax":
            image = _stretch_range(image)
        height, width = self._scaled(*image.shape)
        return self._crop_or_pad(self._scale(image, width, height))

    def batch(self, images: list[NDArray[np.uint8]]) -> Tensor:
        """List of (H, W) uint8 images of any sizes -> (B, C, S, S) float32."""
        return torch.stack([self(image) for image in images])

    def geometry(self, height: int, width: int) -> InputGeometry:
        """The geometry for an image of this size in pixels."""
        tall, wide = self._scaled(height, width)
        top, left = self._window_start(tall), self._window_start(wide)
        return InputGeometry(height, width, self.size, wide / width, tall / height, -left, -top)

    def stretched(self, size: int | None = None) -> "Preprocess":
        """The same intensities, with the whole image stretched to the input, for dense heads."""
        return replace(self, fit="stretch", size=size or self.size, resize=None)

    def _scaled(self, height: int, width: int) -> tuple[int, int]:
        target = self.resize or self.size
        if self.fit == "stretch":
            return target, target
        side = min(height, width) if self.fit == "crop" else max(height, width)
        # Truncated, not rounded, as torchvision and the published loaders do.
        return max(1, height * target // side), max(1, width * target // side)

    def _scale(self, image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
        if self.resampling == "area":
            scaled = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            return np.asarray(scaled)
        return np.asarray(Image.fromarray(image).resize((width, height), _PIL[self.resampling]))

    def _window_start(self, length: int) -> int:
        """The start of the center crop, as in torchvision; negative: padding before the image."""
        spare = length - self.size
        if spare >= 0 and self.fit == "crop":
            return round(spare / 2)
        # Padded to a square first, with the odd pixel after the image; then cropped.
        return -(-spare // 2)

    def _crop_or_pad(self, scaled: NDArray[np.uint8]) -> NDArray[np.uint8]:
        out = np.zeros((self.size, self.size), np.uint8)
        top, left = (self._window_start(length) for length in scaled.shape)
        source = scaled[max(top, 0) : top + self.size, max(left, 0) : left + self.size]
        y, x = max(-top, 0), max(-left, 0)
        out[y : y + source.shape[0], x : x + source.shape[1]] = source
        return out

    def _per_channel(self, values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)


def _stretch_range(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    low, high = int(image.min()), int(image.max())
    if high == low:
        return np.zeros_like(image)
    return ((image.astype(np.float64) - low) / (high - low) * 255).astype(np.uint8)
