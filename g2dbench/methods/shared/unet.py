"""smp's U-Net around a given encoder, with a faster forward pass of its decoder.

Shapes: B images, S side, C channels of the coarse map, K of the skip, O of the output, h w grid.
smp's decoder upsamples a map 2 x 2 (nearest), concatenates the skip, and convolves. A 3 x 3
convolution of an upsampled map reads each coarse pixel up to nine times; summing those weights
first gives a 4 x 4 transposed convolution of stride 2 on the coarse map: the same sums with 4/9 of
the products, and no upsampled or concatenated map in memory.
Weights, their names and the order of layers are smp's; results differ only by rounding.
"""

import copy
from itertools import zip_longest
from typing import Any

import segmentation_models_pytorch as smp
from torch import Tensor, nn
from torch.nn import functional as F

from g2dbench.methods.shared.settings import DecoderSettings, ImageSettings


def make_unet(
    encoder: nn.Module, image: ImageSettings, decoder: DecoderSettings, outputs: int
) -> Any:
    """smp's Unet around an encoder that was built from these settings."""
    unet = smp.Unet(
        image.encoder, image.depth, None,
        classes=outputs, decoder_channels=decoder.channels, **image.options,
    )  # fmt: skip
    unet.encoder = encoder
    return unet


class Decoder(nn.Module):
    """A copy of a U-Net's decoder and head, applied to the pyramid of `features`."""

    def __init__(self, unet: Any, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.decoder: nn.Module = copy.deepcopy(unet.decoder)
        self.head: nn.Module = copy.deepcopy(unet.segmentation_head)
        self._strides = strides

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        """Pyramid -> (B, 1, S, S) logits; several outputs are averaged."""
        return decode(self.decoder, self.head, pyramid, self._strides).mean(1, keepdim=True)


def decode(
    decoder: Any, head: nn.Module, pyramid: list[Tensor], strides: tuple[int, ...]
) -> Tensor:
    """Pyramid with these strides -> (B, O, S, S), by smp's decoder and its head."""
    logits: Tensor = head(run_decoder(decoder, decoder_input(pyramid, strides)))
    return logits


def decoder_input(pyramid: list[Tensor], strides: tuple[int, ...]) -> list[Tensor]:
    """The input of smp's decoder from stride 2 on, with empty maps for missing levels."""
    given = dict(zip(strides, pyramid, strict=True))
    last = pyramid[-1]
    batch, side = len(last), last.shape[-1] * strides[-1]
    return [
        given[stride] if stride in given else last.new_empty(batch, 0, *[side // stride] * 2)
        for stride in (2**level for level in range(1, strides[-1].bit_length()))
    ]


def run_decoder(decoder: Any, pyramid: list[Tensor]) -> Tensor:
    """Maps from stride 2 on -> (B, O, S, S), by smp's UnetDecoder, without the head.

    A map without channels stands for a level that the encoder does not have.
    """
    last, *skips = reversed(pyramid)
    x: Tensor = decoder.center(last)
    for block, skip in zip_longest(decoder.blocks, skips):
        convolution, *rest = block.conv1
        x = _upsample_convolve(x, skip, convolution.weight)
        for layer in rest:
            x = layer(x)
        x = block.conv2(x)
    return x


def _upsample_convolve(x: Tensor, skip: Tensor | None, kernel: Tensor) -> Tensor:
    """(B, C, h, w), (B, K, 2h, 2w), (O, C + K, 3, 3) -> (B, O, 2h, 2w)."""
    channels = x.shape[1]
    wide = F.conv_transpose2d(x, transposed_kernel(kernel[:, :channels]), stride=2, padding=1)
    if skip is None or not skip.shape[1]:
        return wide
    return wide + F.conv2d(skip, kernel[:, channels:], padding=1)


def transposed_kernel(kernel: Tensor) -> Tensor:
    """Kernel (O, C, 3, 3) after nearest upsampling -> transposed convolution (C, O, 4, 4)."""
    padded = F.pad(kernel, (1, 1, 1, 1))
    rows = padded[..., :-1, :] + padded[..., 1:, :]
    return (rows[..., :-1] + rows[..., 1:]).flip(-1, -2).transpose(0, 1)
