"""An untrained model: what every score is worth when nothing was learned.

Shapes: B batch, S input side, D shared width, T texts, h w grid. Without a SOURCE: a ResNet-18 at
64 pixels, as in the recipe g2d-tiny, with a random projection, and texts as the mean of one random
direction per word. The image never shares anything with the text, so zero-shot scores are those of
chance. With `random-init:RUN_DIR`: the architecture, preprocessing and tokenizer of that run, built
anew from the seed; the row to put beside the run.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn
from torch.nn import functional as F

from g2dbench.cards import MethodCard, ModelCard
from g2dbench.errors import BadCheckpoint, BadData, Misuse
from g2dbench.model import Grounding, Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.feature_maps import cosines
from g2dbench.pretrained.tokenizer import FILE as TOKENIZER_FILE
from g2dbench.pretrained.tokenizer import load_tokenizer
from g2dbench.pretrained.weights import digest
from g2dbench.registry import Registry
from g2dbench.runs.folder import read_info
from g2dbench.system.seeded_init import seeded

CARD = ModelCard(
    name="random-init",
    summary="Untrained ResNet-18, or the untrained twin of a run: random-init:RUN_DIR",
    paper="none: the floor of every table",
    source="drawn from the seed",
    licence="none: there are no weights",
    capabilities=("embeds", "features", "locates"),
    needs_weights=False,
    source_kind="folder",
)

ENCODER, SIDE, WIDTH = "resnet18", 64, 128
SHARED = -2
"""The map that is compared with texts: stride 16, as in g2d-tiny; 4 x 4 cells."""
_WORD = re.compile(r"\w+")


class RandomInit(Model):
    """A ResNet-18 as it is before training, and texts as sums of random directions."""

    card = CARD
    preprocess = Preprocess(size=SIDE, mean=(0.5,), std=(0.25,))
    grounding = Grounding()
    fixed_size = False

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.encoder = get_encoder(ENCODER, weights=None)
        self.channels = tuple(self.encoder.out_channels[1:])
        self.strides = tuple(2**level for level in range(1, 6))
        self.projection = nn.Linear(self.channels[SHARED], WIDTH, bias=False)

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D), each row of length 1."""
        return F.normalize(self.projection(self.features(images)[SHARED].mean((2, 3))), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1; a word has the same direction in every text."""
        vectors = np.stack([self._text(text) for text in texts]) if texts else np.zeros((0, WIDTH))
        return F.normalize(torch.from_numpy(vectors).to(self.projection.weight), dim=-1)

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the maps of stride 2 to 32."""
        maps: list[Tensor] = self.encoder(images)[1:]
        return maps

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C): mean over the pixels of the last map."""
        return self.features(images)[-1].mean((2, 3))

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T, h, w) cosines of projected pixels and texts."""
        pixels = self.projection(self.features(images)[SHARED].permute(0, 2, 3, 1))
        return cosines(pixels.permute(0, 3, 1, 2), self.embed_texts(texts))

    def _text(self, text: str) -> NDArray[np.float64]:
        words = _WORD.findall(text.lower()) or [""]
        mean: NDArray[np.float64] = np.mean([self._word(word) for word in words], axis=0)
        return mean

    def _word(self, word: str) -> NDArray[np.float64]:
        code = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
        return np.random.default_rng([self.seed, code]).standard_normal(WIDTH)


def load(source: str | None, seed: int) -> Model:
    """The untrained model of this seed, or with a SOURCE the untrained twin of that run.

    Raises Misuse where SOURCE is no folder, BadCheckpoint where it holds no readable run.
    """
    if source is None:
        model: Model = seeded(lambda: RandomInit(seed), torch.Generator().manual_seed(seed))
        label = CARD.name
    else:
        run = Path(source).expanduser()
        model = _twin(run, seed)
        label = f"{CARD.name}:{read_info(run).label}"
    model.identity = Identity(label, digest(model), seed)
    return model.eval()


def _twin(run: Path, seed: int) -> Model:
    """The run's model as its method builds it from this seed: the weights before the first step."""
    if not run.is_dir():
        raise Misuse(f"there is no run folder {run}; random-init without a source needs none")
    info = read_info(run)
    method = Registry().find(MethodCard, info.recipe.method)
    try:
        tokenizer = load_tokenizer(run / TOKENIZER_FILE)
        model: Model = method.load().build(info.architecture, tokenizer, seed).as_model()
    except (BadData, Misuse) as error:
        raise BadCheckpoint(f"the run in {run} cannot be rebuilt: {error}") from error
    model.card = replace(CARD, capabilities=method.card.capabilities)
    return model
