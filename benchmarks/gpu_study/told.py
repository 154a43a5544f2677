"""G2D that is told the ground truth: the ceilings of the bench.

Shapes: B pairs, K findings, S image side, D width of the shared space, h w grid of the attention.
None of these has a parameter that G2D lacks, so that its runs load as those of G2D.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from benchmarks.gpu_study.truth import Truth
from g2dbench.method import Batch
from g2dbench.methods.g2d.losses import pixel_alignment
from g2dbench.methods.g2d.model import G2D
from g2dbench.methods.g2d.settings import G2DSettings

SCALE, OFFSET = 15.0, 0.4
"""The logit of a pixel and a name is SCALE (cosine - OFFSET)."""


class ToldG2D(G2D):
    """G2D with what the subclasses need: the truth, and names of findings as texts."""

    def __init__(
        self, settings: G2DSettings, tokenizer: PreTrainedTokenizerFast, truth: Truth
    ) -> None:
        super().__init__(settings, tokenizer)
        self._truth = truth

    def names(self, prefix: str, device: torch.device) -> Tensor:
        """(K, D), rows of length 1: the findings' names after a prefix."""
        tokens, attention = self.tokenize([prefix + name for name in self._truth.findings])
        return F.normalize(self.text(tokens.to(device), attention.to(device)).float(), dim=-1)

    def target_loss(self, pyramid: list[Tensor], truth: Tensor) -> Tensor:
        """Pixel alignment with the union (B, K, S, S) of the findings instead of a pseudo mask."""
        union = truth.amax(1, keepdim=True)
        return pixel_alignment(self.decode(pyramid), union, self._settings.pixel)


class ToldMasks(ToldG2D):
    """The decoder's target is the union of the image's findings; all else as G2D."""

    def embed(self, batch: Batch) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """As G2D's."""
        pyramid = self.pyramid(batch.images)
        pooled = self.embed_pyramid(pyramid)
        report = self.text(batch.tokens, batch.attention)
        if batch.step < self._settings.pixel.start:
            return (pooled, report), {}
        return (pooled, report), {"pa": self.target_loss(pyramid, self._truth.masks(batch))}


class ToldNames(ToldG2D):
    """From the first step on: the decoder's target, and which pixels are which finding."""

    def embed(self, batch: Batch) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """As G2D's; `names`: pixel alignment of pixels and names of findings."""
        pyramid = self.pyramid(batch.images)
        pooled, pixels = self.embed_pyramid(pyramid), self.dense(pyramid)
        report = self.text(batch.tokens, batch.attention)
        truth = self._truth.masks(batch)
        with torch.autocast(pixels.device.type, enabled=False):
            names = self.names("", pixels.device)
            cosines = torch.einsum("bdhw,kd->bkhw", F.normalize(pixels.float(), dim=1), names)
            area = F.adaptive_avg_pool2d(truth, (pixels.shape[2], pixels.shape[3]))
            named = pixel_alignment(SCALE * (cosines - OFFSET), area, self._settings.pixel)
        return (pooled, report), {"pa": self.target_loss(pyramid, truth), "names": named}


class ToldLabels(ToldG2D):
    """Trained on labels alone: "nodule" against "no nodule", for each finding."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """`labels`, the binary cross-entropy of all findings."""
        pooled = F.normalize(self.embed_pyramid(self.pyramid(batch.images)).float(), dim=-1)
        with torch.autocast(pooled.device.type, enabled=False):
            present, absent = (self.names(prefix, pooled.device).float() for prefix in ("", "no "))
            logits = SCALE * pooled @ (present - absent).T
            labels = self._truth.labels(batch).float()
            return {"labels": F.binary_cross_entropy_with_logits(logits, labels)}


KINDS: dict[str, type[ToldG2D]] = {"masks": ToldMasks, "names": ToldNames, "labels": ToldLabels}


@contextmanager
def told_method(kind: str, truth: Truth | None) -> Iterator[None]:
    """Within the block, the method `g2d` is told the truth; "" changes nothing."""
    if not kind or truth is None:
        yield
        return
    chosen = KINDS[kind]

    def build(settings: G2DSettings, tokenizer: PreTrainedTokenizerFast) -> ToldG2D:
        return chosen(settings, tokenizer, truth)

    with mock.patch("g2dbench.methods.g2d.G2D", build):
        yield
