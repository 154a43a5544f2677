"""A YOLOv3 head for any feature pyramid: layers and boxes.

Legend: B images, S input side, C channels, h w the grid of one scale, K class outputs, P
predictions of an image, ordered as in yolo_targets. Boxes are xyxy in pixels of the square input.

Source: MGCA mgca/models/ssl_detector.py. Differences, beside those of `yolo_targets.YoloSettings`:
  - sizes are exp(output) x anchor with the output limited to `MAX_LOG_SIZE`: no box is infinite.
  - channels are fractions of the coarsest map's channels, so that a small encoder gets a small
    head; for ResNet-50's 2048 they equal MGCA's.
  - with several classes, a prediction has the most probable class, and its score is objectness x
    class probability; MGCA has one class, and scores are objectness.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from g2dbench.errors import Unsupported
from g2dbench.evaluation.detection.detector import (
    Detected,
    Detector,
    NmsSettings,
    TrueBoxes,
    grid_side,
    resampled,
    scale_inputs,
    suppress,
)
from g2dbench.evaluation.detection.yolo_targets import (
    OURS,
    AnchorLayout,
    Target,
    YoloSettings,
    assign_targets,
    detection_loss,
)

MAX_LOG_SIZE = 4.0
MIN_WIDTH = 16


def decode(raw: Tensor, layout: AnchorLayout) -> tuple[Tensor, Tensor, Tensor]:
    """(B, P, 5 + K) outputs -> boxes (B, P, 4), not clipped; scores and classes, each (B, P)."""
    centers = (torch.sigmoid(raw[..., :2]) + layout.cells) * layout.strides
    half = raw[..., 2:4].clamp(max=MAX_LOG_SIZE).exp() * layout.anchors / 2
    boxes, scores = torch.cat([centers - half, centers + half], dim=-1), torch.sigmoid(raw[..., 4])
    labels = torch.zeros_like(scores, dtype=torch.int64)
    if raw.shape[-1] > 6:
        probability, labels = torch.sigmoid(raw[..., 5:]).max(dim=-1)
        scores = scores * probability
    return boxes, scores, labels


def detections(raw: Tensor, layout: AnchorLayout, settings: NmsSettings) -> list[Detected]:
    """(B, P, 5 + K) outputs -> the detections of each image, clipped to the input."""
    boxes, scores, labels = decode(raw, layout)
    inside = boxes.clamp(0, layout.size)
    return [suppress(*one, settings) for one in zip(inside, scores, labels, strict=True)]


class YoloHead(Detector):
    """Pyramid -> (B, P, 5 + K): x, y, width, height, objectness and class logits.

    channels, strides: of the input pyramid; `scale_inputs` selects its levels. Raises Unsupported
    if the coarsest grid has one cell: too few for batch norm with one image.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        size: int,
        classes: int = 1,
        settings: YoloSettings = OURS,
    ) -> None:
        super().__init__()
        self.size, self.settings = size, settings
        self._layouts: dict[torch.device, AnchorLayout] = {}
        outputs = 5 + (classes if classes > 1 or settings.class_outputs == "always" else 0)
        self._scale_inputs = scale_inputs(strides)
        self.sides = tuple(
            grid_side(size // strides[s.level], s.halvings) for s in self._scale_inputs
        )
        if self.sides[-1] < 2:
            raise Unsupported(
                f"the detection head needs an input of at least 64 pixels; this model's is {size}"
            )
        fine, middle, coarse = (channels[source.level] for source in self._scale_inputs)
        half, quarter, eighth, least = (
            max(MIN_WIDTH, channels[-1] // share) for share in (2, 4, 8, 16)
        )
        self.coarse = _ScaleBranch(coarse, quarter, half, outputs)
        self.to_middle = _conv_block(quarter, eighth, 1)
        self.middle = _ScaleBranch(middle + eighth, eighth, quarter, outputs)
        self.to_fine = _conv_block(eighth, least, 1)
        self.fine = _ScaleBranch(fine + least, least, eighth, outputs)

    def layout(self, device: torch.device) -> AnchorLayout:
        """Anchors and grid cells of this head's predictions."""
        if device not in self._layouts:
            self._layouts[device] = AnchorLayout(self.size, self.sides, device)
        return self._layouts[device]

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """A pyramid with the constructor's channels and strides -> (B, P, 5 + K)."""
        fine, middle, coarse = (
            resampled(pyramid[source.level], source.halvings) for source in self._scale_inputs
        )
        branch, out_coarse = self.coarse(coarse)
        branch, out_middle = self.middle(_joined(self.to_middle(branch), middle))
        _, out_fine = self.fine(_joined(self.to_fine(branch), fine))
        return torch.cat([_flat(out) for out in (out_fine, out_middle, out_coarse)], dim=1)

    def target(self, truth: TrueBoxes) -> Target:
        """See `assign_targets`."""
        layout = self.layout(torch.device("cpu"))
        return assign_targets(truth.boxes, layout, truth.labels, self.settings.anchor_margin)

    def loss(self, raw: Tensor, targets: Sequence[Target]) -> Tensor:
        """See `detection_loss`."""
        return detection_loss(raw, targets, self.layout(raw.device), self.settings)

    def detect(self, raw: Tensor, settings: NmsSettings) -> list[Detected]:
        """See `detections`."""
        return detections(raw, self.layout(raw.device), settings)


class _ScaleBranch(nn.Module):
    """(B, C, h, w) -> features (B, narrow, h, w), outputs (B, 3 (5 + K), h, w)."""

    def __init__(self, channels: int, narrow: int, wide: int, outputs: int) -> None:
        super().__init__()
        steps = [(channels, narrow, 1), *[(narrow, wide, 3), (wide, narrow, 1)] * 2]
        self.trunk = nn.Sequential(*(_conv_block(*step) for step in steps))
        self.out = nn.Sequential(_conv_block(narrow, wide, 3), nn.Conv2d(wide, 3 * outputs, 1))

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        branch: Tensor = self.trunk(maps)
        return branch, self.out(branch)


def _conv_block(channels: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.1),
    )


def _joined(coarse: Tensor, fine: Tensor) -> Tensor:
    """Up-sample the coarse map to the grid of the fine one and concatenate both."""
    return torch.cat([F.interpolate(coarse, size=fine.shape[-2:], mode="nearest"), fine], dim=1)


def _flat(out: Tensor) -> Tensor:
    """(B, 3 (5 + K), h, w) -> (B, 3 h w, 5 + K)."""
    outputs: Tensor = out.unflatten(1, (3, -1))
    return outputs.permute(0, 1, 3, 4, 2).flatten(1, 3)
