"""A model that scores chance in every task: its outputs know which image it is, and nothing else.

Every output is pseudo-random: a function of the image's pixels as a whole, the text, and the seed.
One changed pixel changes all of it, so that no head can learn anything about images that it has not
seen, and no output depends on the batch. Random rather than constant outputs: with ties, a rank or
a threshold would depend on how the metric treats ties.

What a task can be solved with without looking at an image is chance too: a segmentation head still
learns where lesions usually are.

Shapes: B batch, S input side, D width, T texts, C channels, h w grid.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from g2dbench.cards import ModelCard
from g2dbench.errors import Misuse
from g2dbench.model import Grounding, Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.weights import digest

CARD = ModelCard(
    name="chance",
    summary="Scores chance in every task: random numbers that depend on the image as a whole.",
    paper="none: what a score is worth without any information",
    source="drawn from the seed and the image",
    licence="none: there are no weights",
    capabilities=("embeds", "features", "locates", "matches"),
    needs_weights=False,
    source_kind="",
)

SIDE, WIDTH = 64, 64
Values = NDArray[np.float32]


class Chance(Model):
    """Pseudo-random outputs; the only entry of its state is the seed."""

    card = CARD
    preprocess = Preprocess(size=SIDE, channels=1)
    grounding = Grounding()
    channels, strides, fixed_size = (8, 16, 32), (8, 16, 32), True

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.register_buffer("seed", torch.tensor(seed))
        self._seed = seed

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) -> (B, D), each row of length 1."""
        return F.normalize(self._for_images(images, "embedding", (WIDTH,)), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1."""
        rows = [self._normal(text.encode(), "text", (WIDTH,)) for text in texts]
        values = np.stack(rows) if rows else np.zeros((0, WIDTH), np.float32)
        return F.normalize(torch.from_numpy(values).to(self.get_buffer("seed").device), dim=-1)

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 1, S, S) -> the maps of stride 8, 16 and 32."""
        return [
            self._for_images(images, f"stride {stride}", (width, SIDE // stride, SIDE // stride))
            for width, stride in zip(self.channels, self.strides, strict=True)
        ]

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) -> (B, D)."""
        return self._for_images(images, "pooled", (WIDTH,))

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 1, S, S), T texts -> (B, T, h, w) between -1 and 1."""
        maps = [self._for_images(images, f"map of {text}", (8, 8)) for text in texts]
        return torch.stack(maps, 1).tanh() if maps else images.new_zeros(len(images), 0, 8, 8)

    def match(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        """(B, 1, S, S), T finding names -> (B, T) in [0, 1]."""
        values = [self._for_images(images, f"probability of {name}", ()) for name in findings]
        return torch.stack(values, 1).sigmoid() if values else images.new_zeros(len(images), 0)

    def panels(self, images: Tensor, reports: Sequence[str] | None) -> dict[str, Tensor]:
        """(B, 1, S, S) -> one map (B, h, w) in [0, 1]."""
        return {"attention": self._for_images(images, "attention", (8, 8)).sigmoid()}

    def _for_images(self, images: Tensor, output: str, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers of this shape for each image, (B, *shape)."""
        pixels = images.detach().float().cpu().numpy()
        rows = [self._normal(image.tobytes(), output, shape) for image in pixels]
        return torch.from_numpy(np.stack(rows)).to(images.device)

    def _normal(self, content: bytes, output: str, shape: tuple[int, ...]) -> Values:
        key = hashlib.sha256(f"{self._seed} {output} ".encode() + content).digest()
        generator = np.random.default_rng(int.from_bytes(key[:16], "little"))
        return np.asarray(generator.standard_normal(shape), np.float32)


def load(source: str | None, seed: int) -> Model:
    """The model of this seed; Misuse for a source, since there are no weights."""
    if source is not None:
        raise Misuse(f"chance has no weights: --model chance, not chance:{source}")
    model = Chance(seed)
    model.identity = Identity(CARD.name, digest(model), seed)
    return model.eval()
