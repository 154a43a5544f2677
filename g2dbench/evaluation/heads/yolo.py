"""A one-class YOLOv3 head for any feature pyramid: layers, anchors, targets, loss, boxes.

Legend: B images, S input side, C channels, h w the grid of one scale, G ground truth boxes.
P predictions of an image, ordered by scale (fine to coarse), anchor, row, column: 3 x h x w of each
of three scales. Boxes are xyxy in pixels of the square input.

Source: MGCA mgca/models/ssl_detector.py and mgca/utils/yolo_loss.py. Differences:
  - no class output: with one class its target is always 1, and no score uses it.
  - a prediction assigned to a ground truth box has no no-object loss; in MGCA it has both losses
    if no anchor overlaps the box by more than one half.
  - the overlap of anchor and box is their IoU; MGCA adds 1 grid cell to each side.
  - sizes are exp(output) x anchor with the output limited to `MAX_LOG_SIZE`: no box is infinite.
  - channels are fractions of the coarsest map's channels, so that a small encoder gets a small
    head; for ResNet-50's 2048 they equal MGCA's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import nms

from g2dbench.errors import Unsupported

LEVELS = (3, 4, 5)
"""log2 of the strides of the three scales: 8, 16 and 32."""

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
MAX_LOG_SIZE = 4.0
MIN_WIDTH = 16


class ScaleInput(NamedTuple):
    """The pyramid level that a scale uses, max-pooled (halvings > 0) or up-sampled (< 0)."""

    level: int
    halvings: int


def scale_inputs(strides: Sequence[int]) -> tuple[ScaleInput, ...]:
    """Inputs for strides 8, 16 and 32: the level of that stride, else the next finer one,
    max-pooled, else the next coarser one, up-sampled. Strides are rounded to a power of two.
    """
    levels = [round(math.log2(stride)) for stride in strides]
    chosen = []
    for wanted in LEVELS:
        finer = [level for level in levels if level <= wanted]
        level = max(finer) if finer else min(levels)
        chosen.append(ScaleInput(levels.index(level), wanted - level))
    return tuple(chosen)


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
    indices of predictions without loss.
    """

    cells: Tensor
    offsets: Tensor
    ignored: Tensor


def assign_targets(boxes: NDArray[np.floating], layout: AnchorLayout) -> Target:
    """(G, 4) boxes -> targets: each box is assigned to the best anchor of its cell on every scale.

    Boxes need an area. Of two boxes with the same cell and anchor the later one is used.
    """
    parts = [_assign_scale(boxes, scale, layout) for scale in range(3)]
    cells, offsets, ignored = (np.concatenate(column) for column in zip(*parts, strict=True))
    unique, last = np.unique(cells[::-1], return_index=True)
    return Target(
        torch.from_numpy(unique),
        torch.from_numpy(offsets[::-1][last].astype(np.float32)),
        torch.from_numpy(np.setdiff1d(ignored, unique)),
    )


