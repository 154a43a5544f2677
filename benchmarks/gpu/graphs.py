"""Our step with its image networks in CUDA graphs, which need one launch for all their kernels.

An experiment: what would the step gain if the host launched hundreds of kernels less? Shapes are
fixed, as those of training images are; the text, whose length changes, stays outside.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from g2dbench.methods.shared.two_towers import non_empty_levels
from g2dbench.methods.shared.unet import decode

WARM_UP = 3


class Encoder(nn.Module):
    def __init__(self, method: Any) -> None:
        super().__init__()
        self.encoder = method.unet.encoder

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(non_empty_levels(self.encoder(images)))


class Decoder(nn.Module):
    def __init__(self, method: Any) -> None:
        super().__init__()
        self.decoder, self.head = method.unet.decoder, method.unet.segmentation_head
        self.strides = method.strides

    def forward(self, *pyramid: Tensor) -> Tensor:
        return decode(self.decoder, self.head, list(pyramid), self.strides)


def capture_networks(method: Any, images: Tensor) -> None:
    """Replace the method's encoder and decoder by graphs; batch norms keep their statistics."""
    kept = [buffer.clone() for buffer in method.buffers()]
    with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
        with torch.no_grad():
            levels = method.pyramid(images)
        given = tuple(level.detach().clone().requires_grad_() for level in levels)
        parts = (Encoder(method), Decoder(method))
        graphed: Any = torch.cuda.make_graphed_callables(
            parts, ((images.clone(),), given), allow_unused_input=True
        )
    encoder, decoder = graphed
    for buffer, value in zip(method.buffers(), kept, strict=True):
        buffer.copy_(value)
    method.pyramid = lambda images: list(encoder(images))
    method.decode = lambda pyramid: decoder(*pyramid)


def capture_mask(method: Any, images: Tensor) -> None:
    """Replace the method's pseudo mask by a graph."""
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        attention = method.attend(method.pyramid(images))
    method.pseudo_mask.forward = captured(
        method.pseudo_mask.forward, attention.detach().clone(), images.clone()
    )


def captured(make: Callable[..., Tensor], *given: Tensor) -> Callable[..., Tensor]:
    """A function without gradient as a graph that copies its arguments to the given places."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            make(*given)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = make(*given)

    def replay(*values: Tensor) -> Tensor:
        for place, value in zip(given, values, strict=True):
            place.copy_(value)
        graph.replay()
        return found

    return replay
