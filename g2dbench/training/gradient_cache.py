"""Gradient caching: contrastive batches that do not fit into memory, in micro-batches.

A first pass computes the representations of every micro-batch without a graph. The losses over all
of them give the gradient at each representation; a second pass computes each micro-batch again
with a graph and backpropagates that gradient. Activations need the memory of one micro-batch.
Source: Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup,
RepL4NLP 2021, arXiv 2101.06983.

The result equals that of the whole batch if the network treats each pair independently. A batch
norm normalizes over its micro-batch, and dropout masks differ from those of the whole batch (but
not between the two passes).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from g2dbench.errors import Misuse
from g2dbench.method import Batch, Method, Separable

Reseed = Callable[[int], object]


def check_separable(method: Method, micro_batch: int) -> None:
    """Raise Misuse if `optim.micro_batch` is set and the method cannot use micro-batches."""
    if not micro_batch:
        return
    if not isinstance(method, Separable):
        raise Misuse(
            f"optim.micro_batch = {micro_batch}: {type(method).__name__} cannot compute its losses "
            "from parts of a batch (`g2dbench.method.Separable`): set it to 0"
        )
    if method.why_whole:
        raise Misuse(f"optim.micro_batch = {micro_batch} is not possible: {method.why_whole}")


def split_batch(batch: Batch, most: int) -> list[Batch]:
    """Split into as few parts of nearly equal size as possible, each of at most `most` pairs."""
    count = -(-len(batch.images) // most)
    columns = [x.tensor_split(count) for x in (batch.images, batch.tokens, batch.attention)]
    ids, parts = iter(batch.ids), []
    for images, tokens, attention in zip(*columns, strict=True):
        names = tuple(next(ids) for _ in range(len(images)))
        parts.append(Batch(images, tokens, attention, names, batch.step))
    return parts


class GradientCache:
    """Backward passes of a `Separable` method; wrapper: its prepared `MethodWrapper`."""

    def __init__(self, wrapper: nn.Module, accelerator: Accelerator, micro_batch: int) -> None:
        self._wrapper, self._accelerator, self._micro_batch = wrapper, accelerator, micro_batch

    def backward(self, batch: Batch, reseed: Reseed) -> dict[str, Tensor]:
        """Accumulate the gradient of the batch's losses; returns the losses without graph.

        reseed: seeds the generator for a part, so that both passes use the same random numbers.
        """
        parts = split_batch(batch, self._micro_batch)
        representations = self._representations(parts, reseed)
        losses, gradients = self._compare(representations)
        at = 0
        for index, part in enumerate(parts):
            rows = slice(at, at + len(part.images))
            share, last = len(part.images) / len(batch.images), index == len(parts) - 1
            reseed(index)
            function = _surrogate(
                part,
                [gradient[rows] for gradient in gradients],
                share,
                representations if last else None,
            )
            # Gradients of several processes are averaged once, with the last part.
            with nullcontext() if last else self._accelerator.no_sync(self._wrapper):
                total, pair_losses = self._wrapper(function)
                self._accelerator.backward(total)
            for name, value in pair_losses.items():
                losses[name] = losses.get(name, 0.0) + value
            at = rows.stop
        return losses

    def _representations(self, parts: list[Batch], reseed: Reseed) -> list[Tensor]:
        """Representations of the whole batch; only the second pass updates running statistics."""
        found = []
        with torch.no_grad(), _restored_buffers(self._wrapper):
            for index, part in enumerate(parts):
                reseed(index)
                found.append(self._wrapper(lambda method, part=part: method.embed(part)[0]))
        return [torch.cat(column).float() for column in zip(*found, strict=True)]

    def _compare(self, representations: list[Tensor]) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Losses over all pairs and their gradient at each representation."""
        leaves = [rows.detach().requires_grad_() for rows in representations]
        with self._accelerator.no_sync(self._wrapper):
            losses = self._wrapper(lambda method: method.compare(*leaves))
            gradients = torch.autograd.grad(torch.stack(list(losses.values())).sum(), leaves)
        return {name: loss.detach() for name, loss in losses.items()}, list(gradients)


def _surrogate(
    part: Batch, gradients: list[Tensor], share: float, representations: list[Tensor] | None
) -> Callable[[Separable], tuple[Tensor, dict[str, Tensor]]]:
    """A function that gives a scalar with this part's gradient, and its share of per-pair losses.

    representations: those of all pairs, detached, given for one part of the batch only: parameters
    of the comparison itself, such as a temperature, get their gradient there.
    """

    def function(method: Separable) -> tuple[Tensor, dict[str, Tensor]]:
        part_representations, pair_losses = method.embed(part)
        weighted = {name: loss * share for name, loss in pair_losses.items()}
        products = [
            (x.float() * gradient).sum()
            for x, gradient in zip(part_representations, gradients, strict=True)
        ]
        compared = list(method.compare(*representations).values()) if representations else []
        total = torch.stack([*products, *weighted.values(), *compared]).sum()
        return total, {name: loss.detach() for name, loss in weighted.items()}

    return function


@contextmanager
def _restored_buffers(module: nn.Module) -> Iterator[None]:
    """Restore the buffers afterwards."""
    before = [buffer.clone() for buffer in module.buffers()]
    yield
    for buffer, kept in zip(module.buffers(), before, strict=True):
        buffer.copy_(kept)
