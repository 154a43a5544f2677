"""Corruptions of radiographs at five strengths: what goes wrong between the detector and the model.

    noise      quantum noise: Gaussian, grains of 1/224 of the short side
    blur       motion and defocus: a Gaussian, its width in the same unit
    exposure   gamma above 1 or, for every other image, its inverse: under- or overexposed
    jpeg       compression at a low quality, in blocks of 8 x 8 stored pixels
    rotation   about the center, to either side; corners become black
    markers    burnt-in white letters in two corners
    cropping   a part of both sides is cut off, at any edge: the image becomes smaller
    inversion  a share of the images has black and white exchanged: wrong photometric interpretation

Constants of noise, blur and JPEG: Hendrycks & Dietterich 2019, Benchmarking Neural Network
Robustness, ImageNet-C (make_imagenet_c.py, 224 pixels); the others are ours.

An image is corrupted by its id, the seed and the corruption's name alone: not by its place in a
data set. The random numbers of one image are the same at all strengths, so a stronger corruption is
the same one, only more of it. Results are the same on every processor, except that blur, rotation
and JPEG may differ by 1 gray level where libraries were compiled differently.

Legend: H, W pixels. Images are (H, W) uint8.
"""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

GrayImage: TypeAlias = NDArray[np.uint8]
Transform: TypeAlias = Callable[[GrayImage, float, np.random.Generator], GrayImage]

STRENGTHS = (1, 2, 3, 4, 5)
GRID = 224
"""Noise and blur have the size that they have in ImageNet-C's images of this side."""

MARKER_TEXTS = ("L", "R", "AP", "PA", "PORT")
_LETTERS = {
    "A": " ### #   ##   #######   ##   ##   #",
    "L": "#    #    #    #    #    #    #####",
    "O": " ### #   ##   ##   ##   ##   # ### ",
    "P": "#### #   ##   ##### #    #    #    ",
    "R": "#### #   ##   ##### # #  #  # #   #",
    "T": "#####  #    #    #    #    #    #  ",
}
"""Letters of 7 rows and 5 columns. A font of a library may change with its version."""

_ROWS, _COLUMNS = 7, 5


@dataclass(frozen=True)
class Corruption:
    """levels: what the five strengths mean. by_share: a level is a share of corrupted images."""

    name: str
    levels: tuple[float, float, float, float, float]
    transform: Transform
    by_share: bool = False


@dataclass(frozen=True)
class Condition:
    """A corruption at one strength, with the seed of its random numbers."""

    corruption: str
    strength: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.corruption not in CORRUPTIONS or self.strength not in STRENGTHS:
            raise ValueError(f"there is no corruption {self.corruption!r} of {self.strength}")

    @property
    def output(self) -> str:
        """Names the images that it makes; equal where they are equal."""
        chosen = CORRUPTIONS[self.corruption]
        level = "" if chosen.by_share else f" {self._level:g}"
        return f"{self.corruption}{level}, seed {self.seed}"

    def affects(self, image_id: str) -> bool:
        """Whether it corrupts this image; at a higher strength also those of lower strengths."""
        if not CORRUPTIONS[self.corruption].by_share:
            return True
        return bool(self._random(image_id).random() < self._level)

    def __call__(self, image: GrayImage, image_id: str) -> GrayImage:
        """(H, W) -> the corrupted image, a new array; H and W change by cropping only."""
        chosen = CORRUPTIONS[self.corruption]
        if not self.affects(image_id):
            return image.copy()
        return chosen.transform(image, self._level, self._random(image_id))

    @property
    def _level(self) -> float:
        return CORRUPTIONS[self.corruption].levels[self.strength - 1]

    def _random(self, image_id: str) -> np.random.Generator:
        key = f"{self.seed}\0{self.corruption}\0{image_id}".encode()
        return np.random.default_rng(int.from_bytes(hashlib.sha256(key).digest()[:16], "big"))


def _noise(image: GrayImage, level: float, random: np.random.Generator) -> GrayImage:
    height, width = image.shape
    scale = min(1.0, GRID / min(height, width))
    grains = random.standard_normal((int(height * scale) + 1, int(width * scale) + 1))
    rows, columns = ((np.arange(side) * scale).astype(np.intp) for side in (height, width))
    return _to_gray(image + 255 * level * grains[np.ix_(rows, columns)])


