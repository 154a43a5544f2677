"""CLIP and SigLIP models of transformers, from a folder or the hub, for wrappers with a card.

Shapes: B batch, S input side, D shared width, T texts, N patches, h w grid, C channels.
SOURCE is a folder that `save_pretrained` wrote, or a hub id. Code in the folder is never executed.
Papers: Radford et al., ICML 2021 (CLIP); Zhai et al., ICCV 2023 (SigLIP).
"""

import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoTokenizer, CLIPModel, SiglipModel

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint
from g2dbench.model import Grounding, Identity, Model
from g2dbench.preprocess import CLIP_MEAN, CLIP_STD, Preprocess
from g2dbench.pretrained.hf_weights import load_strictly
from g2dbench.pretrained.hub import model_folder, read_json
from g2dbench.pretrained.image.feature_maps import (
    cosine_similarity,
    nearest_stride,
    resample_to_stride,
    to_grid,
)
from g2dbench.pretrained.image.image_processor import read_preprocess
from g2dbench.pretrained.text.tokenizer import apply_special_token_settings
from g2dbench.pretrained.weights import digest

_CLASSES = {"clip": CLIPModel, "siglip": SiglipModel}
_SIGLIP_MEAN_STD = (0.5, 0.5, 0.5)
_TEXT_BATCH = 64
_GEMMA_EOS = "<eos>"
"""The end-of-text token of Gemma's vocabulary, which SigLIP 2 uses. SigLIP's token is "</s>"."""
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class HFCLIP(Model):
    """A CLIP or SigLIP model. Its localization is not trained: the loss uses no single patches.

    locate: each patch is passed separately through the layers after the last block: CLIP's norm and
    projection, or SigLIP's attention pooling over that single patch.

    Texts are cleaned as in the training of the published model, whatever tokenizer the folder
    names: see `_text_cleaner`. They are padded to the context length, so that the embedding of a
    text does not depend on the other texts of its batch.
    """

    grounding = Grounding()
    fixed_size = True

    def __init__(self, card: ModelCard, clip: Any, tokenizer: Any, preprocess: Preprocess) -> None:
        super().__init__()
        self.card = card
        self.clip = clip
        self.tokenizer = tokenizer
        self.preprocess = preprocess
        vision = clip.config.vision_config
        self.channels = (int(vision.hidden_size),)
        self.strides = (nearest_stride(vision.patch_size, 1),)
        self._is_siglip = clip.config.model_type == "siglip"
        self._clean = _text_cleaner(self._is_siglip, tokenizer)

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D), each row of length 1."""
        return F.normalize(self.pooled(images), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1; texts are truncated to the context length."""
        starts = range(0, len(texts), _TEXT_BATCH)
        return torch.cat([self._embed_batch(texts[at : at + _TEXT_BATCH]) for at in starts])

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> one feature map: the patches after the final norm."""
        return [
            resample_to_stride(to_grid(self._patches(images)), images.shape[-1], self.strides[0])
        ]

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D): `get_image_features`, the input of OpenAI's linear probe."""
        output: Tensor = self.clip.vision_model(pixel_values=images).pooler_output
        return output if self._is_siglip else self.clip.visual_projection(output)

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T, h, w) cosine similarity of each patch and text."""
        patches = self._patches(images)
        if self._is_siglip:
            pooled = self.clip.vision_model.head(patches.reshape(-1, 1, patches.shape[-1]))
            aligned = pooled.view(*patches.shape[:2], -1)
        else:
            aligned = self.clip.visual_projection(patches)
        return cosine_similarity(to_grid(aligned), self.embed_texts(texts))

    def _patches(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, N, C) after the final norm."""
        states: Tensor = self.clip.vision_model(pixel_values=images).last_hidden_state
        if self._is_siglip:
            return states
        normed: Tensor = self.clip.vision_model.post_layernorm(states[:, 1:])
        return normed

    def _embed_batch(self, texts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(
            [self._clean(text) for text in texts],
            padding="max_length",
            truncation=True,
            max_length=self.clip.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self.clip.device)
        # SigLIP was trained without an attention mask, so it attends to padding (HF's model page).
        mask = None if self._is_siglip else tokens["attention_mask"]
        output: Tensor = self.clip.text_model(
            input_ids=tokens["input_ids"], attention_mask=mask
        ).pooler_output
        return F.normalize(output if self._is_siglip else self.clip.text_projection(output), dim=-1)


def _text_cleaner(is_siglip: bool, tokenizer: Any) -> Callable[[str], str]:
    """The cleaning of a text before tokenization, as in the training of the published model.

    SigLIP 2: lower case (transformers' Siglip2Tokenizer; most folders name GemmaTokenizer, which
    keeps the case). SigLIP: lower case without punctuation (SiglipTokenizer). CLIP: none here,
    because CLIPTokenizer itself changes a text to lower case.
    """
    if not is_siglip:
        return str
    return str.lower if tokenizer.eos_token == _GEMMA_EOS else canonicalize


def canonicalize(text: str) -> str:
    """The text in lower case, without punctuation, with single spaces, as in SigLIP's training.

    Source: transformers, SiglipTokenizer.canonicalize_text, which follows big_vision.
    """
    return " ".join(text.lower().translate(_NO_PUNCTUATION).split())


def load_clip(
    source: str | None, card: ModelCard, kinds: Sequence[str] = tuple(_CLASSES)
) -> HFCLIP:
    """The model of a folder or a hub id; kinds: the model types that the card allows.

    Raises Misuse for a SOURCE that is neither, BadCheckpoint for a folder that is incomplete,
    broken or of another kind of model, or whose weights do not match its configuration.
    """
    folder = model_folder(source, card.name, "config.json")
    kind = str(read_json(folder / "config.json").get("model_type"))
    if kind not in kinds:
        raise BadCheckpoint(
            f"{folder / 'config.json'} describes a {kind!r} model; "
            f"{card.name} reads {' and '.join(kinds)}"
        )
    clip = load_strictly(_CLASSES[kind], folder).eval()
    preprocess = _read_preprocess(folder, kind == "siglip", clip.config.vision_config.image_size)
    model = HFCLIP(card, clip, _load_tokenizer(folder), preprocess)
    label = folder.resolve().name if Path(source or "").expanduser().is_dir() else source
    model.identity = Identity(f"{card.name}:{label}", digest(model))
    return model.eval()


def _load_tokenizer(folder: Path) -> Any:
    try:
        found = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
        raise BadCheckpoint(
            f"{folder} has no usable tokenizer ({str(error).strip().splitlines()[0]}); copy all "
            "its tokenizer files; SigLIP also needs `pip install sentencepiece protobuf`"
        ) from error
    apply_special_token_settings(found, folder)
    return found


def _read_preprocess(folder: Path, is_siglip: bool, side: int) -> Preprocess:
    """The folder's image processor; missing entries get the defaults of the kind of model."""
    default = Preprocess(
        size=side,
        fit="stretch" if is_siglip else "crop",
        mean=_SIGLIP_MEAN_STD if is_siglip else CLIP_MEAN,
        std=_SIGLIP_MEAN_STD if is_siglip else CLIP_STD,
    )
    return read_preprocess(folder, default, side)
