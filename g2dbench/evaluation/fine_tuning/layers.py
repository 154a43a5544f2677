"""The layers of an encoder in the order in which they run, for layer-wise learning rates.

A layer is the part of a module's name up to its first component that ends in a number:
`trunk.blocks.3` of a ViT, `encoder.layer2` of a ResNet. A module without a number in its name is a
layer of its own. So a ViT has a layer for each block, as in BEiT, and a ResNet one for each stage.
"""

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

from g2dbench.model import Model

_NUMBERED = re.compile(r"^(.*?(?:^|\.)[^.]*\d)(?:\.|$)")


def modules_in_order(model: Model, forward: Callable[[Tensor], Tensor]) -> list[str]:
    """Names of the modules that run in `forward` on one black image, in their order."""
    names = {id(module): name for name, module in model.named_modules()}
    seen: dict[str, None] = {}

    def note(module: nn.Module, inputs: object) -> None:
        seen.setdefault(names[id(module)])

    handles = [module.register_forward_pre_hook(note) for module in model.modules()]
    try:
        with torch.no_grad():
            forward(example_input(model))
    finally:
        for handle in handles:
            handle.remove()
    return list(seen)


def example_input(model: Model) -> Tensor:
    """One black image, (1, C, S, S), on the model's device."""
    shape = model.preprocess
    weights = [*model.parameters(), *model.buffers(), torch.zeros(0)]
    return torch.zeros((1, shape.channels, shape.size, shape.size), device=weights[0].device)


def layer_of(name: str) -> str:
    """The layer of a module or parameter, by its dotted name."""
    found = _NUMBERED.match(name)
    return found.group(1) if found else name


def learning_rate_factors(
    model: Model, forward: Callable[[Tensor], Tensor], decay: float
) -> dict[str, float]:
    """The factor of each parameter: decay ** (layers from this one up to the head).

    Parameters of modules that do not run by themselves, such as a class token, belong to the first
    layer.
    """
    order: dict[str, int] = {}
    for name in modules_in_order(model, forward):
        if any(True for _ in model.get_submodule(name).parameters(recurse=False)):
            order.setdefault(layer_of(name), len(order))
    factors = {}
    for name, _ in model.named_parameters():
        layer = layer_of(name.rpartition(".")[0])
        factors[name] = decay ** (len(order) - order.get(layer, 0))
    return factors
