"""Random geometry of training images, the same for an image and its masks.

Homographies are (3, 3), from output to input, both spanning -1 to 1, x before y, as in
`training.batches.augmentation`. Legend: S input side.
"""

import math
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from g2dbench.training.batches.augmentation import affine, warp

Augmentation: TypeAlias = Literal["none", "mgca", "resized-crop"]
Homography: TypeAlias = NDArray[np.float64]

_RATIO = 4 / 3
_TRIES = 10


def draw_warp(policy: Augmentation, generator: torch.Generator) -> Homography | None:
    """The homography for one image; None leaves the image as it is.

    none          never changes an image
    mgca          half of the images: zoom .9 to 1.1, rotation of up to 10 degrees; black border.
                  Source: albumentations' ShiftScaleRotate(0, .1, 10, p=.5) in MGCA
    resized-crop  a crop of 20 to 100 % of the area, aspect 3/4 to 4/3; half of them mirrored.
                  Source: MedKLIP I2_segmentation/dataset/dataset_siim_acr.py
    """
    if policy == "none":
        return None
    numbers = torch.rand(3 + 4 * _TRIES, generator=generator, dtype=torch.float64).tolist()
    return _turn(numbers) if policy == "mgca" else _crop(numbers)


def _turn(numbers: list[float]) -> Homography | None:
    if numbers[0] < 0.5:
        return None
    return affine(20 * numbers[1] - 10, 0, 0.9 + 0.2 * numbers[2], (0, 0))


def _crop(numbers: list[float]) -> Homography:
    """As torchvision's RandomResizedCrop: ten tries, else the whole image."""
    width = height = 1.0
    x = y = 0.0
    for start in range(3, len(numbers), 4):
        area = 0.2 + 0.8 * numbers[start]
        ratio = math.exp((2 * numbers[start + 1] - 1) * math.log(_RATIO))
        wide, tall = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if wide <= 1 and tall <= 1:
            width, height = wide, tall
            x = (2 * numbers[start + 2] - 1) * (1 - wide)
            y = (2 * numbers[start + 3] - 1) * (1 - tall)
            break
    mirror = -1 if numbers[0] < 0.5 else 1
    return np.array([[mirror * width, 0, x], [0, height, y], [0, 0, 1]])


def warp_masks(masks: NDArray[np.bool_], homography: Homography) -> NDArray[np.bool_]:
    """(K, S, S) -> (K, S, S), nearest pixel; outside the image nothing is present."""
    if not len(masks):
        return masks
    moved = [warp(mask.astype(np.uint8), homography, "nearest") > 0 for mask in masks]
    return np.stack(moved)
