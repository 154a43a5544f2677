"""Heads for a frozen encoder: a linear layer, and a U-Net decoder for any feature pyramid.

Legend: B images, S input side, K outputs, C channels, h w grid.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn
from torch.nn import functional as F

from g2dbench.errors import Unsupported
from g2dbench.system.seeded_init import seeded

DECODER_WIDTHS = (16, 32, 64, 128, 256)
"""Channels of the decoder at strides 1, 2, 4, 8 and from 16 on."""


def linear(width: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """(B, width) -> (B, K) logits, with torch's default initialization."""
    return seeded(lambda: nn.Linear(width, outputs), generator)


class UnetHead(nn.Module):
    """smp's U-Net decoder over any pyramid: (B, C_i, S / stride_i, ...) -> (B, K, S, S) logits.

    One block per up-sampling by 2, from the coarsest map to full resolution, with smp.Unet's
    channels at these strides. A level that the encoder lacks has 0 channels: the single stride-16
    map of a ViT gets four blocks without skip connections. As in smp.Unet, stride 1 is not used.
    Strides are rounded to a power of two.
    Source: segmentation_models_pytorch decoders/unet/decoder.py, base/initialization.py.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], outputs: int, size: int
    ) -> None:
        super().__init__()
        if len(channels) != len(strides) or not strides or max(strides) < 2:
            raise ValueError(
                f"a pyramid has as many strides as channels, and one stride above 1; "
                f"found channels {tuple(channels)}, strides {tuple(strides)}"
            )
        self.size = size
        self._levels = [round(math.log2(stride)) for stride in strides]
        depth = max(self._levels)
        skips = [0] * (depth + 1)
        for level, width in zip(self._levels, channels, strict=True):
            skips[level] += width
        widths = [DECODER_WIDTHS[min(level, 4)] for level in reversed(range(depth))]
        self.decoder = UnetDecoder(skips, widths, n_blocks=depth)
        self.head = SegmentationHead(widths[-1], outputs, kernel_size=3)
        initialize_decoder(self.decoder)
        initialize_head(self.head)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """The pyramid of the model's `features` -> (B, K, S, S) logits."""
        logits: Tensor = self.head(self.decoder(self._maps_by_level(pyramid)))
        return resize_to(logits, self.size)

    def _maps_by_level(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """One map per power of two from stride 1 on, with 0 channels if the encoder has none."""
        slots = []
        for level in range(max(self._levels) + 1):
            found = [part for at, part in zip(self._levels, pyramid, strict=True) if at == level]
            side = math.ceil(self.size / 2**level)
            slots.append(
                torch.cat(found, 1)
                if found
                else pyramid[0].new_zeros(len(pyramid[0]), 0, side, side)
            )
        return slots


def resize_to(logits: Tensor, size: int) -> Tensor:
    """(B, K, h, w) -> (B, K, size, size), bilinear; unchanged if it has this size."""
    if logits.shape[-2:] == (size, size):
        return logits
    return F.interpolate(logits, size=(size, size), mode="bilinear", align_corners=False)


class DecoderWithNewHead(nn.Module):
    """A pre-trained decoder whose last convolution is replaced by a new one with K outputs.

    All other weights are kept. The new convolution gets the input of the old one, so it does not
    matter how the decoder processes its own output; a coarse output is up-sampled.
    """

    def __init__(self, decoder: nn.Module, last: str, outputs: int) -> None:
        super().__init__()
        self.decoder = decoder
        self._last = last
        old = decoder.get_submodule(last)
        assert isinstance(old, nn.Conv2d)
        kernel = (old.kernel_size[0], old.kernel_size[1])
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.head = nn.Conv2d(old.in_channels, outputs, kernel, padding=padding)
        initialize_head(self.head)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """The pyramid of the model's `features` -> (B, K, S, S) logits."""
        with _record_inputs({self._last: self.decoder.get_submodule(self._last)}) as seen:
            whole = self.decoder(pyramid)
        logits: Tensor = self.head(seen[-1][1])
        return resize_to(logits, whole.shape[-1])


def adapt_decoder(
    decoder: nn.Module, outputs: int, example: Sequence[Tensor], generator: torch.Generator
) -> nn.Module:
    """A copy of a pre-trained decoder with K output channels; for K = 1 it keeps its last layer.

    example: a pyramid of one image, to find the convolution that runs last.
    Raises Unsupported if the decoder's output is not (1, 1, S, S), or it has no convolution.
    """
    decoder = copy.deepcopy(decoder).requires_grad_(True).eval()
    convolutions = {n: part for n, part in decoder.named_modules() if isinstance(part, nn.Conv2d)}
    with torch.no_grad(), _record_inputs(convolutions) as seen:
        example_output = decoder(example)
    if example_output.ndim != 4 or example_output.shape[1] != 1 or not (seen or outputs == 1):
        raise Unsupported(
            f"the pre-trained decoder {type(decoder).__name__} cannot be fitted to {outputs} "
            f"findings: its output is {tuple(example_output.shape)} instead of (1, 1, S, S), "
            f"it has {len(seen)} convolutions"
        )
    if outputs == 1:
        return decoder
    return seeded(lambda: DecoderWithNewHead(decoder, seen[-1][0], outputs), generator)


@contextmanager
def _record_inputs(modules: Mapping[str, nn.Module]) -> Iterator[list[tuple[str, Tensor]]]:
    """Record name and first input of these modules, in the order in which they run."""
    seen: list[tuple[str, Tensor]] = []

    def record(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda module, inputs: seen.append((name, inputs[0]))

    handles = [part.register_forward_pre_hook(record(name)) for name, part in modules.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
