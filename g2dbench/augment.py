"""How training images are varied: whole batches at once, each image by its own random numbers.

Shapes: B images, S image side, K = `DRAWS` uniform numbers of an image. Images are (B, 1, S, S)
float32 in [0, 1]. An image's result depends on the image and on its row of draws alone: not on the
rest of the batch, a global generator, or the number of workers. No policy flips: reports say left
and right. Geometry is a homography from output to input, both spanning -1 to 1, x before y.
"""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from g2dbench.recipe import Policy

DRAWS = 16
"""Uniform numbers in [0, 1) that an image gets in every epoch, whatever the policy uses."""

Sampling = Literal["nearest", "bilinear"]

_CORNERS = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))


def augment(images: Tensor, draws: Tensor, policy: Policy) -> Tensor:
    """(B, 1, S, S) in [0, 1], (B, K) -> (B, 1, S, S) in [0, 1]; what lies outside is black.

    none   the images themselves
    light  ours: +-7 degrees, +-5 % shift, 0.92 to 1.08 zoom, +-10 % brightness, +-15 % contrast,
           gamma 0.8 to 1.25
    paper  G2D's paper: perspective (distortion 0.5, half of the images) and auto contrast (half of
           the images); its random greyscale does nothing to a grey image
    code   G2D's released code: +-15 degrees, +-15 degrees of shear along x, +-20 % brightness and
           contrast in an order that is drawn; the nearest pixel is taken, as its RandomAffine does
    """
    if policy == "light":
        return _light(images, draws)
    if policy == "paper":
        return _paper(images, draws)
    if policy == "code":
        return _code(images, draws)
    return images


def _light(images: Tensor, draws: Tensor) -> Tensor:
    shift = torch.stack([_within(draws[:, 0], -0.05, 0.05), _within(draws[:, 1], -0.05, 0.05)], 1)
    angle, zoom = _within(draws[:, 2], -7, 7), _within(draws[:, 3], 0.92, 1.08)
    images = warp(images, affine(angle, torch.zeros_like(angle), zoom, shift))
    images = brighten(images, _within(draws[:, 4], 0.9, 1.1))
    images = stretch_contrast(images, _within(draws[:, 5], 0.85, 1.15))
    limit = math.log(1.25)
    return images.pow(_column(_within(draws[:, 6], -limit, limit).exp(), images))


def _code(images: Tensor, draws: Tensor) -> Tensor:
    angle, shear = _within(draws[:, 0], -15, 15), _within(draws[:, 1], -15, 15)
    still = torch.zeros(len(draws), 2, dtype=draws.dtype)
    images = warp(images, affine(angle, shear, torch.ones_like(angle), still), "nearest")
    light, contrast = _within(draws[:, 2], 0.8, 1.2), _within(draws[:, 3], 0.8, 1.2)
    light_first = stretch_contrast(brighten(images, light), contrast)
    light_last = brighten(stretch_contrast(images, contrast), light)
    return torch.where(_column(draws[:, 4], images) < 0.5, light_first, light_last)


def _paper(images: Tensor, draws: Tensor) -> Tensor:
    half = _column(draws[:, :2], images) < 0.5
    moved = warp(images, perspective(draws[:, 2:10].unflatten(1, (4, 2)) * 0.5))
    images = torch.where(half[:, :1], moved, images)
    return torch.where(half[:, 1:], autocontrast(images), images)


def affine(angle: Tensor, shear: Tensor, zoom: Tensor, shift: Tensor) -> Tensor:
    """Homographies (B, 3, 3) about the centre, in the convention of torchvision's `affine`.

    angle, shear: (B,) degrees, shear along x; zoom: (B,), above 1 enlarges; shift: (B, 2), x and y
    as shares of the side.
    """
    turn, slope = torch.deg2rad(angle), torch.deg2rad(shear).tan()
    cos, sin = turn.cos(), turn.sin()
    rows = torch.stack([cos - sin * slope, sin + cos * slope, -sin, cos], 1).view(-1, 2, 2)
    rows = rows / zoom.view(-1, 1, 1)
    matrix = torch.eye(3, dtype=angle.dtype).repeat(len(angle), 1, 1)
    matrix[:, :2, :2] = rows
    matrix[:, :2, 2:] = -rows @ (2 * shift).unsqueeze(2)
    return matrix


def perspective(inset: Tensor) -> Tensor:
    """Homographies (B, 3, 3) that put the image's corners where they are moved inwards.

    inset: (B, 4, 2), x and y of top left, top right, bottom right, bottom left; 1 is half a side.
    """
    source = torch.tensor(_CORNERS, dtype=torch.float64)
    target = source * (1 - inset.double())
    one, zero = torch.ones_like(target[..., :1]), torch.zeros_like(target)
    across = torch.cat([target, one, zero, zero[..., :1], -source[:, :1] * target], -1)
    down = torch.cat([zero, zero[..., :1], target, one, -source[:, 1:] * target], -1)
    system = torch.stack([across, down], 2).flatten(1, 2)
    solved = torch.linalg.solve(system, source.flatten().expand(len(inset), 8))
    nine = torch.cat([solved, torch.ones_like(solved[:, :1])], 1)
    matrix: Tensor = nine.view(-1, 3, 3).to(inset.dtype)
    return matrix


def warp(images: Tensor, homography: Tensor, how: Sampling = "bilinear") -> Tensor:
    """(B, 1, S, S), (B, 3, 3) output -> input; pixels from outside are 0."""
    side = images.shape[-1]
    rows = homography.to(images).view(-1, 3, 3, 1, 1)
    x = (torch.arange(side, dtype=images.dtype, device=images.device) * 2 + 1) / side - 1
    found = rows[:, :, 0] * x + rows[:, :, 1] * x.unsqueeze(1) + rows[:, :, 2]
    grid = torch.stack([found[:, 0] / found[:, 2], found[:, 1] / found[:, 2]], -1)
    sampled = F.grid_sample(images, grid, how, align_corners=False)
    return sampled.clamp(0, 1)  # the four weights may sum to a little more than 1


def brighten(images: Tensor, factor: Tensor) -> Tensor:
    """Pixels times a factor per image, clipped to [0, 1]."""
    return (images * _column(factor, images)).clamp(0, 1)


def stretch_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Differences from the image's mean times a factor per image, clipped to [0, 1]."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return (mean + (images - mean) * _column(factor, images)).clamp(0, 1)


def autocontrast(images: Tensor) -> Tensor:
    """Each image's range stretched to [0, 1]; a constant image stays as it is."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    flat = high == low
    return torch.where(flat, images, (images - low) / torch.where(flat, 1.0, high - low))


def _within(draw: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * draw


def _column(values: Tensor, images: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1), or (B, N) -> (B, N, 1, 1), where the images are."""
    return values.reshape(len(values), -1, 1, 1).to(images)
