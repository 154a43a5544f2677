"""What BioViL and BioViL-T share: CXR-BERT, patches beside texts, and smoothed similarity maps.

Shapes: T texts, D = 128. Source: microsoft/hi-ml at b67c1d2, hi-ml-multimodal.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from g2dbench.pretrained.image.feature_maps import cosine_similarity
from g2dbench.pretrained.text.text_batches import encode_in_batches
from g2dbench.pretrained.text.tokenizer import Tokenize

EMBED_DIM = 128
UNUSED_TEXT_KEYS = (r"^cls\.", r"^bert\.pooler\.")
"""Keys that no embedding needs: the masked-language-modeling head and the pooler."""
SMOOTHING_SIGMA, SMOOTHING_TRUNCATE = 1.5, 4.0
"""Gaussian smoothing of the similarity map: the standard deviation in patches
(vlp/inference_engine.py), and the number of standard deviations after which SciPy truncates it."""


class Projection(nn.Module):
    """(T, 768) [CLS] states -> (T, D) text embeddings, not normalized; ALTA has one for images."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.dense_to_hidden = nn.Linear(hidden, width)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)
        self.dense_to_output = nn.Linear(width, width)

    def forward(self, states: Tensor) -> Tensor:
        """(T, 768) -> (T, D)."""
        hidden = self.LayerNorm(F.gelu(self.dense_to_hidden(states)))
        projected: Tensor = self.dense_to_output(hidden)
        return projected


class CXRBert(nn.Module):
    """CXR-BERT without its masked-language-modeling head, with the official state_dict's keys."""

    def __init__(self, config: BertConfig, width: int = EMBED_DIM) -> None:
        super().__init__()
        self.bert = BertModel(config, add_pooling_layer=False)
        self.cls_projection_head = Projection(config.hidden_size, width)
        self.max_tokens: int = config.max_position_embeddings

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(T, L) tokens and attention -> (T, D) embeddings, not normalized."""
        states = self.bert(input_ids=tokens, attention_mask=mask).last_hidden_state
        projected: Tensor = self.cls_projection_head(states[:, 0])
        return projected


class PatchesAndTexts(ABC):
    """What BioViL and BioViL-T share: projected patches of an image beside CXR-BERT's texts.

    `Model`s derive from it; `text` and `tokenize` are theirs to set.
    """

    text: CXRBert
    tokenize: Tokenize

    @abstractmethod
    def patches(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D, h, w) projected patches, not normalized."""

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D): the mean of the projected patches, normalized."""
        return F.normalize(self.patches(images).mean(dim=(2, 3)), dim=-1)

    def similarity(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T, h, w) cosine similarity, not smoothed."""
        return cosine_similarity(self.patches(images), self.embed_texts(texts))

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T, h, w): `similarity` after Gaussian smoothing."""
        return smooth(self.similarity(images, texts))

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), normalized; final `.`, `!` and `?` are removed (text/data/io.py)."""
        return F.normalize(self.project_texts(texts), dim=-1)

    def project_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), not normalized: the library averages these over prompts."""
        return encode_in_batches(self._project_few, [text.rstrip("!?.") for text in texts])

    def _project_few(self, texts: Sequence[str]) -> Tensor:
        device = self.text.cls_projection_head.dense_to_output.weight.device
        tokens, mask = (part.to(device) for part in self.tokenize(texts))
        projected: Tensor = self.text(tokens, mask)
        return projected


def patch_projector(channels: int) -> nn.Sequential:
    """The projection of a map's cells into the space of the texts."""
    return nn.Sequential(
        nn.Conv2d(channels, EMBED_DIM, 1, bias=False),
        nn.BatchNorm2d(EMBED_DIM),
        nn.ReLU(),
        nn.Conv2d(EMBED_DIM, EMBED_DIM, 1),
    )


def smooth(maps: Tensor) -> Tensor:
    """(B, T, h, w) -> (B, T, h, w): the maps after Gaussian smoothing."""
    rows, columns = (gaussian_matrix(length).to(maps) for length in maps.shape[-2:])
    return rows @ maps @ columns.T


def gaussian_matrix(length: int) -> Tensor:
    """(length, length) float64: `scipy.ndimage.gaussian_filter1d`, mode "reflect", as a matrix."""
    radius = int(SMOOTHING_TRUNCATE * SMOOTHING_SIGMA + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / SMOOTHING_SIGMA) ** 2)
    # "reflect" repeats the edge: positions run 0 .. n-1, n-1 .. 0, with period 2n.
    position = (np.arange(length)[:, None] + offsets) % (2 * length)
    position = np.minimum(position, 2 * length - 1 - position)
    matrix = np.zeros((length, length))
    np.add.at(matrix, (np.arange(length)[:, None], position), weights / weights.sum())
    return torch.from_numpy(matrix)
