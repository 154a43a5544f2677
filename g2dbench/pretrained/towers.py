"""Image towers with the key names of torchvision and transformers, as feature pyramids.

Shapes: B batch, S input side, C channels. Weights are random until a state_dict is loaded.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision.models import resnet50
from transformers import SwinConfig, SwinModel

from g2dbench.pretrained.image.resnet import CHANNELS, STRIDES
from g2dbench.pretrained.layouts import layers_in, renamed
from g2dbench.pretrained.weights import State, load_state


class ResNetTower(nn.Module):
    """torchvision's ResNet-50 without its classifier; `network` has the official key names.

    stages: how many of the four it has; MedKLIP's has three.
    """

    channels: tuple[int, ...] = CHANNELS
    strides: tuple[int, ...] = STRIDES
    fixed_size = False

    def __init__(self, in_channels: int = 3, stages: int = 4) -> None:
        super().__init__()
        self.network: Any = resnet50(weights=None)
        self.network.fc = nn.Identity()
        if in_channels != 3:
            self.network.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self._stages = [f"layer{i}" for i in range(1, stages + 1)]
        for i in range(stages + 1, 5):
            delattr(self.network, f"layer{i}")
        self.channels = CHANNELS[: stages + 1]
        self.strides = STRIDES[: stages + 1]

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, C, S, S) -> the feature maps of strides 2 to 32, or to that of the last stage."""
        net = self.network
        maps = [net.relu(net.bn1(net.conv1(images)))]
        below = net.maxpool(maps[0])
        for name in self._stages:
            below = getattr(net, name)(below)
            maps.append(below)
        return maps

    def pooled(self, images: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, channels of the last map): the mean of the last map."""
        return self.pyramid(images)[-1].mean(dim=(2, 3))


class SwinTower(nn.Module):
    """transformers' Swin of one input size; the sizes are those of a state_dict.

    Maps: the patch embedding, the outputs of the first stages, and the last one after its norm.
    """

    fixed_size = True

    @classmethod
    def load(
        cls, state: State, side: int, file: Path, unused: Sequence[str] = (r"^pooler\.",)
    ) -> "SwinTower":
        """The tower with the weights of a checkpoint; BadCheckpoint where they do not fit.

        state: with the keys of `modern_swin`. unused: patterns of keys that may be left over.
        """
        tower = cls(state, side)
        load_state(tower.network, names_as_built(tower.network, state), file, unused)
        return tower

    def __init__(self, state: Mapping[str, Tensor], side: int) -> None:
        super().__init__()
        width = state["embeddings.patch_embeddings.projection.weight"].shape[0]
        stages = range(layers_in(state, r"encoder\.layers\.(\d+)\."))
        tables = [
            state[
                f"encoder.layers.{i}.blocks.0.attention.relative_position_bias."
                "relative_position_bias_table"
            ]
            for i in stages
        ]
        config = SwinConfig(
            image_size=side,
            embed_dim=width,
            depths=[layers_in(state, rf"encoder\.layers\.{i}\.blocks\.(\d+)\.") for i in stages],
            num_heads=[table.shape[1] for table in tables],
            window_size=(int(tables[0].shape[0] ** 0.5) + 1) // 2,
        )
        self.network: Any = SwinModel(config, add_pooling_layer=False)
        self.channels = tuple(width * 2**i for i in stages)
        self.strides = tuple(4 * 2**i for i in stages)

    def states(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, N, C) tokens after the final norm, row by row."""
        states: Tensor = self.network(pixel_values=images).last_hidden_state
        return states

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C): the mean of the tokens."""
        return self.states(images).mean(dim=1)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> feature maps of strides 4 to 32."""
        output = self.network(pixel_values=images, output_hidden_states=True)
        maps = list(output.reshaped_hidden_states[: len(self.channels) - 1])
        last = output.last_hidden_state
        side = int(last.shape[1] ** 0.5)
        return [*maps, last.transpose(1, 2).unflatten(2, (side, side))]


_TABLE = "relative_position_bias_table"
_SWIN = (
    ("attention.self.query.", "attention.q_proj."),
    ("attention.self.key.", "attention.k_proj."),
    ("attention.self.value.", "attention.v_proj."),
    (f"attention.self.{_TABLE}", f"attention.relative_position_bias.{_TABLE}"),
    ("attention.output.dense.", "attention.o_proj."),
    ("intermediate.dense.", "mlp.fc1."),
    ("output.dense.", "mlp.fc2."),
)
_DINOV2 = (
    ("attention.attention.query.", "attention.q_proj."),
    ("attention.attention.key.", "attention.k_proj."),
    ("attention.attention.value.", "attention.v_proj."),
    ("attention.output.dense.", "attention.o_proj."),
)
"""Names of layers before transformers 5, and since then."""


def modern_swin(state: Mapping[str, Tensor]) -> State:
    """A Swin's keys as transformers 5 names them; older files have longer names."""
    return renamed(state, [(re.escape(older), newer) for older, newer in _SWIN])


def modern_dinov2(state: Mapping[str, Tensor]) -> State:
    """A DINOv2's keys as transformers 5 names them; older files have longer names."""
    return renamed(state, [(re.escape(older), newer) for older, newer in _DINOV2])


def names_as_built(network: nn.Module, state: State) -> State:
    """Modern keys with the names of this network, which an older transformers may have built."""
    built = network.state_dict()
    names = _SWIN if any("encoder.layers.0.blocks" in key for key in built) else _DINOV2
    if any(newer in key for key in built for _, newer in names):
        return state
    return renamed(state, [(re.escape(newer), older) for older, newer in names])
