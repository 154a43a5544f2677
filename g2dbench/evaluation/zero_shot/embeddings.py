"""Embeddings of images and texts that depend on no other image or text.

Legend: N images or texts, D width.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from g2dbench.dataset import Dataset
from g2dbench.evaluation.frozen_features import FrozenEncoder, encode_dataset
from g2dbench.evaluation.zero_shot.prompt_scores import TextEmbedder
from g2dbench.model import Embeds, Model
from g2dbench.task import Run


def embed_images(model: Model, data: Dataset, run: Run[Any], title: str = "images") -> Tensor:
    """(N, D) on the CPU, rows of length 1; read from the feature cache if they are there."""
    assert isinstance(model, Embeds)
    embed = model.embed_images
    frozen = FrozenEncoder(model, lambda x: [embed(x)], model.preprocess, run, "embed_images")
    return encode_dataset(frozen, data, run, title)


def embed_texts(model: Embeds, texts: Sequence[str], run: Run[Any], title: str = "texts") -> Tensor:
    """(N, D) on the CPU, rows of length 1; each different text is encoded once, alone."""
    embed = TextEmbedder(model)
    different = sorted(set(texts))
    for text in run.progress(different, title, len(different)):
        embed([text])
    return embed(texts)