def _assign_scale(
    boxes: NDArray[np.floating], scale: int, layout: AnchorLayout
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    side = layout.sides[scale]
    corners = boxes.reshape(-1, 4).astype(np.float64) * (side / layout.size)
    centers, shapes = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    anchors = np.array(ANCHORS[scale]) * (side / ANCHOR_BASE)
    cells = np.minimum(centers.astype(np.int64), side - 1)
    overlap = _shape_iou(shapes, anchors)
    best = overlap.argmax(axis=1)
    first = layout.starts[scale] + cells[:, 1] * side + cells[:, 0]
    every = first[:, None] + np.arange(3) * side * side
    offsets = np.concatenate([centers - cells, np.log(shapes / anchors[best])], axis=1)
    return first + best * side * side, offsets, every[overlap > IGNORE_IOU]


def _shape_iou(shapes: NDArray[np.float64], anchors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(G, 2) and (3, 2) widths and heights -> (G, 3) IoU of boxes with a common corner."""
    both = np.minimum(shapes[:, None], anchors).prod(axis=2)
    return np.asarray(both / (shapes.prod(axis=1)[:, None] + anchors.prod(axis=1) - both))


def detection_loss(raw: Tensor, targets: Sequence[Target], layout: AnchorLayout) -> Tensor:
    """(B, P, 5) outputs -> scalar: 2.5 x box loss + objectness loss.

    Box loss, of assigned predictions: cross-entropy of x, y + squared error of the log sizes.
    Objectness: cross-entropy, halved without a box. Means per scale, summed over scales.
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
    boxes = _box_losses(raw[image_of_each, cells], offsets) * layout.scale_weights[cells]
    return (objects + BOX_WEIGHT * boxes.sum()) / len(raw)


def _image_of_each(parts: Sequence[Tensor]) -> Tensor:
    """The index within the batch of the image to which each entry belongs."""
    lengths = torch.tensor([len(part) for part in parts])
    return torch.arange(len(parts)).repeat_interleave(lengths)


def _box_losses(raw: Tensor, offsets: Tensor) -> Tensor:
    """(K, 5), (K, 4) -> (K,) loss of center and size."""
    place = F.binary_cross_entropy_with_logits(raw[:, :2], offsets[:, :2], reduction="none")
    return place.sum(dim=1) + (raw[:, 2:4] - offsets[:, 2:]).square().sum(dim=1)


@dataclass(frozen=True, kw_only=True)
class NmsSettings:
    """Non-maximum suppression: minimum confidence, maximum IoU, maximum detections per image."""

    min_score: float = 0.001
    max_iou: float = 0.5
    max_detections: int = 100


def decode(raw: Tensor, layout: AnchorLayout) -> tuple[Tensor, Tensor]:
    """(B, P, 5) outputs -> boxes (B, P, 4), not clipped, and confidences (B, P) in [0, 1]."""
    centers = (torch.sigmoid(raw[..., :2]) + layout.cells) * layout.strides
    half = raw[..., 2:4].clamp(max=MAX_LOG_SIZE).exp() * layout.anchors / 2
    return torch.cat([centers - half, centers + half], dim=-1), torch.sigmoid(raw[..., 4])


def detections(
    raw: Tensor, layout: AnchorLayout, settings: NmsSettings
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """(B, P, 5) outputs -> for each image boxes (N, 4) and confidences (N,), decreasing.

    Boxes are clipped to the input; boxes without area are dropped.
    """
    boxes, scores = decode(raw, layout)
    inside = boxes.clamp(0, layout.size)
    return [_suppress(*pair, settings) for pair in zip(inside, scores, strict=True)]


def _suppress(
    boxes: Tensor, scores: Tensor, settings: NmsSettings
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    sides = boxes[:, 2:] - boxes[:, :2]
    eligible = (scores >= settings.min_score) & (sides > 0).all(dim=1)
    boxes, scores = boxes[eligible], scores[eligible]
    kept = nms(boxes, scores, settings.max_iou)[: settings.max_detections]
    return boxes[kept].cpu().numpy(), scores[kept].cpu().numpy()


class YoloHead(nn.Module):
    """Pyramid -> (B, P, 5): x, y, width, height and objectness logits of every prediction.

    channels, strides: of the input pyramid; `scale_inputs` selects its levels. Raises Unsupported
    if the coarsest grid has one cell: too few for batch norm with one image.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], size: int) -> None:
        super().__init__()
        self.size = size
        self._scale_inputs = scale_inputs(strides)
        self.sides = tuple(
            _grid_side(size // strides[s.level], s.halvings) for s in self._scale_inputs
        )
        if self.sides[-1] < 2:
            raise Unsupported(
                f"the detection head needs an input of at least 64 pixels; this model's is {size}"
            )
        fine, middle, coarse = (channels[source.level] for source in self._scale_inputs)
        half, quarter, eighth, least = (
            max(MIN_WIDTH, channels[-1] // share) for share in (2, 4, 8, 16)
        )
        self.coarse = _ScaleBranch(coarse, quarter, half)
        self.to_middle = _conv_block(quarter, eighth, 1)
        self.middle = _ScaleBranch(middle + eighth, eighth, quarter)
        self.to_fine = _conv_block(eighth, least, 1)
        self.fine = _ScaleBranch(fine + least, least, eighth)

    def layout(self, device: torch.device) -> AnchorLayout:
        """Anchors and grid cells of this head's predictions."""
        return AnchorLayout(self.size, self.sides, device)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """A pyramid with the constructor's channels and strides -> (B, P, 5)."""
        fine, middle, coarse = (
            _resampled(pyramid[source.level], source.halvings) for source in self._scale_inputs
        )
        branch, out_coarse = self.coarse(coarse)
        branch, out_middle = self.middle(_joined(self.to_middle(branch), middle))
        _, out_fine = self.fine(_joined(self.to_fine(branch), fine))
        return torch.cat([_flat(out) for out in (out_fine, out_middle, out_coarse)], dim=1)


class _ScaleBranch(nn.Module):
    """(B, C, h, w) -> features (B, narrow, h, w) for the finer scale, outputs (B, 15, h, w)."""

    def __init__(self, channels: int, narrow: int, wide: int) -> None:
        super().__init__()
        steps = [(channels, narrow, 1), *[(narrow, wide, 3), (wide, narrow, 1)] * 2]
        self.trunk = nn.Sequential(*(_conv_block(*step) for step in steps))
        self.out = nn.Sequential(_conv_block(narrow, wide, 3), nn.Conv2d(wide, 15, 1))

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        branch: Tensor = self.trunk(maps)
        return branch, self.out(branch)


def _conv_block(channels: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.1),
    )


def _grid_side(side: int, halvings: int) -> int:
    return math.ceil(side * 2.0**-halvings)


def _resampled(maps: Tensor, halvings: int) -> Tensor:
    if halvings < 0:
        return F.interpolate(maps, scale_factor=2**-halvings, mode="nearest")
    return F.max_pool2d(maps, 2**halvings, ceil_mode=True) if halvings else maps


def _joined(coarse: Tensor, fine: Tensor) -> Tensor:
    """Up-sample the coarse map to the grid of the fine one and concatenate both."""
    return torch.cat([F.interpolate(coarse, size=fine.shape[-2:], mode="nearest"), fine], dim=1)


def _flat(out: Tensor) -> Tensor:
    """(B, 3 x 5, h, w) -> (B, 3 x h x w, 5)."""
    outputs = out.reshape(len(out), 3, 5, *out.shape[2:])
    return outputs.permute(0, 1, 3, 4, 2).flatten(1, 3)
