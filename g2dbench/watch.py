"""What is watched while a method trains: held-out retrieval, the method's monitors, warnings.

Shapes: N held-out pairs, D width. Nothing here touches weights, gradients or random numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from g2dbench.loader import Loader, Pairs
from g2dbench.method import Method
from g2dbench.metrics.retrieval import recalls
from g2dbench.model import Embeds

MOST = 2000
"""Held-out pairs that are ranked at most; the pool's size decides what a recall means."""

FLAT = 0.97
"""Entropy of the attention, as a share of the largest there is, above which it says nothing."""

SHARP = 0.05
"""The same below which the attention is on a single pixel."""

SAME = 0.9
"""IoU of two images' masks above which the mask does not depend on the image."""

Cast = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Heldout:
    """Held-out pairs, ready to be embedded; `cast` gives the autocast context of training."""

    pairs: Pairs
    loader: Loader
    cast: Cast

    def figures(self, method: Method, step: int) -> dict[str, float]:
        """Retrieval and monitors of the method in eval mode, which is put back to training."""
        method.eval()
        with torch.no_grad(), self.cast():
            found = {**self._retrieval(method), **self._monitors(method, step)}
        method.train()
        return found

    def _retrieval(self, method: Method) -> dict[str, float]:
        """R@1 and R@10, mean of both directions, and what guessing would give for R@10."""
        model = method.as_model()
        if not isinstance(model, Embeds) or len(self.pairs) < 2:
            return {}
        images = torch.cat([model.embed_images(batch.images) for batch in self.loader.plain()])
        texts = model.embed_texts(self.pairs.reports)
        found = recalls(_numbers(images), _numbers(texts), self.pairs.groups, (1, 10))
        mean = {
            f"r{k}": (found[f"image_to_text_r{k}"] + found[f"text_to_image_r{k}"]) / 2
            for k in (1, 10)
        }
        return {**mean, "chance_r10": chance(self.pairs.groups, 10), "pool": float(len(images))}

    def _monitors(self, method: Method, step: int) -> dict[str, float]:
        """The method's own figures on the first held-out batch."""
        return dict(method.monitors(next(iter(self.loader.plain(step)))))


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


def warnings(figures: Mapping[str, float]) -> list[str]:
    """Signs that the training failed, in plain words; empty where there is none."""
    found = []
    if "r10" in figures and _is_guessing(figures):
        found.append(
            f"held-out retrieval is no better than guessing (R@10 {figures['r10']:.3f} of "
            f"{figures['pool']:.0f}, chance {figures['chance_r10']:.3f}): image and report have "
            "not found together. Try more epochs, more data, or another optim.lr"
        )
    if figures.get("attention_entropy", 0.0) > FLAT:
        found.append(
            f"the attention is all but uniform ({figures['attention_entropy']:.3f} of the largest "
            "entropy): pseudo masks cut through noise and the decoder learns to draw it. Try "
            "model.attention.stride=16, model.attention.logits=cosine with a larger scale, or a "
            "later model.pixel.start"
        )
    if figures.get("attention_entropy", 1.0) < SHARP:
        found.append(
            f"the attention is on a single pixel ({figures['attention_entropy']:.3f} of the "
            "largest entropy), so the pseudo masks hold no shape. Try model.attention.stride=16 or "
            "a smaller model.attention.scale"
        )
    if figures.get("mask_overlap", 0.0) > SAME:
        found.append(
            f"the pseudo masks of different images are all but the same (IoU "
            f"{figures['mask_overlap']:.2f}): the decoder learns one picture, not where findings "
            "are. Try model.attention.positions=none or a larger percentile"
        )
    return found


def line(row: Mapping[str, float], epochs: int, losses: Sequence[str]) -> str:
    """An epoch of the log in one line of 80 columns; the learning rate is in the log alone."""
    words = [f"epoch {row['epoch']:.0f}/{epochs}"]
    words += [f"{name} {row[name]:.2f}" for name in losses]
    if "r10" in row:
        words.append(f"R@10 {row['r10']:.2f} (chance {row['chance_r10']:.2f})")
    if "attention_entropy" in row:
        words.append(f"entropy {row['attention_entropy']:.2f}")
    words.append(f"{row['images_per_s']:.0f}/s, {row['seconds']:.0f} s")
    return "  ".join(words)


def _is_guessing(figures: Mapping[str, float]) -> bool:
    """Whether R@10 lies within three standard errors of chance (both directions of N queries).

    Never where the pool is so small that guessing is nearly always right.
    """
    share, queries = figures["chance_r10"], 2 * figures["pool"]
    limit = share + 3 * float(np.sqrt(share * (1 - share) / queries))
    return figures["r10"] <= limit < 1


def _numbers(rows: torch.Tensor) -> NDArray[np.float32]:
    return np.asarray(rows.float().cpu().numpy())