def _blur(image: GrayImage, level: float, random: np.random.Generator) -> GrayImage:
    radius = level * min(image.shape) / GRID
    return np.array(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def _exposure(image: GrayImage, level: float, random: np.random.Generator) -> GrayImage:
    gamma = level if random.random() < 0.5 else 1 / level
    return _to_gray(255 * (np.arange(256) / 255) ** gamma)[image]


def _jpeg(image: GrayImage, level: float, random: np.random.Generator) -> GrayImage:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=int(level))
    with Image.open(file) as picture:
        return np.array(picture)


def _rotation(image: GrayImage, level: float, random: np.random.Generator) -> GrayImage:
    angle = level if random.random() < 0.5 else -level
    return np.array(Image.fromarray(image).rotate(angle, Image.Resampling.BILINEAR))


def _markers(image: GrayImage, level: float, random: np.random.Generator) -> GrayImage:
    marked = image.copy()
    short = min(image.shape)
    inset = round(0.03 * short)
    for corner in random.choice(4, size=2, replace=False):
        text = MARKER_TEXTS[random.integers(len(MARKER_TEXTS))]
        letters = _draw(text, round(level * short))[: image.shape[0], : image.shape[1]]
        height, width = letters.shape
        spare = image.shape[0] - height, image.shape[1] - width
        top, left = (
            max(0, each - inset) if far else min(each, inset)
            for each, far in zip(spare, (corner // 2, corner % 2), strict=True)
        )
        marked[top : top + height, left : left + width][letters] = 255
    return marked


def _draw(text: str, height: int) -> NDArray[np.bool_]:
    """A text of this height in pixels, at least 1; letters are a column apart."""
    letters = [np.array(list(_LETTERS[letter])).reshape(_ROWS, _COLUMNS) == "#" for letter in text]
    gap = np.zeros((_ROWS, 1), bool)
    small = np.hstack([part for letter in letters for part in (letter, gap)][:-1])
    height = max(1, height)
    width = max(1, small.shape[1] * height // _ROWS)
    rows, columns = (
        np.arange(side) * cells // side
        for side, cells in zip((height, width), small.shape, strict=True)
    )
    return np.asarray(small[np.ix_(rows, columns)])


def _cropping(image: GrayImage, level: float, random: np.random.Generator) -> GrayImage:
    kept = [max(1, round(side * (1 - level))) for side in image.shape]
    share = random.random(2)
    top, left = (
        int(part * (side - keep + 1))
        for part, side, keep in zip(share, image.shape, kept, strict=True)
    )
    return image[top : top + kept[0], left : left + kept[1]].copy()


def _inversion(image: GrayImage, level: float, random: np.random.Generator) -> GrayImage:
    return 255 - image


def _to_gray(values: NDArray[np.float64]) -> GrayImage:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


CORRUPTIONS = {
    corruption.name: corruption
    for corruption in (
        Corruption("noise", (0.08, 0.12, 0.18, 0.26, 0.38), _noise),
        Corruption("blur", (1, 2, 3, 4, 6), _blur),
        Corruption("exposure", (1.25, 1.5, 2, 2.5, 3), _exposure),
        Corruption("jpeg", (25, 18, 15, 10, 7), _jpeg),
        Corruption("rotation", (3, 6, 10, 15, 25), _rotation),
        Corruption("markers", (0.04, 0.07, 0.1, 0.15, 0.2), _markers),
        Corruption("cropping", (0.05, 0.1, 0.15, 0.2, 0.3), _cropping),
        Corruption("inversion", (0.2, 0.4, 0.6, 0.8, 1), _inversion, by_share=True),
    )
}
"""Units: noise in shares of the gray range, blur in pixels of 224, gamma, JPEG quality, degrees,
height of letters and shares of the short side, share of both sides, share of images."""


def conditions(seed: int = 0) -> tuple[Condition, ...]:
    """All corruptions at all strengths."""
    return tuple(Condition(name, strength, seed) for name in CORRUPTIONS for strength in STRENGTHS)
