"""Image towers with the key names of torchvision and transformers, as feature pyramids.

Shapes: B batch, S input side, C channels. Weights are random until a state_dict is loaded.
"""

from collections.abc import Mapping
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
    def load(cls, state: State, side: int, file: Path) -> "SwinTower":
        """The tower with the weights of a checkpoint; BadCheckpoint where they do not fit."""
        tower = cls(state, side)
        load_state(tower.network, state, file, (r"^pooler\.",))
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


def modern_swin(state: Mapping[str, Tensor]) -> State:
    """A Swin's keys as transformers 5 names them; older files have longer names."""
    table = "relative_position_bias_table"
    return renamed(
        state,
        [
            (r"attention\.self\.query\.", "attention.q_proj."),
            (r"attention\.self\.key\.", "attention.k_proj."),
            (r"attention\.self\.value\.", "attention.v_proj."),
            (rf"attention\.self\.{table}$", f"attention.relative_position_bias.{table}"),
            (r"attention\.output\.dense\.", "attention.o_proj."),
            (r"intermediate\.dense\.", "mlp.fc1."),
            (r"(?<!attention\.)output\.dense\.", "mlp.fc2."),
        ],
    )


def modern_dinov2(state: Mapping[str, Tensor]) -> State:
    """A DINOv2's keys as transformers 5 names them; older files have longer names."""
    return renamed(
        state,
        [
            (r"attention\.attention\.query\.", "attention.q_proj."),
            (r"attention\.attention\.key\.", "attention.k_proj."),
            (r"attention\.attention\.value\.", "attention.v_proj."),
            (r"attention\.output\.dense\.", "attention.o_proj."),
        ],
    )
