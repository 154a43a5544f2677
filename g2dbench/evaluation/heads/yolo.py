"""A YOLOv3 head with one class on any feature pyramid: layers, anchors, targets, loss, boxes.

Legend: B images, S input side, C channels, h w the grid of one scale, G truth boxes.
P predictions of an image, ordered by scale (fine to coarse), anchor, row, column: 3 x h x w of each
of three scales. Boxes are xyxy in pixels of the input square.

Source: MGCA mgca/models/ssl_detector.py and mgca/utils/yolo_loss.py. Where we differ, and why:
  - the class output is left out: with one class its target is always 1, and no score reads it.
  - a cell that stands for a truth box is never punished as empty; MGCA does both at once where
    no anchor overlaps the box by more than one half.
  - an anchor's overlap with a box is their plain IoU; MGCA adds 1 to every side, in cells.
  - sizes are exp(output) x anchor with the output cut at `MAX_LOG`, so that no box is infinite.
  - widths are shares of the coarsest map's channels, so that a small encoder gets a small head;
    with ResNet-50's 2048 they are MGCA's.
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
"""The three scales as powers of two: strides 8, 16 and 32."""

ANCHORS = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
"""(width, height) of each scale's anchors, fine to coarse, for an input of ANCHOR_BASE pixels."""

ANCHOR_BASE = 416
IGNORED_IOU = 0.5
"""An anchor that overlaps a box in its cell by more is not punished as empty."""

BOX_WEIGHT, EMPTY_WEIGHT = 2.5, 0.5
MAX_LOG = 4.0
LEAST_WIDTH = 16


class Source(NamedTuple):
    """The level of a pyramid that a scale reads, max-pooled (above 0) or repeated (below 0)."""

    level: int
    halvings: int


def sources(strides: Sequence[int]) -> tuple[Source, ...]:
    """For strides 8, 16 and 32: the level of that stride; else the next finer one, max-pooled;
    else the next coarser one, up-sampled. A stride that is no power of two counts as the nearest.
    """
    levels = [round(math.log2(stride)) for stride in strides]
    chosen = []
    for wanted in LEVELS:
        finer = [level for level in levels if level <= wanted]
        level = max(finer) if finer else min(levels)
        chosen.append(Source(levels.index(level), wanted - level))
    return tuple(chosen)


