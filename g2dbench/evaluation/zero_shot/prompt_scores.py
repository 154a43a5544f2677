"""Scores of findings from the cosines of images with text prompts.

A finding with negative prompts scores the softmax over its positive and negative cosine, without a
temperature; one without scores (1 + cosine) / 2. Classes that exclude each other score the softmax
over the cosines of all classes.

Legend: N images, K findings, P prompts of all findings, D width.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, softmax
from torch import Tensor
from torch.nn import functional as F

from g2dbench.errors import BadData
from g2dbench.evaluation.frozen_features import inner_products
from g2dbench.evaluation.prompts import FindingPrompts, PromptSet
from g2dbench.model import Embeds, ProjectsTexts

Array = NDArray[np.float64]


class TextEmbedder:
    """Embeds texts one by one, each once, so that no embedding depends on padding.

    Not in mixed precision: every score depends on these few texts, and they cost little.
    """

    def __init__(self, model: Embeds) -> None:
        self._model = model
        self._known: dict[tuple[str, bool], Tensor] = {}

    def __call__(self, texts: Sequence[str], raw: bool = False) -> Tensor:
        """(T, D) on the CPU, rows of length 1, or before that if the model can and raw is True.

        BadData that quotes the text if its embedding is not finite.
        """
        rows = [self._one(text, raw and isinstance(self._model, ProjectsTexts)) for text in texts]
        return torch.cat(rows)

    def _one(self, text: str, raw: bool) -> Tensor:
        key = (text, raw)
        if key not in self._known:
            with torch.no_grad():
                if raw and isinstance(self._model, ProjectsTexts):
                    found = self._model.project_texts([text])
                else:
                    found = self._model.embed_texts([text])
            if not torch.isfinite(found).all():
                raise BadData(
                    f"the embedding of the text {text[:60]!r} is not finite: check the weights"
                )
            self._known[key] = found.float().cpu()
        return self._known[key]


@dataclass(frozen=True)
class PromptVectors:
    """The vectors (P, D) that images are compared with; owner (P,): index of each one's finding.

    A finding's cosine is the highest over its vectors. NaN for a finding without a vector.
    """

    vectors: Tensor
    owner: NDArray[np.intp]
    findings: int

    def cosines(self, images: Tensor) -> Array:
        """(N, D) -> (N, K)."""
        found = np.full((len(images), self.findings), np.nan)
        if len(self.owner):
            values = inner_products(images, self.vectors)
            starts = np.flatnonzero(np.append(True, np.diff(self.owner) != 0))
            found[:, self.owner[starts]] = np.maximum.reduceat(values, starts, axis=1)
        return found

    @property
    def single(self) -> bool:
        """Whether every finding has exactly one vector."""
        return np.array_equal(self.owner, np.arange(self.findings))


def prompt_vectors(
    embed: TextEmbedder, prompts: Sequence[tuple[str, ...]], ensemble: str
) -> PromptVectors:
    """The vectors of each finding's prompts, combined by the ensemble rule."""
    parts: list[Tensor] = []
    owner: list[int] = []
    for index, texts in enumerate(prompts):
        if not texts:
            continue
        each = embed(texts, raw=ensemble == "raw")
        if ensemble != "max":
            mean = each.mean(dim=0, keepdim=True)
            each = mean if ensemble == "mean_cosine" else F.normalize(mean, dim=-1)
        parts.append(each)
        owner += [index] * len(each)
    vectors = torch.cat(parts) if parts else torch.zeros(0, 0)
    return PromptVectors(vectors, np.array(owner, np.intp), len(prompts))


def prompt_scores(
    embed: TextEmbedder,
    images: Tensor,
    prompts: Sequence[FindingPrompts],
    ensemble: str,
    exclusive: bool = False,
) -> Array:
    """(N, K) scores in [0, 1]; images (N, D), rows of length 1, on the CPU."""
    positive = prompt_vectors(embed, [p.positive for p in prompts], ensemble)
    if exclusive:
        return np.asarray(softmax(positive.cosines(images), axis=1))
    negative = prompt_vectors(embed, [p.negative for p in prompts], ensemble)
    if positive.single and negative.single:
        difference = positive.vectors.double() - negative.vectors.double()
        return np.asarray(expit(inner_products(images, difference)))
    cosine, denied = positive.cosines(images), negative.cosines(images)
    return np.where(np.isnan(denied), (1 + cosine) / 2, expit(cosine - denied))


def paraphrases(prompts: PromptSet, findings: Sequence[str]) -> list[list[FindingPrompts]]:
    """One list of single prompts, one for each finding, for each paraphrase of the set.

    Paraphrase i takes prompt i of each finding, beginning again where a finding has fewer.
    """
    each = [prompts.prompts(finding) for finding in findings]
    count = max(len(texts) for one in each for texts in (one.positive, one.negative))
    return [
        [
            dataclasses.replace(
                one, positive=_at(one.positive, index), negative=_at(one.negative, index)
            )
            for one in each
        ]
        for index in range(count)
    ]


def _at(texts: tuple[str, ...], index: int) -> tuple[str, ...]:
    return (texts[index % len(texts)],) if texts else ()
