"""Anchors, targets and loss of the YOLOv3 head.

Legend: B images, S input side, h w the grid of one scale, G ground truth boxes, K class outputs.
P predictions of an image, ordered by scale (fine to coarse), anchor, row, column: 3 x h x w of each
of three scales. Boxes are xyxy in pixels of the square input.

Source: MGCA mgca/utils/yolo_loss.py; `YoloSettings` says where we differ by default.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

ANCHORS = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
"""(width, height) of each scale's anchors, fine to coarse, for an input of ANCHOR_BASE pixels."""

ANCHOR_BASE = 416
IGNORE_IOU = 0.5
"""An anchor with a larger IoU with a box in its cell gets no no-object loss."""

BOX_WEIGHT, NO_OBJECT_WEIGHT = 2.5, 0.5


@dataclass(frozen=True, kw_only=True)
class YoloSettings:
    """Where the head's loss can follow MGCA or not; the defaults are ours, `MGCA` is as published.

    anchor_margin: grid cells added to the sides of boxes when anchors are compared with them.
    empty_weight: weight of the no-object loss of a prediction that is assigned to a box, if no
    anchor overlaps the box by more than one half; MGCA gives it both losses.
    class_outputs: "several" has an output for each class if there are several; "always" also for a
    single class, whose target is always 1 and which no score uses, as in MGCA.
    """

    anchor_margin: float = 0.0
    empty_weight: float = 0.0
    class_outputs: Literal["several", "always"] = "several"


MGCA = YoloSettings(anchor_margin=1.0, empty_weight=NO_OBJECT_WEIGHT, class_outputs="always")
OURS = YoloSettings()


