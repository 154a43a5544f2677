"""Evaluation on held-out pairs: retrieval between image and report, and the method's monitors.

Shapes: N pairs, D width. Nothing here changes weights, gradients or random numbers.
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
from g2dbench.training.batches.source import BatchLoader

Autocast = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class HeldOut:
    """Held-out pairs and their loader; `autocast` gives the autocast context of training."""

    pairs: Pairs
    loader: BatchLoader
    autocast: Autocast

    def evaluate(self, method: Method, step: int) -> dict[str, float]:
        """Retrieval and monitors in eval mode; the method's mode is restored afterwards."""
        with eval_mode(method), self.autocast():
            return {**self._retrieval(method), **self._monitors(method, step)}

    def _retrieval(self, method: Method) -> dict[str, float]:
        """R@1, R@5 and R@10, and the R@10 of a random ranking."""
        model = method.as_model()
        if not isinstance(model, Embeds) or len(self.pairs) < 2:
            return {}
        images = torch.cat(
            [model.embed_images(batch.images) for batch in self.loader.unaugmented()]
        )
        texts = model.embed_texts(self.pairs.reports)
        found = mean_recalls(images, texts, self.pairs.groups)
        return {
            **found,
            "chance_r10": chance_recall(self.pairs.groups, 10),
            "pool": float(len(images)),
        }

    def _monitors(self, method: Method, step: int) -> dict[str, float]:
        """The method's own monitors on the first held-out batch."""
        return dict(method.monitors(next(iter(self.loader.unaugmented(step)))))


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode without gradient; the mode of every submodule is restored afterwards."""
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

    Raises Stopped if an embedding is not finite: the training has diverged.
    """
    try:
        found = recalls(_to_numpy(images), _to_numpy(texts), groups, ks)
    except ValueError as error:
        raise Stopped(
            f"{error}: training has diverged; start again with a lower --set optim.lr or "
            "--precision fp32"
        ) from error
    return {f"r{k}": (found[f"image_to_text_r{k}"] + found[f"text_to_image_r{k}"]) / 2 for k in ks}


def chance_recall(groups: NDArray[np.object_], k: int) -> float:
    """(N, G) group ids -> expected R@k of a random ranking; pairs that share an id are correct."""
    pairs = len(groups)
    correct = np.zeros((pairs, pairs), dtype=bool)
    for kind in groups.T:
        codes = np.unique(kind.astype(str), return_inverse=True)[1]
        correct |= codes[:, None] == codes[None, :]
    wrong = pairs - correct.sum(1)
    rank = np.arange(min(k, pairs))
    missed = np.prod(np.clip(wrong[:, None] - rank, 0, None) / (pairs - rank), axis=1)
    return float(1 - missed.mean())


def _to_numpy(rows: Tensor) -> NDArray[np.float32]:
    return np.asarray(rows.float().cpu().numpy())