class Layout:
    """Where an image's P predictions stand.

    sides: of the three grids, fine to coarse. Tensors on one device: `anchors` (P, 2) width and
    height in pixels, `cells` (P, 2) column and row, `strides` (P, 1) pixels per cell, `shares` (P,)
    1 / (predictions of this scale): each scale's loss is a mean over its own predictions.
    """

    def __init__(self, size: int, sides: Sequence[int], device: torch.device) -> None:
        self.size = size
        self.sides = tuple(sides)
        counts = [3 * side * side for side in self.sides]
        self.starts = np.cumsum([0, *counts])
        """First prediction of each scale; the last entry is P."""
        scale = torch.arange(3).repeat_interleave(torch.tensor(counts))
        side = torch.tensor(self.sides)[scale]
        place = torch.arange(len(scale)) - torch.from_numpy(self.starts)[scale]
        anchors = torch.tensor(ANCHORS) * (size / ANCHOR_BASE)
        self.anchors = anchors[scale, place // side**2].to(device)
        self.cells = torch.stack([place % side, place // side % side], dim=1).to(device)
        self.strides = (size / side)[:, None].to(device)
        self.shares = (1 / torch.tensor(counts))[scale].to(device)


class Target(NamedTuple):
    """What one image's predictions should say.

    cells (K,) predictions that stand for a truth box; offsets (K, 4) their x and y within the cell
    and the logarithms of width and height over the anchor's; ignored (I,) predictions that may say
    what they like.
    """

    cells: Tensor
    offsets: Tensor
    ignored: Tensor


def assign(boxes: NDArray[np.floating], layout: Layout) -> Target:
    """(G, 4) boxes with an area -> each one's best anchor in its cell, on all three scales.

    Of two boxes on one cell and anchor the later one stays.
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
    boxes: NDArray[np.floating], scale: int, layout: Layout
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    side = layout.sides[scale]
    corners = boxes.reshape(-1, 4).astype(np.float64) * (side / layout.size)
    centres, shapes = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    anchors = np.array(ANCHORS[scale]) * (side / ANCHOR_BASE)
    cells = np.minimum(centres.astype(np.int64), side - 1)
    overlap = _shape_iou(shapes, anchors)
    best = overlap.argmax(axis=1)
    first = layout.starts[scale] + cells[:, 1] * side + cells[:, 0]
    every = first[:, None] + np.arange(3) * side * side
    offsets = np.concatenate([centres - cells, np.log(shapes / anchors[best])], axis=1)
    return first + best * side * side, offsets, every[overlap > IGNORED_IOU]


def _shape_iou(shapes: NDArray[np.float64], anchors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(G, 2) and (3, 2) widths and heights -> (G, 3) IoU with the corners put together."""
    both = np.minimum(shapes[:, None], anchors).prod(axis=2)
    return np.asarray(both / (shapes.prod(axis=1)[:, None] + anchors.prod(axis=1) - both))


def detection_loss(raw: Tensor, targets: Sequence[Target], layout: Layout) -> Tensor:
    """(B, P, 5) outputs -> scalar: 2.5 x (cross-entropy of x, y + squared error of the logarithmic
    sizes) of the cells with a truth box + cross-entropy of the objectness, empty cells by half.

    Each term is a mean over all predictions of its scale, then summed over scales.
    """
    device = raw.device
    cells = torch.cat([target.cells for target in targets]).to(device)
    owners = _owners([target.cells for target in targets]).to(device)
    goal = torch.zeros(raw.shape[:2], device=device)
    goal[owners, cells] = 1
    weight = torch.full_like(goal, EMPTY_WEIGHT)
    ignored = torch.cat([target.ignored for target in targets]).to(device)
    weight[_owners([target.ignored for target in targets]).to(device), ignored] = 0
    weight[owners, cells] = 1
    weight = weight * layout.shares
    objects = F.binary_cross_entropy_with_logits(raw[..., 4], goal, weight, reduction="sum")
    offsets = torch.cat([target.offsets for target in targets]).to(device)
    boxes = _box_errors(raw[owners, cells], offsets) * layout.shares[cells]
    return (objects + BOX_WEIGHT * boxes.sum()) / len(raw)


def _owners(parts: Sequence[Tensor]) -> Tensor:
    """The image, within the batch, that each entry belongs to."""
    lengths = torch.tensor([len(part) for part in parts])
    return torch.arange(len(parts)).repeat_interleave(lengths)


def _box_errors(raw: Tensor, offsets: Tensor) -> Tensor:
    """(K, 5), (K, 4) -> (K,) errors of place and size."""
    place = F.binary_cross_entropy_with_logits(raw[:, :2], offsets[:, :2], reduction="none")
    return place.sum(dim=1) + (raw[:, 2:4] - offsets[:, 2:]).square().sum(dim=1)


@dataclass(frozen=True, kw_only=True)
class Suppression:
    """Kept of an image: confidence of `least` or more, no more than `iou` overlap with a more
    confident one, and of these the `most` most confident.
    """

    least: float = 0.001
    iou: float = 0.5
    most: int = 100


def decode(raw: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """(B, P, 5) outputs -> boxes (B, P, 4), not clipped, and confidences (B, P) in [0, 1]."""
    centres = (torch.sigmoid(raw[..., :2]) + layout.cells) * layout.strides
    half = raw[..., 2:4].clamp(max=MAX_LOG).exp() * layout.anchors / 2
    return torch.cat([centres - half, centres + half], dim=-1), torch.sigmoid(raw[..., 4])


def detections(
    raw: Tensor, layout: Layout, settings: Suppression
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """(B, P, 5) outputs -> for each image boxes (N, 4) and confidences (N,), falling.

    Boxes are clipped to the input; one without an area is no detection.
    """
    boxes, scores = decode(raw, layout)
    inside = boxes.clamp(0, layout.size)
    return [_suppress(*pair, settings) for pair in zip(inside, scores, strict=True)]


def _suppress(
    boxes: Tensor, scores: Tensor, settings: Suppression
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    sides = boxes[:, 2:] - boxes[:, :2]
    eligible = (scores >= settings.least) & (sides > 0).all(dim=1)
    boxes, scores = boxes[eligible], scores[eligible]
    kept = nms(boxes, scores, settings.iou)[: settings.most]
    return boxes[kept].cpu().numpy(), scores[kept].cpu().numpy()


class YoloHead(nn.Module):
    """Pyramid -> (B, P, 5): x, y, width, height and objectness of every prediction, raw.

    channels and strides describe the pyramid that it is given; `sources` says what becomes of it.
    Raises Unsupported where the coarsest grid is one cell, too few to normalise a batch of one.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], size: int) -> None:
        super().__init__()
        self.size = size
        self._sources = sources(strides)
        self.sides = tuple(_side(size // strides[s.level], s.halvings) for s in self._sources)
        if self.sides[-1] < 2:
            raise Unsupported(
                f"the detection head needs an input of at least 64 pixels; this model's is {size}"
            )
        fine, middle, coarse = (channels[source.level] for source in self._sources)
        half, quarter, eighth, least = (
            max(LEAST_WIDTH, channels[-1] // share) for share in (2, 4, 8, 16)
        )
        self.coarse = _Scale(coarse, quarter, half)
        self.to_middle = _layer(quarter, eighth, 1)
        self.middle = _Scale(middle + eighth, eighth, quarter)
        self.to_fine = _layer(eighth, least, 1)
        self.fine = _Scale(fine + least, least, eighth)

    def layout(self, device: torch.device) -> Layout:
        """Where this head's predictions stand."""
        return Layout(self.size, self.sides, device)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Pyramid as described to the constructor -> (B, P, 5)."""
        fine, middle, coarse = (
            _resampled(pyramid[source.level], source.halvings) for source in self._sources
        )
        branch, out_coarse = self.coarse(coarse)
        branch, out_middle = self.middle(_joined(self.to_middle(branch), middle))
        _, out_fine = self.fine(_joined(self.to_fine(branch), fine))
        return torch.cat([_flat(out) for out in (out_fine, out_middle, out_coarse)], dim=1)


class _Scale(nn.Module):
    """(B, C, h, w) -> a branch (B, narrow, h, w) for the finer scale, (B, 15, h, w) outputs."""

    def __init__(self, channels: int, narrow: int, wide: int) -> None:
        super().__init__()
        steps = [(channels, narrow, 1), *[(narrow, wide, 3), (wide, narrow, 1)] * 2]
        self.trunk = nn.Sequential(*(_layer(*step) for step in steps))
        self.out = nn.Sequential(_layer(narrow, wide, 3), nn.Conv2d(wide, 15, 1))

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        branch: Tensor = self.trunk(maps)
        return branch, self.out(branch)


def _layer(channels: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.1),
    )


def _side(side: int, halvings: int) -> int:
    return math.ceil(side * 2.0**-halvings)


def _resampled(maps: Tensor, halvings: int) -> Tensor:
    if halvings < 0:
        return F.interpolate(maps, scale_factor=2**-halvings, mode="nearest")
    return F.max_pool2d(maps, 2**halvings, ceil_mode=True) if halvings else maps


def _joined(coarse: Tensor, fine: Tensor) -> Tensor:
    """The coarser map repeated to the finer one's grid, and both as one."""
    return torch.cat([F.interpolate(coarse, size=fine.shape[-2:], mode="nearest"), fine], dim=1)


def _flat(out: Tensor) -> Tensor:
    """(B, 3 x 5, h, w) -> (B, 3 x h x w, 5)."""
    outputs = out.reshape(len(out), 3, 5, *out.shape[2:])
    return outputs.permute(0, 1, 3, 4, 2).flatten(1, 3)
