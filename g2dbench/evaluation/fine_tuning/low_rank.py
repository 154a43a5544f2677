"""Low-rank adapters (LoRA) for the layers of any image encoder.

W becomes W + alpha / rank * B A, with B = 0 at the start, so that training starts from the encoder
as it is. Adapted are all linear layers, the projections of torch's multi-head attention, and the
convolutions without groups: a convolution's kernel (O, I, k, k) counts as a matrix (O, I k k), so a
CNN is adapted like a ViT. Biases and normalization layers stay as they are.
Source: Hu et al. 2021; they adapt the attention of a transformer alone.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from g2dbench.errors import Unsupported


class LowRank(nn.Module):
    """Adds a low-rank matrix to a weight of any shape (O, ...)."""

    def __init__(
        self, shape: Sequence[int], rank: int, alpha: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        inputs = int(torch.Size(shape[1:]).numel())
        rank = min(rank, shape[0], inputs)
        self.scale = alpha / rank
        down = torch.randn((rank, inputs), generator=generator) / inputs**0.5
        self.down = nn.Parameter(down)
        self.up = nn.Parameter(torch.zeros(shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        """(O, ...) -> (O, ...)."""
        return weight + self.scale * (self.up @ self.down).view_as(weight)


def add_adapters(
    encoder: nn.Module, names: Sequence[str], rank: int, alpha: float, generator: torch.Generator
) -> list[nn.Parameter]:
    """Adapt the layers among the named modules in place; returns the adapters' parameters.

    All other weights get no gradient. Raises Unsupported if there is no layer to adapt.
    """
    encoder.requires_grad_(False)
    adapters = []
    for module, weight in _weights(encoder, names):
        value: Tensor = getattr(module, weight)
        adapter = LowRank(value.shape, rank, alpha, generator).to(value.device)
        parametrize.register_parametrization(module, weight, adapter)
        adapters.append(adapter)
    if not adapters:
        raise Unsupported(
            f"{type(encoder).__name__} has no linear layer, attention or convolution to adapt"
        )
    return [parameter for adapter in adapters for parameter in adapter.parameters()]


def merge_adapters(encoder: nn.Module) -> None:
    """Make the adapted weights the encoder's own; its outputs stay the same but for rounding."""
    for module in list(encoder.modules()):
        if parametrize.is_parametrized(module):
            parametrizations = module.parametrizations
            assert isinstance(parametrizations, Mapping | nn.ModuleDict)
            for weight in list(parametrizations):
                parametrize.remove_parametrizations(module, weight, leave_parametrized=True)


def _weights(encoder: nn.Module, names: Sequence[str]) -> Iterator[tuple[nn.Module, str]]:
    for name in names:
        module = encoder.get_submodule(name)
        if isinstance(module, nn.MultiheadAttention):
            if module.in_proj_weight is not None:
                yield module, "in_proj_weight"
            yield module.out_proj, "weight"
        elif isinstance(module, nn.Linear) or (
            isinstance(module, nn.Conv2d) and module.groups == 1
        ):
            yield module, "weight"
