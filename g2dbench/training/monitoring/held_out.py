"""Held-out pairs: do image and report find each other, and what the method says of itself.

Shapes: N pairs, D width. Nothing here touches weights, gradients or random numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from g2dbench.errors import Stopped
from g2dbench.method import Method
from g2dbench.metrics.retrieval import KS, recalls
from g2dbench.model import Embeds
from g2dbench.training.batches.pair_loader import Pairs
from g2dbench.training.batches.source import Batches

Cast = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Heldout:
    """Held-out pairs, ready to be embedded; `cast` gives the autocast context of training."""

    pairs: Pairs
    loader: Batches
    cast: Cast

    def figures(self, method: Method, step: int) -> dict[str, float]:
        """Retrieval and monitors of the method in eval mode, which is put back to training."""
        with evaluated(method), self.cast():
            return {**self._retrieval(method), **self._monitors(method, step)}

    def _retrieval(self, method: Method) -> dict[str, float]:
        """R@1, R@5 and R@10, and what guessing would give for R@10."""
        model = method.as_model()
        if not isinstance(model, Embeds) or len(self.pairs) < 2:
            return {}
        images = torch.cat([model.embed_images(batch.images) for batch in self.loader.plain()])
        texts = model.embed_texts(self.pairs.reports)
        found = mean_recalls(images, texts, self.pairs.groups)
        return {**found, "chance_r10": chance(self.pairs.groups, 10), "pool": float(len(images))}

    def _monitors(self, method: Method, step: int) -> dict[str, float]:
        """The method's own figures on the first held-out batch."""
        return dict(method.monitors(next(iter(self.loader.plain(step)))))


@contextmanager
def evaluated(module: nn.Module) -> Iterator[None]:
    """Eval mode without gradient; afterwards every part is in the mode that it had."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def mean_recalls(
    images: Tensor, texts: Tensor, groups: NDArray[np.object_], ks: Sequence[int] = KS
) -> dict[str, float]:
    """(N, D), (N, D) and their (N, G) group ids -> "r1", ...: the mean of both directions.

    Raises Stopped where an embedding is not finite: the weights are lost.
    """
    try:
        found = recalls(_numbers(images), _numbers(texts), groups, ks)
    except ValueError as error:
        raise Stopped(
            f"{error}: training has diverged; start anew with a lower --set optim.lr or "
            "--precision fp32"
        ) from error
    return {f"r{k}": (found[f"image_to_text_r{k}"] + found[f"text_to_image_r{k}"]) / 2 for k in ks}


def chance(groups: NDArray[np.object_], k: int) -> float:
    """Expected R@k of a random ranking, (N, G) group ids: pairs that share an id count as right."""
    pairs = len(groups)
    right = np.zeros((pairs, pairs), dtype=bool)
    for kind in groups.T:
        codes = np.unique(kind.astype(str), return_inverse=True)[1]
        right |= codes[:, None] == codes[None, :]
    wrong = pairs - right.sum(1)
    drawn = np.arange(min(k, pairs))
    missed = np.prod(np.clip(wrong[:, None] - drawn, 0, None) / (pairs - drawn), axis=1)
    return float(1 - missed.mean())


def _numbers(rows: Tensor) -> NDArray[np.float32]:
    return np.asarray(rows.float().cpu().numpy())
