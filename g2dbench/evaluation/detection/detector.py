"""What every detection head offers: targets, a loss, and boxes after non-maximum suppression.

Legend: B images, G ground truth boxes, D detections. Boxes are xyxy in pixels of the square input.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms

LEVELS = (3, 4, 5)
"""log2 of the strides of the three scales: 8, 16 and 32."""


class TrueBoxes(NamedTuple):
    """Ground truth of one image: boxes (G, 4) and the index of each box's class (G,)."""

    boxes: NDArray[np.floating]
    labels: NDArray[np.int64]


class Detected(NamedTuple):
    """Detections of one image in decreasing order of score: (D, 4), (D,), class index (D,)."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class NmsSettings:
    """Non-maximum suppression, within each class.

    min_score: of a detection. max_iou: with a better one. max_detections: per image. margin: pixels
    added to the sides of boxes when they are compared; MGCA adds 1.
    """

    min_score: float = 0.001
    max_iou: float = 0.5
    max_detections: int = 100
    margin: float = 0.0


class Detector(nn.Module):
    """A detection head: pyramid -> raw outputs; how they are fitted and read."""

    @abstractmethod
    def target(self, truth: TrueBoxes) -> Any:
        """The regression target of one image, computed once."""

    @abstractmethod
    def loss(self, raw: Any, targets: Sequence[Any]) -> Tensor:
        """The scalar loss of a batch of raw outputs."""

    @abstractmethod
    def detect(self, raw: Any, settings: NmsSettings) -> list[Detected]:
        """The detections of each image of a batch, clipped to the input."""


def suppress(boxes: Tensor, scores: Tensor, labels: Tensor, settings: NmsSettings) -> Detected:
    """(D, 4), (D,), (D,) of one image -> those that are left; boxes without area are dropped."""
    sides = boxes[:, 2:] - boxes[:, :2]
    eligible = (scores >= settings.min_score) & (sides > 0).all(dim=1)
    boxes, scores, labels = boxes[eligible], scores[eligible], labels[eligible]
    margin = boxes.new_tensor([0, 0, settings.margin, settings.margin])
    kept = batched_nms(boxes + margin, scores, labels, settings.max_iou)[: settings.max_detections]
    return Detected(*(part[kept].detach().cpu().numpy() for part in (boxes, scores, labels)))


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


def resampled(maps: Tensor, halvings: int) -> Tensor:
    """(B, C, h, w), halved by max-pooling or doubled by repetition as often as given."""
    if halvings < 0:
        return F.interpolate(maps, scale_factor=2**-halvings, mode="nearest")
    return F.max_pool2d(maps, 2**halvings, ceil_mode=True) if halvings else maps


def grid_side(side: int, halvings: int) -> int:
    """The side of a map after `resampled`."""
    return math.ceil(side * 2.0**-halvings)
