"""smp's U-Net decoder, run without its up-sampled and joined maps.

Shapes: B images, C channels of the coarse map, K of the skip, O of the output, h w grid.
A 3 x 3 convolution of a map repeated 2 x 2 reads each coarse pixel up to nine times. Summing those
weights first gives a 4 x 4 transposed convolution of stride 2 on the coarse map itself: the same
sums, 4/9 of the products, and neither the repeated nor the joined map is ever written.
Weights, their names and the order of the layers are smp's; results differ in rounding alone.
"""

from itertools import zip_longest
from typing import Any

from torch import Tensor
from torch.nn import functional as F


def run_decoder(decoder: Any, pyramid: list[Tensor]) -> Tensor:
    """smp's UnetDecoder on maps of strides 2 to 32 -> (B, O, S, S), before the head.

    A map without channels stands for a level that the encoder does not have.
    """
    last, *skips = reversed(pyramid)
    x: Tensor = decoder.center(last)
    for block, skip in zip_longest(decoder.blocks, skips):
        convolution, *rest = block.conv1
        x = _double(x, skip, convolution.weight)
        for layer in rest:
            x = layer(x)
        x = block.conv2(x)
    return x


def _double(x: Tensor, skip: Tensor | None, kernel: Tensor) -> Tensor:
    """(B, C, h, w), (B, K, 2h, 2w), (O, C + K, 3, 3) -> (B, O, 2h, 2w)."""
    channels = x.shape[1]
    wide = F.conv_transpose2d(x, spread(kernel[:, :channels]), stride=2, padding=1)
    if skip is None or not skip.shape[1]:
        return wide
    return wide + F.conv2d(skip, kernel[:, channels:], padding=1)


def spread(kernel: Tensor) -> Tensor:
    """(O, C, 3, 3) after nearest up-sampling -> (C, O, 4, 4) of the transposed convolution."""
    padded = F.pad(kernel, (1, 1, 1, 1))
    rows = padded[..., :-1, :] + padded[..., 1:, :]
    return (rows[..., :-1] + rows[..., 1:]).flip(-1, -2).transpose(0, 1)
