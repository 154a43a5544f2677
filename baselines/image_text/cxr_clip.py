"""CXR-CLIP: a ResNet-50 or Swin-T and ClinicalBERT in one space (You et al., MICCAI 2023).

Shapes: B batch, S = 224, T texts, D = 512. Source: Soombit-ai/cxr-clip (before: kakaobrain) at
955ab93. SOURCE is a folder in which the user puts two things, or the checkpoint in it:

    r50_mcc.tar              one published checkpoint, under any name; it is no archive
    Bio_ClinicalBERT/        config.json and the vocabulary of emilyalsentzer/Bio_ClinicalBERT

The image encoder and the kind of projection (linear or MLP) are read from the keys. The Swin's
global feature is the first patch after the final norm, as the original takes it ("[CLS]").
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertModel

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint
from g2dbench.model import Identity, Model
from g2dbench.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from g2dbench.pretrained.checkpoint_folder import find_checkpoint, text_folder
from g2dbench.pretrained.layouts import part_of, unwrapped
from g2dbench.pretrained.text import bert
from g2dbench.pretrained.text.tokenizer import Tokenize
from g2dbench.pretrained.towers import ResNetTower, SwinTower, modern_swin
from g2dbench.pretrained.weights import State, digest, find_state, load_state, read_weights

CARD = ModelCard(
    name="cxr-clip",
    summary="CXR-CLIP: ResNet-50 or Swin-T and ClinicalBERT, one space for images and texts",
    paper="You et al., CXR-CLIP: Toward Large Scale Chest X-ray Language-Image Pre-training, "
    "MICCAI 2023",
    source="github.com/Soombit-ai/cxr-clip",
    licence="CC BY-NC 4.0 (README), CC BY-NC-SA 4.0 (licence file)",
    capabilities=("embeds", "features"),
    trained_on=("mimic_cxr", "chexpert", "nih_cxr14"),
    source_kind="folder",
    signature=("text_encoder.text_encoder.embeddings.word_embeddings.weight", "logit_scale"),
    files=(
        "r50_m.tar",
        "r50_mc.tar",
        "r50_mcc.tar",
        "swint_m.tar",
        "swint_mc.tar",
        "swint_mcc.tar",
    ),
    noncommercial=True,
    input_size=224,
    text_needs="Bio_ClinicalBERT/ with config.json and vocab.txt beside the checkpoint",
    tested_with=("transformers 5.24", "torch 2.14"),
    openness="weights and code public; no commercial use",
    notes=(
        "Files m were trained on MIMIC-CXR, mc on CheXpert too, mcc on ChestX-ray14 too: mcc saw "
        "the images of ChestX-ray14, RSNA and SIIM.",
        "Its 5x200 figures average over all 15 to 210 prompts of a class; here the task's prompts "
        "decide.",
        "Its retrieval counts reports with the same text as one.",
        "The Swin's global feature is the first patch: a quirk of the original, kept.",
    ),
)

BERT_FOLDER, BERT_HUB = "Bio_ClinicalBERT", "emilyalsentzer/Bio_ClinicalBERT"
MAX_TOKENS, TEXT_BATCH, SIDE = 256, 64, 224
HALF = (0.5, 0.5, 0.5)


class _Projection(nn.Module):
    """(B, C) -> (B, D): one layer, or a residual MLP with a LayerNorm."""

    def __init__(self, state: State) -> None:
        super().__init__()
        width, hidden = state["projection.weight"].shape
        self.projection = nn.Linear(hidden, width)
        self.is_mlp = "fc.weight" in state
        if self.is_mlp:
            self.fc = nn.Linear(width, width)
            self.layer_norm = nn.LayerNorm(width)

    def forward(self, features: Tensor) -> Tensor:
        projected: Tensor = self.projection(features)
        if not self.is_mlp:
            return projected
        mixed: Tensor = self.layer_norm(self.fc(F.gelu(projected)) + projected)
        return mixed


class CXRCLIP(Model):
    """The published CXR-CLIP: global embeddings and feature maps."""

    card = CARD

    def __init__(
        self, image: ResNetTower | SwinTower, text: BertModel, heads: dict[str, nn.Module]
    ) -> None:
        super().__init__()
        self.image = image
        self.text = text
        self.heads = nn.ModuleDict(heads)
        is_swin = isinstance(image, SwinTower)
        self.preprocess = Preprocess(
            size=SIDE, fit="crop", mean=HALF if is_swin else IMAGENET_MEAN,
            std=HALF if is_swin else IMAGENET_STD,
        )  # fmt: skip
        self.channels, self.strides = image.channels, image.strides
        self.fixed_size = image.fixed_size
        self.tokenize: Tokenize

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C): the mean of the last map, for a Swin its first patch."""
        if isinstance(self.image, SwinTower):
            return self.image.states(images)[:, 0]
        return self.image.pooled(images)

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the feature pyramid of the ResNet or Swin."""
        return self.image.pyramid(images)

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D), each row of length 1."""
        return F.normalize(self.heads["image"](self.pooled(images)), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1: the state of the last token, [SEP]."""
        starts = range(0, len(texts), TEXT_BATCH)
        return torch.cat([self._embed_batch(texts[at : at + TEXT_BATCH]) for at in starts])

    def _embed_batch(self, texts: Sequence[str]) -> Tensor:
        tokens, mask = (part.to(self.text.device) for part in self.tokenize(texts))
        states = self.text(input_ids=tokens, attention_mask=mask).last_hidden_state
        last = states[torch.arange(len(states), device=states.device), mask.sum(dim=1) - 1]
        return F.normalize(self.heads["text"](last), dim=-1)


def load(source: str | None, seed: int) -> Model:
    """CXR-CLIP from the folder described above, or from the checkpoint in it; `seed` is unused.

    Raises Misuse without a source or with several checkpoints, BadCheckpoint where a file is
    missing or does not fit.
    """
    file = find_checkpoint(source, CARD, BERT_FOLDER)
    state = unwrapped(find_state(read_weights(file), file))
    folder = text_folder(file, CARD, BERT_FOLDER, BERT_HUB)
    image = _read_image(state, file)
    text = bert.fill_encoder(folder, part_of(state, "text_encoder.text_encoder."), file)
    model = CXRCLIP(image, text, {who: _read_head(state, who, file) for who in ("image", "text")})
    limit = min(MAX_TOKENS, text.config.max_position_embeddings)
    model.tokenize = Tokenize(bert.read_tokenizer(folder, text.config.vocab_size), limit)
    model.identity = Identity(f"{CARD.name}:{file.name}", digest(model))
    return model.eval()


def _read_image(state: State, file: Any) -> ResNetTower | SwinTower:
    resnet = part_of(state, "image_encoder.resnet.")
    if resnet:
        tower = ResNetTower()
        load_state(tower.network, resnet, file)
        return tower
    swin = modern_swin(part_of(state, "image_encoder.image_encoder."))
    if not swin:
        raise BadCheckpoint(f"{file} is not CXR-CLIP: it has no image_encoder.resnet or Swin")
    return SwinTower.load(swin, SIDE, file)


def _read_head(state: State, who: str, file: Any) -> nn.Module:
    own = part_of(state, f"{who}_projection.")
    if "projection.weight" not in own:
        raise BadCheckpoint(f"{file} is not CXR-CLIP: it has no {who}_projection")
    head = _Projection(own)
    load_state(head, own, file)
    return head
