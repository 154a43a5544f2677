"""How training images are varied, each by its own random numbers, on the CPU.

Shapes: S image side, K = `DRAWS` uniform numbers of an image. An image is (S, S) uint8, grey. What
becomes of it depends on the image and its draws alone: not on a batch, a global generator, or the
number of workers. No policy flips: reports say left and right. Geometry is a homography from output
to input, both spanning -1 to 1, x before y; brightness, contrast and gamma are one table of 256
values, so that an image is read and rounded once for all of them.
"""

import math
from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from g2dbench.recipes.recipe import Policy

DRAWS = 16
"""Uniform numbers in [0, 1) that an image gets in every epoch, whatever the policy uses."""

Grey = NDArray[np.uint8]
Matrix = NDArray[np.float64]
Tones = NDArray[np.float64]
Sampling = Literal["nearest", "bilinear"]

_CORNERS = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32)
_LEVELS = np.arange(256) / 255
_FLAGS = {"nearest": cv2.INTER_NEAREST, "bilinear": cv2.INTER_LINEAR}

# Loader workers are processes: threads of OpenCV's own would outnumber the cores, and forking a
# process whose pool of threads has started can hang.
cv2.setNumThreads(1)


def augment(image: Grey, draws: NDArray[np.floating], policy: Policy) -> Grey:
    """(S, S), (K,) -> (S, S); what lies outside the image is black.

    none   the image itself
    light  ours: +-7 degrees, +-5 % shift, 0.92 to 1.08 zoom, +-10 % brightness, +-15 % contrast,
           gamma 0.8 to 1.25
    paper  G2D's paper: perspective (distortion 0.5, half of the images) and auto contrast (half of
           the images); its random greyscale does nothing to a grey image
    code   G2D's released code: +-15 degrees, +-15 degrees of shear along x, +-20 % brightness and
           contrast in an order that is drawn; the nearest pixel is taken, as its RandomAffine does
    """
    if policy == "none":
        return image
    return _POLICIES[policy](image, draws.astype(np.float64))


def _light(image: Grey, draws: Matrix) -> Grey:
    shift = (_within(draws[0], -0.05, 0.05), _within(draws[1], -0.05, 0.05))
    angle, zoom = _within(draws[2], -7, 7), _within(draws[3], 0.92, 1.08)
    moved = warp(image, affine(angle, 0, zoom, shift))
    tones = brighten(_LEVELS, _within(draws[4], 0.9, 1.1))
    tones = stretch_contrast(tones, _within(draws[5], 0.85, 1.15), moved)
    limit = math.log(1.25)
    return retone(moved, tones ** math.exp(_within(draws[6], -limit, limit)))


def _code(image: Grey, draws: Matrix) -> Grey:
    angle, shear = _within(draws[0], -15, 15), _within(draws[1], -15, 15)
    moved = warp(image, affine(angle, shear, 1, (0, 0)), "nearest")
    light, contrast = _within(draws[2], 0.8, 1.2), _within(draws[3], 0.8, 1.2)
    if draws[4] < 0.5:
        return retone(moved, stretch_contrast(brighten(_LEVELS, light), contrast, moved))
    return retone(moved, brighten(stretch_contrast(_LEVELS, contrast, moved), light))


def _paper(image: Grey, draws: Matrix) -> Grey:
    if draws[0] < 0.5:
        image = warp(image, perspective(draws[2:10].reshape(4, 2) * 0.5))
    return retone(image, autocontrast(image)) if draws[1] < 0.5 else image


_POLICIES: dict[Policy, Callable[[Grey, Matrix], Grey]] = {
    "light": _light,
    "paper": _paper,
    "code": _code,
}


def affine(angle: float, shear: float, zoom: float, shift: tuple[float, float]) -> Matrix:
    """Homography (3, 3) about the centre, in the convention of torchvision's `affine`.

    angle, shear: degrees, shear along x; zoom: above 1 enlarges; shift: x and y as shares of the
    side.
    """
    turn, slope = math.radians(angle), math.tan(math.radians(shear))
    cos, sin = math.cos(turn), math.sin(turn)
    matrix = np.eye(3)
    matrix[:2, :2] = np.array([[cos - sin * slope, sin + cos * slope], [-sin, cos]]) / zoom
    matrix[:2, 2] = -2 * matrix[:2, :2] @ shift
    return matrix


def perspective(inset: Matrix) -> Matrix:
    """Homography (3, 3) that puts the image's corners where they are moved inwards.

    inset: (4, 2), x and y of top left, top right, bottom right, bottom left; 1 is half a side.
    """
    moved = (_CORNERS * (1 - inset)).astype(np.float32)
    matrix: Matrix = cv2.getPerspectiveTransform(moved, _CORNERS)
    return matrix


def warp(image: Grey, homography: Matrix, how: Sampling = "bilinear") -> Grey:
    """(S, S), (3, 3) output -> input; pixels from outside are 0."""
    side = image.shape[0]
    half, centre = side / 2, (side - 1) / 2
    to_unit = np.array([[1 / half, 0, -centre / half], [0, 1 / half, -centre / half], [0, 0, 1]])
    to_pixels = np.array([[half, 0, centre], [0, half, centre], [0, 0, 1]])
    pixels = to_pixels @ homography @ to_unit
    moved = cv2.warpPerspective(
        image, pixels, (side, side), flags=_FLAGS[how] | cv2.WARP_INVERSE_MAP
    )
    return np.asarray(moved, np.uint8)


def retone(image: Grey, tones: Tones) -> Grey:
    """(S, S) -> (S, S): each of 256 grey values by what `tones` in [0, 1] has for it."""
    return np.asarray(cv2.LUT(image, np.rint(tones * 255).astype(np.uint8)), np.uint8)


def brighten(tones: Tones, factor: float) -> Tones:
    """(256,) -> (256,): tones times a factor, clipped to [0, 1]."""
    return np.clip(tones * factor, 0, 1)


def stretch_contrast(tones: Tones, factor: float, image: Grey) -> Tones:
    """(256,) -> (256,): differences from the retoned image's mean times a factor, clipped."""
    counts = cv2.calcHist([image], [0], None, [256], [0, 256]).ravel()  # (256, 1) before OpenCV 5
    mean = float(counts @ tones) / image.size
    return np.clip(mean + (tones - mean) * factor, 0, 1)


def autocontrast(image: Grey) -> Tones:
    """Tones (256,) that stretch the image's range to [0, 1]; a constant image stays as it is."""
    low, high = int(image.min()), int(image.max())
    if low == high:
        return _LEVELS
    return np.clip((_LEVELS * 255 - low) / (high - low), 0, 1)


def _within(draw: float, low: float, high: float) -> float:
    return low + (high - low) * float(draw)
