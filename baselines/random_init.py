"""An untrained model: the score of each task without any training.

Shapes: B batch, S input side, D embedding width, T texts, h w grid. Without a SOURCE: a ResNet-18
at 64 pixels, as in the recipe g2d-tiny, with a random projection; a text is the mean of one random
vector per word. Images and texts are unrelated, so zero-shot scores are at chance level. With
`random-init:RUN_DIR`: the architecture, preprocessing and tokenizer of that run with weights
initialized from the seed, as the baseline of the run.
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
from g2dbench.pretrained.image.feature_maps import cosine_similarity
from g2dbench.pretrained.text.tokenizer import TOKENIZER_FILE, load_tokenizer
from g2dbench.pretrained.weights import digest
from g2dbench.registry import Registry
from g2dbench.runs.folder import read_info
from g2dbench.system.seeded_init import seeded

CARD = ModelCard(
    name="random-init",
    summary="Untrained ResNet-18, or the untrained model of a run: random-init:RUN_DIR",
    paper="none: the untrained baseline",
    source="initialized from the seed",
    licence="none: there are no weights",
    capabilities=("embeds", "features", "locates"),
    needs_weights=False,
    source_kind="folder",
)

ENCODER_NAME, IMAGE_SIZE, EMBED_DIM = "resnet18", 64, 128
TEXT_LEVEL = -2
"""Index of the feature map that is compared with texts: stride 16, 4 x 4 cells, as in g2d-tiny."""
_WORD = re.compile(r"\w+")


class RandomInit(Model):
    """A ResNet-18 before training, and texts as means of random vectors."""

    card = CARD
    preprocess = Preprocess(size=IMAGE_SIZE, mean=(0.5,), std=(0.25,))
    grounding = Grounding()
    fixed_size = False

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.encoder = get_encoder(ENCODER_NAME, weights=None)
        self.channels = tuple(self.encoder.out_channels[1:])
        self.strides = tuple(2**level for level in range(1, 6))
        self.projection = nn.Linear(self.channels[TEXT_LEVEL], EMBED_DIM, bias=False)

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D), each row of length 1."""
        return F.normalize(self.projection(self.features(images)[TEXT_LEVEL].mean((2, 3))), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1; a word has the same vector in every text."""
        vectors = (
            np.stack([self._text_vector(text) for text in texts])
            if texts
            else np.zeros((0, EMBED_DIM))
        )
        return F.normalize(torch.from_numpy(vectors).to(self.projection.weight), dim=-1)

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the feature maps of strides 2 to 32."""
        maps: list[Tensor] = self.encoder(images)[1:]
        return maps

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C): mean over the pixels of the last map."""
        return self.features(images)[-1].mean((2, 3))

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T, h, w) cosine similarity of projected pixels and texts."""
        pixels = self.projection(self.features(images)[TEXT_LEVEL].permute(0, 2, 3, 1))
        return cosine_similarity(pixels.permute(0, 3, 1, 2), self.embed_texts(texts))

    def _text_vector(self, text: str) -> NDArray[np.float64]:
        words = _WORD.findall(text.lower()) or [""]
        mean: NDArray[np.float64] = np.mean([self._word_vector(word) for word in words], axis=0)
        return mean

    def _word_vector(self, word: str) -> NDArray[np.float64]:
        code = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
        return np.random.default_rng([self.seed, code]).standard_normal(EMBED_DIM)


def load(source: str | None, seed: int) -> Model:
    """The untrained model of this seed; with a SOURCE, the untrained model of that run.

    Raises Misuse where SOURCE is not a folder, BadCheckpoint where it contains no readable run.
    """
    if source is None:
        model: Model = seeded(lambda: RandomInit(seed), torch.Generator().manual_seed(seed))
        label = CARD.name
    else:
        run = Path(source).expanduser()
        model = _untrained_model(run, seed)
        label = f"{CARD.name}:{read_info(run).label}"
    model.identity = Identity(label, digest(model), seed)
    return model.eval()


def _untrained_model(run: Path, seed: int) -> Model:
    """The run's model with the weights before the first step, initialized from this seed."""
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
