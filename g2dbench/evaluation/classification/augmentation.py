"""Augmentation of training images for classification, as published code does it.

An augmentation of an image depends only on the image and on its `RANDOM_NUMBERS` uniform numbers.
Radiographs are grey: random grayscale, hue and saturation change nothing and are left out.

Legend: H, W pixels of the image, S side of the network's input.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor

from g2dbench.preprocess import Preprocess
from g2dbench.training.batches import augmentation as shared

Augmentation = Literal["none", "light", "mgca", "resized-crop", "randaugment"]
Grey = NDArray[np.uint8]
Uniform = NDArray[np.float64]

RANDOM_NUMBERS = 24

_MARGIN = 256 / 224
"""MGCA's long side before cropping, relative to the crop."""


def preprocess_for(preprocess: Preprocess, policy: Augmentation) -> Preprocess:
    """The preprocessing of images that are not augmented (validation, test) under a policy.

    MGCA pads images to a square and crops its center; else it is the model's own.
    """
    if policy != "mgca":
        return preprocess
    return replace(preprocess, fit="pad", resize=math.ceil(preprocess.size * _MARGIN))


def augmented(
    image: Grey, uniform: Uniform, policy: Augmentation, preprocess: Preprocess, flips: bool
) -> Tensor:
    """(H, W) uint8 and (RANDOM_NUMBERS,) in [0, 1) -> the network's input (C, S, S).

    none          the model's preprocessing alone
    light         the model's preprocessing, then g2dbench's "light" policy of pre-training
    mgca          padded to a square of 8/7 S, random crop; with `flips` (MGCA: CheXpert) also
                  brightness and contrast +-40 % in random order (p .8), blur (p .5), flip (p .5)
    resized-crop  random crop of 20 to 100 % of the area, aspect 3/4 to 4/3, resized to S; flip
    randaugment   the same, then two random operations of magnitude 7 (RandAugment)

    flips: whether images are mirrored; left and right of the body are then exchanged.
    """
    shape = preprocess_for(preprocess, policy)
    if policy in ("resized-crop", "randaugment"):
        window = _random_window(image, uniform)
        pixels = shape.stretched().resized(window)
    elif policy == "mgca":
        pixels = _random_crop(image, uniform, shape)
    else:
        pixels = shape.resized(image)
    pixels = _POLICIES[policy](pixels, uniform, flips)
    # The gray levels are done; `stretched` leaves an image of the right size as it is.
    return replace(shape.stretched(), intensity="as_is")(np.ascontiguousarray(pixels))


def _none(image: Grey, uniform: Uniform, flips: bool) -> Grey:
    return image


def _light(image: Grey, uniform: Uniform, flips: bool) -> Grey:
    return shared.augment(image, uniform[: shared.RANDOM_NUMBERS], "light")


def _mgca(image: Grey, uniform: Uniform, flips: bool) -> Grey:
    if not flips:
        return image
    if uniform[2] < 0.8:
        factors = 0.6 + 0.8 * uniform[3], 0.6 + 0.8 * uniform[4]
        image = _tones(image, *factors, brightness_first=bool(uniform[5] < 0.5))
    if uniform[6] < 0.5:
        blur = ImageFilter.GaussianBlur(0.1 + 1.9 * float(uniform[7]))
        image = np.asarray(Image.fromarray(image).filter(blur))
    return _flipped(image, uniform[8])


def _flip(image: Grey, uniform: Uniform, flips: bool) -> Grey:
    return _flipped(image, uniform[8]) if flips else image


def _randaugment(image: Grey, uniform: Uniform, flips: bool) -> Grey:
    """Two of `_OPERATIONS`, each with magnitude 7 of 10 and a random sign."""
    image = _flip(image, uniform, flips)
    for start in (9, 12):
        index = int(uniform[start] * len(_OPERATIONS))
        sign = 1 if uniform[start + 1] < 0.5 else -1
        image = _OPERATIONS[index](image, sign * 0.7)
    return image


_POLICIES: dict[Augmentation, Callable[[Grey, Uniform, bool], Grey]] = {
    "none": _none,
    "light": _light,
    "mgca": _mgca,
    "resized-crop": _flip,
    "randaugment": _randaugment,
}


def _tones(image: Grey, brightness: float, contrast: float, brightness_first: bool) -> Grey:
    curve = np.arange(256) / 255
    if brightness_first:
        curve = shared.adjust_brightness(curve, brightness)
    curve = shared.adjust_contrast(curve, contrast, image)
    if not brightness_first:
        curve = shared.adjust_brightness(curve, brightness)
    return shared.apply_curve(image, curve)


def _flipped(image: Grey, uniform: float) -> Grey:
    return np.ascontiguousarray(image[:, ::-1]) if uniform < 0.5 else image


def _random_crop(image: Grey, uniform: Uniform, preprocess: Preprocess) -> Grey:
    """A random window of S pixels of the padded square."""
    assert preprocess.resize is not None
    whole = replace(preprocess, size=preprocess.resize).resized(image)
    spare = preprocess.resize - preprocess.size
    top, left = (int(number * (spare + 1)) for number in uniform[:2])
    return whole[top : top + preprocess.size, left : left + preprocess.size]


def _random_window(image: Grey, uniform: Uniform) -> Grey:
    """20 to 100 % of the area with a log-uniform aspect of 3/4 to 4/3, clipped to the image.

    torchvision draws again if a window does not fit; here it is clipped, which needs one draw.
    """
    height, width = image.shape
    area = height * width * (0.2 + 0.8 * uniform[0])
    aspect = math.exp((2 * uniform[1] - 1) * math.log(4 / 3))
    tall = min(height, max(1, round(math.sqrt(area / aspect))))
    wide = min(width, max(1, round(math.sqrt(area * aspect))))
    top, left = int(uniform[2] * (height - tall + 1)), int(uniform[3] * (width - wide + 1))
    return image[top : top + tall, left : left + wide]


def _warped(image: Grey, angle: float, shear: float, shift: tuple[float, float]) -> Grey:
    return shared.warp(image, shared.affine(angle, shear, 1, shift))


def _pillow(image: Grey, operation: Callable[[Image.Image], Image.Image]) -> Grey:
    return np.asarray(operation(Image.fromarray(image)), np.uint8)


_OPERATIONS: tuple[Callable[[Grey, float], Grey], ...] = (
    lambda image, m: image,
    lambda image, m: _pillow(image, ImageOps.autocontrast),
    lambda image, m: _pillow(image, ImageOps.equalize),
    lambda image, m: _tones(image, 1 + 0.9 * m, 1, True),
    lambda image, m: _tones(image, 1, 1 + 0.9 * m, True),
    lambda image, m: _warped(image, 30 * m, 0, (0, 0)),
    lambda image, m: _warped(image, 0, 16.7 * m, (0, 0)),
    lambda image, m: _warped(image, 0, 0, (0.45 * m, 0)),
    lambda image, m: _warped(image, 0, 0, (0, 0.45 * m)),
)
"""RandAugment (Cubuk et al. 2020), without operations on colors; magnitudes of timm at 10."""


def batch(
    images: list[Grey],
    policy: Augmentation,
    preprocess: Preprocess,
    flips: bool,
    generator: torch.Generator,
) -> Tensor:
    """(H, W) uint8 images -> (B, C, S, S), each with its own random numbers."""
    numbers = torch.rand((len(images), RANDOM_NUMBERS), generator=generator, dtype=torch.float64)
    return torch.stack(
        [
            augmented(image, uniform, policy, preprocess, flips)
            for image, uniform in zip(images, numbers.numpy(), strict=True)
        ]
    )
