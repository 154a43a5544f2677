"""ResNets of torchvision inside published models: construction, feature pyramid, key names.

Shapes: B images, S input side.
"""

from collections.abc import Mapping
from typing import Any

import torchvision
from torch import Tensor, nn

from g2dbench.pretrained.weights import State

CHANNELS, STRIDES = (64, 256, 512, 1024, 2048), (2, 4, 8, 16, 32)
"""The feature pyramid of a ResNet-50."""

_STAGES = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""Place among a ResNet's children, the key in an `nn.Sequential`, -> name in torchvision."""


def make_resnet(depth: int = 50) -> Any:
    """A torchvision ResNet with random weights and without its classifier."""
    trunk = getattr(torchvision.models, f"resnet{depth}")(weights=None)
    trunk.fc = nn.Identity()
    return trunk


def pyramid(trunk: Any, images: Tensor) -> list[Tensor]:
    """(B, 3, S, S) -> five feature maps of strides 2 to 32."""
    maps = [trunk.relu(trunk.bn1(trunk.conv1(images)))]
    maps.append(trunk.layer1(trunk.maxpool(maps[0])))
    for stage in (trunk.layer2, trunk.layer3, trunk.layer4):
        maps.append(stage(maps[-1]))
    return maps


def name_stages(state: Mapping[str, Tensor], prefix: str) -> State:
    """Keys of a ResNet in an `nn.Sequential` (PREFIX + "4.0...") -> torchvision's ("layer1.0...").

    Keys that already have torchvision's names, and keys of other parts, stay as they are.
    """
    return {_named(key, prefix): value for key, value in state.items()}


def _named(key: str, prefix: str) -> str:
    position, dot, rest = key.removeprefix(prefix).partition(".")
    if not key.startswith(prefix) or position not in _STAGES:
        return key
    return f"{prefix}{_STAGES[position]}{dot}{rest}"
