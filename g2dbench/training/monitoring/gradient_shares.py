"""How much each loss contributes to the encoder's gradient, without changing the training."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from g2dbench.method import Batch, Method
from g2dbench.training.monitoring.held_out import Autocast


def gradient_shares(
    method: Method, batch: Batch, autocast: Autocast, scale: float = 1.0
) -> dict[str, float]:
    """Share of each loss in the gradient norm at the weights that all losses reach.

    For G2D these are the image encoder's: alignment does not reach the decoder, nor pixel alignment
    the text encoder. Returns "gradient_share_NAME", summing to 1; empty for fewer than two losses,
    for losses without common weights, and if a norm is not finite.

    Runs `losses` once in training mode and one backward pass per loss, then restores weights,
    buffers, modes, gradients and random numbers. scale: factor of the loss, against underflow in
    fp16; the shares do not depend on it.
    """
    with state_restored(method, batch.images.device), torch.enable_grad():
        torch.manual_seed(batch.step)
        with autocast():
            losses = method.losses(batch)
        weights = [weight for weight in method.parameters() if weight.requires_grad]
        norms = {name: _norms(loss * scale, weights) for name, loss in losses.items()}
    if len(norms) < 2:
        return {}
    common = set.intersection(*(set(each) for each in norms.values()))
    norms_by_loss = {name: math.hypot(*(each[i] for i in common)) for name, each in norms.items()}
    total_norm = sum(norms_by_loss.values())
    if not math.isfinite(total_norm) or total_norm == 0:
        return {}
    return {f"gradient_share_{name}": norm / total_norm for name, norm in norms_by_loss.items()}


def _norms(loss: Tensor, weights: list[nn.Parameter]) -> dict[int, float]:
    """Index of a weight -> norm of its gradient, for each weight that the loss reaches."""
    found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    reached = [index for index, gradient in enumerate(found) if gradient is not None]
    if not reached:
        return {}
    norms = torch.stack([found[index].float().norm() for index in reached])
    return dict(zip(reached, norms.tolist(), strict=True))


@contextmanager
def state_restored(method: nn.Module, device: torch.device) -> Iterator[None]:
    """Restore the method's tensors, modes and random numbers afterwards.

    A forward pass in training mode updates batch norms, and a method may replace a weight or a
    queue in it. Costs the memory of a second copy of the weights.
    """
    modes = [(part, part.training) for part in method.modules()]
    saved = [(*place, place[2].detach().clone()) for place in _tensors(method)]
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        with torch.no_grad():
            for part, name, tensor, value in saved:
                tensor.copy_(value)
                setattr(part, name, tensor)
        for part, mode in modes:
            part.training = mode


def _tensors(method: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """Every parameter and buffer with the module that holds it and its name there."""
    for part in method.modules():
        for named in (part.named_parameters, part.named_buffers):
            for name, tensor in named(recurse=False):
                yield part, name, tensor
