"""Augmentation of training images, on the CPU.

Shapes: S image side, K = `RANDOM_NUMBERS` uniform numbers per image. An image is (S, S) uint8,
grey. The result depends only on the image and its numbers: not on the batch, a global generator or
the number of workers. No policy flips images, since reports say left and right. Geometry is a
homography from output to input, both spanning -1 to 1, x before y. Brightness, contrast and gamma
form one tone curve of 256 values, so that an image is read and rounded only once.
"""

import math
from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from g2dbench.recipes.recipe import AugmentPolicy

RANDOM_NUMBERS = 16
"""Uniform numbers in [0, 1) per image and epoch, even if the policy uses fewer."""

Grey = NDArray[np.uint8]
Matrix = NDArray[np.float64]
ToneCurve = NDArray[np.float64]
Sampling = Literal["nearest", "bilinear"]

_CORNERS = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32)
_IDENTITY_CURVE = np.arange(256) / 255
_FLAGS = {"nearest": cv2.INTER_NEAREST, "bilinear": cv2.INTER_LINEAR}

# Loader workers are processes: with OpenCV's own threads there would be more threads than cores,
# and forking a process with a running thread pool can hang.
cv2.setNumThreads(1)


def augment(image: Grey, uniform: NDArray[np.floating], policy: AugmentPolicy) -> Grey:
    """(S, S), (K,) -> (S, S); pixels from outside the image are black.

    none   the image unchanged
    light  ours: +-7 degrees, +-5 % shift, 0.92 to 1.08 zoom, +-10 % brightness, +-15 % contrast,
           gamma 0.8 to 1.25
    paper  G2D's paper: perspective (distortion 0.5, half of the images) and auto contrast (half of
           the images); its random grayscale does not change a grey image
    code   G2D's released code: +-15 degrees, +-15 degrees of shear along x, +-20 % brightness and
           contrast in random order; nearest-neighbor sampling, as in its RandomAffine
    """
    if policy == "none":
        return image
    return _POLICIES[policy](image, uniform.astype(np.float64))


def light_motion(uniform: NDArray[np.floating]) -> Matrix:
    """(K,) -> (3, 3): how `light` moves an image, as a homography from output to input."""
    shift = (_scaled(uniform[0], -0.05, 0.05), _scaled(uniform[1], -0.05, 0.05))
    angle, zoom = _scaled(uniform[2], -7, 7), _scaled(uniform[3], 0.92, 1.08)
    return affine(angle, 0, zoom, shift)


def _light(image: Grey, uniform: Matrix) -> Grey:
    moved = warp(image, light_motion(uniform))
    curve = adjust_brightness(_IDENTITY_CURVE, _scaled(uniform[4], 0.9, 1.1))
    curve = adjust_contrast(curve, _scaled(uniform[5], 0.85, 1.15), moved)
    limit = math.log(1.25)
    return apply_curve(moved, curve ** math.exp(_scaled(uniform[6], -limit, limit)))


def _code(image: Grey, uniform: Matrix) -> Grey:
    angle, shear = _scaled(uniform[0], -15, 15), _scaled(uniform[1], -15, 15)
    moved = warp(image, affine(angle, shear, 1, (0, 0)), "nearest")
    light, contrast = _scaled(uniform[2], 0.8, 1.2), _scaled(uniform[3], 0.8, 1.2)
    if uniform[4] < 0.5:
        return apply_curve(
            moved, adjust_contrast(adjust_brightness(_IDENTITY_CURVE, light), contrast, moved)
        )
    return apply_curve(
        moved, adjust_brightness(adjust_contrast(_IDENTITY_CURVE, contrast, moved), light)
    )


def _paper(image: Grey, uniform: Matrix) -> Grey:
    if uniform[0] < 0.5:
        image = warp(image, perspective(uniform[2:10].reshape(4, 2) * 0.5))
    return apply_curve(image, autocontrast(image)) if uniform[1] < 0.5 else image


_POLICIES: dict[AugmentPolicy, Callable[[Grey, Matrix], Grey]] = {
    "light": _light,
    "paper": _paper,
    "code": _code,
}


def affine(angle: float, shear: float, zoom: float, shift: tuple[float, float]) -> Matrix:
    """Homography (3, 3) about the center, in the convention of torchvision's `affine`.

    angle, shear: in degrees, shear along x; zoom: above 1 enlarges; shift: x and y as fractions of
    the side.
    """
    turn, slope = math.radians(angle), math.tan(math.radians(shear))
    cos, sin = math.cos(turn), math.sin(turn)
    matrix = np.eye(3)
    matrix[:2, :2] = np.array([[cos - sin * slope, sin + cos * slope], [-sin, cos]]) / zoom
    matrix[:2, 2] = -2 * matrix[:2, :2] @ shift
    return matrix


def perspective(inset: Matrix) -> Matrix:
    """Homography (3, 3) that moves the corners of the image inwards.

    inset: (4, 2), x and y of top left, top right, bottom right, bottom left; 1 is half a side.
    """
    moved = (_CORNERS * (1 - inset)).astype(np.float32)
    matrix: Matrix = cv2.getPerspectiveTransform(moved, _CORNERS)
    return matrix


def warp(image: Grey, homography: Matrix, sampling: Sampling = "bilinear") -> Grey:
    """(S, S) and a homography (3, 3) from output to input -> (S, S); pixels from outside are 0."""
    side = image.shape[0]
    half, center = side / 2, (side - 1) / 2
    to_unit = np.array([[1 / half, 0, -center / half], [0, 1 / half, -center / half], [0, 0, 1]])
    to_pixels = np.array([[half, 0, center], [0, half, center], [0, 0, 1]])
    pixels = to_pixels @ homography @ to_unit
    moved = cv2.warpPerspective(
        image, pixels, (side, side), flags=_FLAGS[sampling] | cv2.WARP_INVERSE_MAP
    )
    return np.asarray(moved, np.uint8)


def apply_curve(image: Grey, curve: ToneCurve) -> Grey:
    """(S, S) -> (S, S): map each of the 256 grey values by a curve (256,) in [0, 1]."""
    return np.asarray(cv2.LUT(image, np.rint(curve * 255).astype(np.uint8)), np.uint8)


def adjust_brightness(curve: ToneCurve, factor: float) -> ToneCurve:
    """(256,) -> (256,): the curve times a factor, clipped to [0, 1]."""
    return np.clip(curve * factor, 0, 1)


def adjust_contrast(curve: ToneCurve, factor: float, image: Grey) -> ToneCurve:
    """(256,) -> (256,): scale differences from the mean of the curve on this image, clipped."""
    counts = cv2.calcHist([image], [0], None, [256], [0, 256]).ravel()  # (256, 1) before OpenCV 5
    mean = float(counts @ curve) / image.size
    return np.clip(mean + (curve - mean) * factor, 0, 1)


def autocontrast(image: Grey) -> ToneCurve:
    """A curve (256,) that stretches the image's range to [0, 1]; constant images do not change."""
    low, high = int(image.min()), int(image.max())
    if low == high:
        return _IDENTITY_CURVE
    return np.clip((_IDENTITY_CURVE * 255 - low) / (high - low), 0, 1)


def _scaled(uniform: float, low: float, high: float) -> float:
    return low + (high - low) * float(uniform)