class AnchorLayout:
    """Anchor and grid cell of each of the P predictions of an image.

    sides: of the three grids, fine to coarse. Tensors on one device: `anchors` (P, 2) width and
    height in pixels; `cells` (P, 2) column and row; `strides` (P, 1) pixels per cell;
    `scale_weights` (P,) 1 / number of predictions of the scale, to average the loss per scale.
    """

    def __init__(self, size: int, sides: Sequence[int], device: torch.device) -> None:
        self.size = size
        self.sides = tuple(sides)
        counts = [3 * side * side for side in self.sides]
        self.starts = np.cumsum([0, *counts])
        """Index of the first prediction of each scale; the last entry is P."""
        scale = torch.arange(3).repeat_interleave(torch.tensor(counts))
        side = torch.tensor(self.sides)[scale]
        place = torch.arange(len(scale)) - torch.from_numpy(self.starts)[scale]
        anchors = torch.tensor(ANCHORS) * (size / ANCHOR_BASE)
        self.anchors = anchors[scale, place // side**2].to(device)
        self.cells = torch.stack([place % side, place // side % side], dim=1).to(device)
        self.strides = (size / side)[:, None].to(device)
        self.scale_weights = (1 / torch.tensor(counts))[scale].to(device)


class Target(NamedTuple):
    """Regression targets of one image.

    cells (K,): indices of predictions assigned to a ground truth box; offsets (K, 4): their x and y
    within the cell, and the logarithms of width and height relative to the anchor; ignored (I,):
    indices of predictions without loss; labels (K,): class of each assigned prediction; poor (J,):
    assigned predictions of which no box overlaps the anchor by more than one half.
    """

    cells: Tensor
    offsets: Tensor
    ignored: Tensor
    labels: Tensor
    poor: Tensor


def assign_targets(
    boxes: NDArray[np.floating],
    layout: AnchorLayout,
    labels: NDArray[np.int64] | None = None,
    anchor_margin: float = 0.0,
) -> Target:
    """(G, 4) boxes -> targets: each box is assigned to the best anchor of its cell on every scale.

    labels: (G,) classes; None for all 0. Boxes need an area. Of two boxes with the same cell and
    anchor the later one is used.
    """
    parts = [_assign_scale(boxes, scale, layout, anchor_margin) for scale in range(3)]
    cells, offsets, ignored = (np.concatenate(column) for column in zip(*parts, strict=True))
    unique, last = np.unique(cells[::-1], return_index=True)
    given = np.zeros(len(boxes), np.int64) if labels is None else labels
    return Target(
        torch.from_numpy(unique),
        torch.from_numpy(offsets[::-1][last].astype(np.float32)),
        torch.from_numpy(np.setdiff1d(ignored, unique)),
        torch.from_numpy(np.tile(given, 3)[::-1][last].astype(np.int64)),
        torch.from_numpy(np.setdiff1d(unique, ignored)),
    )


def _assign_scale(
    boxes: NDArray[np.floating], scale: int, layout: AnchorLayout, margin: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    side = layout.sides[scale]
    corners = boxes.reshape(-1, 4).astype(np.float64) * (side / layout.size)
    centers, shapes = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    anchors = np.array(ANCHORS[scale]) * (side / ANCHOR_BASE)
    cells = np.minimum(centers.astype(np.int64), side - 1)
    overlap = _shape_iou(shapes + margin, anchors + margin)
    best = overlap.argmax(axis=1)
    first = layout.starts[scale] + cells[:, 1] * side + cells[:, 0]
    every = first[:, None] + np.arange(3) * side * side
    offsets = np.concatenate([centers - cells, np.log(shapes / anchors[best])], axis=1)
    return first + best * side * side, offsets, every[overlap > IGNORE_IOU]


def _shape_iou(shapes: NDArray[np.float64], anchors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(G, 2) and (3, 2) widths and heights -> (G, 3) IoU of boxes with a common corner."""
    both = np.minimum(shapes[:, None], anchors).prod(axis=2)
    return np.asarray(both / (shapes.prod(axis=1)[:, None] + anchors.prod(axis=1) - both))


def detection_loss(
    raw: Tensor, targets: Sequence[Target], layout: AnchorLayout, settings: YoloSettings = OURS
) -> Tensor:
    """(B, P, 5 + K) outputs -> scalar: 2.5 x box loss + objectness loss + class loss.

    Box loss, of assigned predictions: cross-entropy of x, y + squared error of the log sizes.
    Objectness: cross-entropy, halved without a box. Class loss, of assigned predictions: mean of K
    cross-entropies. Means per scale, summed over scales.
    """
    device = raw.device
    cells = torch.cat([target.cells for target in targets]).to(device)
    image_of_each = _image_of_each([target.cells for target in targets]).to(device)
    goal = torch.zeros(raw.shape[:2], device=device)
    goal[image_of_each, cells] = 1
    weight = torch.full_like(goal, NO_OBJECT_WEIGHT)
    ignored = torch.cat([target.ignored for target in targets]).to(device)
    weight[_image_of_each([target.ignored for target in targets]).to(device), ignored] = 0
    weight[image_of_each, cells] = 1
    weight = weight * layout.scale_weights
    objects = F.binary_cross_entropy_with_logits(raw[..., 4], goal, weight, reduction="sum")
    offsets = torch.cat([target.offsets for target in targets]).to(device)
    assigned, scale = raw[image_of_each, cells], layout.scale_weights[cells]
    total = objects + BOX_WEIGHT * (_box_losses(assigned, offsets) * scale).sum()
    if raw.shape[-1] > 5:
        labels = torch.cat([target.labels for target in targets]).to(device)
        total = total + (_class_losses(assigned, labels) * scale).sum()
    if settings.empty_weight:
        total = total + settings.empty_weight * _poor_losses(raw, targets, layout)
    return total / len(raw)


def _class_losses(raw: Tensor, labels: Tensor) -> Tensor:
    """(K, 5 + C) outputs and (K,) classes -> (K,) mean cross-entropy of the C classes."""
    classes = raw[:, 5:]
    truth = F.one_hot(labels, classes.shape[1]).float()
    return F.binary_cross_entropy_with_logits(classes, truth, reduction="none").mean(dim=1)


def _poor_losses(raw: Tensor, targets: Sequence[Target], layout: AnchorLayout) -> Tensor:
    """The summed no-object loss of assigned predictions whose anchors overlap no box well."""
    poor = torch.cat([target.poor for target in targets]).to(raw.device)
    image_of_each = _image_of_each([target.poor for target in targets]).to(raw.device)
    return (F.softplus(raw[image_of_each, poor, 4]) * layout.scale_weights[poor]).sum()


def _image_of_each(parts: Sequence[Tensor]) -> Tensor:
    """The index within the batch of the image to which each entry belongs."""
    lengths = torch.tensor([len(part) for part in parts])
    return torch.arange(len(parts)).repeat_interleave(lengths)


def _box_losses(raw: Tensor, offsets: Tensor) -> Tensor:
    """(K, 5), (K, 4) -> (K,) loss of center and size."""
    place = F.binary_cross_entropy_with_logits(raw[:, :2], offsets[:, :2], reduction="none")
    return place.sum(dim=1) + (raw[:, 2:4] - offsets[:, 2:]).square().sum(dim=1)
