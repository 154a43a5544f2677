"""torchvision's FCOS head with a feature pyramid network over any encoder's pyramid.

Legend: B images, S input side, C channels, K classes. Boxes are xyxy in pixels of the square input.
Maps of strides 8, 16 and 32 are taken from the encoder, up-sampled by repetition or max-pooled
where it lacks one (a ViT has one map), and joined by torchvision's FPN with levels P3 to P7.
Scores are sqrt(class probability x centerness), as in FCOS.
Source: Tian et al. 2019; torchvision.models.detection.fcos, whose loss, anchors and decoding are
used unchanged. Differences: no resizing of the input; non-maximum suppression by the protocol's
settings; a side's distance starts at one cell instead of 0, where the ReLU behind it often died (3
of 8 fits on a toy data set found no left edge).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from g2dbench.evaluation.detection.detector import (
    Detected,
    Detector,
    NmsSettings,
    TrueBoxes,
    resampled,
    scale_inputs,
    suppress,
)

Target: TypeAlias = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class FcosSettings:
    """width: channels of the feature pyramid, a multiple of 32 from 64 on. convolutions: of each
    of the two branches of the head.
    """

    width: int = 256
    convolutions: int = 4

    def __post_init__(self) -> None:
        if self.width < 64 or self.width % 32:
            raise ValueError(f"the width of FCOS is a multiple of 32 from 64 on, not {self.width}")


class FcosHead(Detector):
    """Pyramid -> class logits, box distances and centerness of every cell of P3 to P7."""

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        size: int,
        classes: int,
        settings: FcosSettings,
    ) -> None:
        super().__init__()
        self.size = size
        self._scale_inputs = scale_inputs(strides)
        width = settings.width
        self.pyramid = FeaturePyramidNetwork(
            [channels[source.level] for source in self._scale_inputs],
            width,
            LastLevelP6P7(width, width),
        )
        head = FCOSHead(width, 1, classes, settings.convolutions)
        nn.init.ones_(head.regression_head.bbox_reg.bias)
        self.fcos = FCOS(_NoBackbone(width), classes, head=head)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Any]:
        """A pyramid with the constructor's channels and strides -> raw outputs of `loss`."""
        scales = {
            str(n): resampled(maps[source.level], source.halvings)
            for n, source in enumerate(self._scale_inputs)
        }
        levels = list(self.pyramid(scales).values())
        shape = (self.size, self.size)
        images = ImageList(levels[0].new_zeros(len(maps[0]), 1, *shape), [shape] * len(maps[0]))
        found: dict[str, Any] = self.fcos.head(levels)
        found["anchors"] = self.fcos.anchor_generator(images, levels)
        found["cells"] = [level.shape[-2] * level.shape[-1] for level in levels]
        return found

    def target(self, truth: TrueBoxes) -> Target:
        """torchvision's form."""
        boxes, labels = torch.from_numpy(truth.boxes), torch.from_numpy(truth.labels)
        return {"boxes": boxes.float().reshape(-1, 4), "labels": labels}

    def loss(self, raw: dict[str, Any], targets: Sequence[Target]) -> Tensor:
        """Focal loss of the classes, GIoU loss of the boxes, cross-entropy of the centerness."""
        anchors, device = raw["anchors"], raw["cls_logits"].device
        placed = [{name: value.to(device) for name, value in one.items()} for one in targets]
        outputs = {name: value for name, value in raw.items() if isinstance(value, Tensor)}
        losses = self.fcos.compute_loss(placed, outputs, anchors, raw["cells"])
        return torch.stack(list(losses.values())).sum()

    def detect(self, raw: dict[str, Any], settings: NmsSettings) -> list[Detected]:
        """Every cell and class is a candidate, the best 1,000 of each image; then suppression."""
        chance = (raw["cls_logits"].sigmoid() * raw["bbox_ctrness"].sigmoid()).sqrt()
        found = []
        for scores, distances, anchors in zip(
            chance, raw["bbox_regression"], raw["anchors"], strict=True
        ):
            best, index = scores.flatten().topk(min(1000, scores.numel()))
            cell, label = index // scores.shape[1], index % scores.shape[1]
            boxes = self.fcos.box_coder.decode(distances[cell], anchors[cell])
            found.append(suppress(boxes.clamp(0, self.size), best, label, settings))
        return found


class _NoBackbone(nn.Module):
    """FCOS asks a backbone for its width only; the encoder runs outside."""

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
