"""Batches beyond memory: the gradient of losses that compare all pairs, part by part.

Representations are first computed without a graph, one part of the batch after the other. The
losses over all of them give the gradient at each representation; then every part is computed again
with a graph, through which that gradient flows. Memory for activations is that of one part, the
result that of the whole batch. Source: Gao et al., Scaling Deep Contrastive Learning Batch Size
under Memory Limited Setup, RepL4NLP 2021, arXiv 2101.06983.

Exact where the network treats each pair alone. A batch norm in training normalises over its part,
and dropout draws other masks than over the whole batch (the same in both passes).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from g2dbench.errors import Misuse
from g2dbench.method import Batch, Method, Separable

Ask = Callable[[Method], tuple[Tensor, ...]]
Reseed = Callable[[int], object]


def check_separable(method: Method, micro_batch: int) -> None:
    """Misuse where `optim.micro_batch` is set and the method's batches cannot be cut."""
    if not micro_batch:
        return
    if not isinstance(method, Separable):
        raise Misuse(
            f"optim.micro_batch = {micro_batch}: {type(method).__name__} has no loss that can be "
            "had from parts of a batch (`g2dbench.method.Separable`): set it to 0"
        )
    if method.uncut:
        raise Misuse(f"optim.micro_batch = {micro_batch} cannot be: {method.uncut}")


def cut(batch: Batch, most: int) -> list[Batch]:
    """The batch in as few parts of nearly equal size as keep to `most` pairs each."""
    count = -(-len(batch.images) // most)
    columns = [x.tensor_split(count) for x in (batch.images, batch.tokens, batch.attention)]
    ids, parts = iter(batch.ids), []
    for images, tokens, attention in zip(*columns, strict=True):
        names = tuple(next(ids) for _ in range(len(images)))
        parts.append(Batch(images, tokens, attention, names, batch.step))
    return parts


class GradientCache:
    """Backward passes of a `Separable` method; steps: the prepared `Steps` around it."""

    def __init__(self, steps: nn.Module, accelerator: Accelerator, micro_batch: int) -> None:
        self._steps, self._accelerator, self._most = steps, accelerator, micro_batch

    def backward(self, batch: Batch, reseed: Reseed) -> dict[str, Tensor]:
        """Add the gradient of the batch's losses to the weights; the losses, without graph.

        reseed: sets the random numbers of a part, so that both passes draw the same.
        """
        parts = cut(batch, self._most)
        joint = self._joint(parts, reseed)
        losses, pulls = self._compare(joint)
        at = 0
        for index, part in enumerate(parts):
            rows = slice(at, at + len(part.images))
            share, last = len(part.images) / len(batch.images), index == len(parts) - 1
            reseed(index)
            ask = _surrogate(part, [pull[rows] for pull in pulls], share, joint if last else None)
            # Gradients of several processes are averaged once, with the last part.
            with nullcontext() if last else self._accelerator.no_sync(self._steps):
                total, own = self._steps(ask)
                self._accelerator.backward(total)
            for name, value in own.items():
                losses[name] = losses.get(name, 0.0) + value
            at = rows.stop
        return losses

    def _joint(self, parts: list[Batch], reseed: Reseed) -> list[Tensor]:
        """The representations of the whole batch; running statistics move in the other pass."""
        found = []
        with torch.no_grad(), _kept_buffers(self._steps):
            for index, part in enumerate(parts):
                reseed(index)
                found.append(self._steps(lambda method, part=part: method.embed(part)[0]))
        return [torch.cat(column).float() for column in zip(*found, strict=True)]

    def _compare(self, joint: list[Tensor]) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The losses over all pairs and their gradient at each representation."""
        leaves = [rows.detach().requires_grad_() for rows in joint]
        with self._accelerator.no_sync(self._steps):
            losses = self._steps(lambda method: method.compare(*leaves))
            pulls = torch.autograd.grad(torch.stack(list(losses.values())).sum(), leaves)
        return {name: loss.detach() for name, loss in losses.items()}, list(pulls)


def _surrogate(
    part: Batch, pulls: list[Tensor], share: float, joint: list[Tensor] | None
) -> Callable[[Separable], tuple[Tensor, dict[str, Tensor]]]:
    """A scalar with the gradient of this part, and its share of the losses that it has alone.

    joint: the fixed representations of all pairs, given once a batch: what learns in the
    comparison itself, such as a temperature, gets its gradient there.
    """

    def ask(method: Separable) -> tuple[Tensor, dict[str, Tensor]]:
        own_joint, own = method.embed(part)
        shared = {name: loss * share for name, loss in own.items()}
        pulled = [(x.float() * pull).sum() for x, pull in zip(own_joint, pulls, strict=True)]
        compared = list(method.compare(*joint).values()) if joint else []
        total = torch.stack([*pulled, *shared.values(), *compared]).sum()
        return total, {name: loss.detach() for name, loss in shared.items()}

    return ask


@contextmanager
def _kept_buffers(module: nn.Module) -> Iterator[None]:
    """Put buffers back afterwards."""
    before = [buffer.clone() for buffer in module.buffers()]
    yield
    for buffer, kept in zip(module.buffers(), before, strict=True):
        buffer.copy_(kept)
