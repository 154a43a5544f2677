"""MAVL: diseases as a decoder's queries, each with eight visual aspects (Phan et al., CVPR 2024).

Shapes: B batch, S input side, P = (S / 16)^2 patches, D = 256, Q diseases, T texts.
Source: HieuPhan33/CVPR2024_MAVL at 6a5eacd, Zero-shot_classification and Zero-shot_grounding.
SOURCE is a folder in which the user puts four things, or the checkpoint in it:

    checkpoint_full_46.pth           a published checkpoint, under any name
    observation explanation.json     the disease book of the original repository (no license)
    gpt4_mimic.json                  its visual aspects, Pretrain/concept_gen (no license)
    Bio_ClinicalBERT/                the hub repository emilyalsentzer/Bio_ClinicalBERT

A disease has nine queries: its explanation, then its aspects. Queries attend to each other, so the
first 75 diseases of the book are always decoded together, as in the original. An entry behind
them, such as covid19, is decoded as a 76th disease, alone. A text that is no entry has no aspects:
it takes the place of all nine queries of a 76th disease, which is ours.
`match` is the original's mode "feature". The original also compares the image's global vector with
the queries by cosine (mode "text"), which `embed_images` and `embed_texts` give.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from open_clip.modified_resnet import AttentionPool2d
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertModel, BertTokenizerFast

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint
from g2dbench.model import Grounding, Identity, Model
from g2dbench.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from g2dbench.pretrained.checkpoint_folder import find_checkpoint
from g2dbench.pretrained.disease_book import (
    ALIASES,
    BERT_FOLDER,
    BOOK_FILE,
    ENTRIES,
    find_bert_folder,
    plain_name,
    read_book,
)
from g2dbench.pretrained.hub import read_json
from g2dbench.pretrained.image import resnet
from g2dbench.pretrained.image.feature_maps import to_grid
from g2dbench.pretrained.layouts import strip_to, strip_wrappers
from g2dbench.pretrained.query_decoder import QueryLayer
from g2dbench.pretrained.text.bert import read_encoder, read_tokenizer
from g2dbench.pretrained.text.text_batches import encode_in_batches
from g2dbench.pretrained.text.tokenizer import Tokenize
from g2dbench.pretrained.weights import digest, find_state, load_state, read_weights

CARD = ModelCard(
    name="mavl",
    summary="MAVL: ResNet-50 to layer 3, and 75 diseases with visual aspects as decoder queries",
    paper="Phan et al., Decomposing Disease Descriptions for Enhanced Pathology Detection: A "
    "Multi-Aspect Vision-Language Pre-training Framework, CVPR 2024",
    source="github.com/HieuPhan33/CVPR2024_MAVL (Pretrain/data_file/DATA_Prepare.md: Google Drive)",
    licence="none given",
    capabilities=("embeds", "features", "locates", "matches"),
    trained_on=("mimic_cxr",),
    source_kind="folder",
    signature=("module.pool.c_proj.weight", "module.location_emb.weight"),
    files=("checkpoint_full_46.pth", "checkpoint_full_40.pth"),
    input_size=224,
    text_needs="the folder Bio_ClinicalBERT, `observation explanation.json` and `gpt4_mimic.json` "
    "beside the weights",
    tested_with=("torch 2.14", "torchvision 0.29", "transformers 5.24"),
    openness="weights and code are public, without a license file",
    notes=(
        "Its authors take checkpoint_full_46.pth for classification and checkpoint_full_40.pth "
        "for grounding: two rows.",
        "Its published grounding figures take the best of a grid of thresholds, and the best F1 "
        "of each image, on the test set; there is no fixed threshold.",
    ),
)

ASPECT_FILE = "gpt4_mimic.json"
WIDTH, HEADS, LAYERS, HIDDEN, POOL_HEADS = 256, 4, 4, 1024, 8
POOL_SIDE, MAX_TOKENS = 14, 64
ASPECTS = 8
QUERIES = 1 + ASPECTS
LOCATED = (0, 6, 7, 8)
"""Queries of a disease whose attention is its map (Zero-shot_grounding/test.py)."""
_UNUSED_KEYS = (r"^location_emb\.", r"temp")
"""The head of locations, and temperatures, which the original's tests drop too."""


class _Network(nn.Module):
    """Image encoder, query decoder and classifier, with the key names of the checkpoint."""

    def __init__(self, text_width: int) -> None:
        super().__init__()
        self.backbone: Any = resnet.make_resnet()
        self.backbone.layer4 = nn.Identity()
        self.pool = AttentionPool2d(POOL_SIDE, 1024, POOL_HEADS, WIDTH)
        self.res_l1 = nn.Sequential(nn.Conv2d(1024, 1024, 1), nn.PReLU())
        self.res_l2 = nn.Conv2d(1024, WIDTH, 1)
        self.disease_embedding_layer = nn.Linear(text_width, WIDTH)
        layers = [QueryLayer(WIDTH, HEADS, HIDDEN) for _ in range(LAYERS)]
        self.decoder = nn.ModuleDict({"layers": nn.ModuleList(layers), "norm": nn.LayerNorm(WIDTH)})
        self.classifier = nn.Linear(WIDTH * QUERIES, 2)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> feature maps of strides 2, 4, 8 and 16."""
        return resnet.pyramid(self.backbone, images)[:4]

    def patches(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, P, D) projected patches."""
        projected: Tensor = self.res_l2(self.res_l1(self.pyramid(images)[-1]))
        return projected.flatten(2).transpose(1, 2)

    def decode(self, texts: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """(Q * 9, 768), (B, P, D) -> probabilities (B, Q), attention of layers (B, Q, P)."""
        queries = self.disease_embedding_layer(texts).expand(len(patches), -1, -1)
        attention = []
        for layer in self.decoder["layers"].children():
            queries, weights = layer(queries, patches)
            attention.append(weights)
        by_disease = self.decoder["norm"](queries).unflatten(1, (-1, QUERIES)).flatten(2)
        maps = torch.stack(attention).mean(dim=0).unflatten(1, (-1, QUERIES))
        probabilities: Tensor = self.classifier(by_disease).softmax(dim=-1)[..., 1]
        return probabilities, maps[:, :, list(LOCATED)].mean(dim=2)


class MAVL(Model):
    """The published MAVL: probabilities of diseases, attention maps, embeddings, feature maps."""

    card = CARD
    preprocess = Preprocess(size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    channels, strides = resnet.CHANNELS[:4], resnet.STRIDES[:4]
    fixed_size = True  # the attention pooling has a position for each cell of the last map
    grounding = Grounding("bilinear", None)

    def __init__(self, network: _Network, bert: BertModel, tokenizer: BertTokenizerFast) -> None:
        super().__init__()
        self.network = network
        self.bert = bert
        limit = min(MAX_TOKENS, bert.config.max_position_embeddings)
        self.tokenize = Tokenize(tokenizer, limit, "max_length")
        self.entries: dict[str, int] = {}
        self.queries: tuple[tuple[str, ...], ...] = ()
        self.register_buffer("book", torch.zeros(0, bert.config.hidden_size))

    @torch.no_grad()
    def encode_book(self, book: Mapping[str, str], aspects: Mapping[str, Sequence[str]]) -> None:
        """Encode the first 75 diseases: explanation and eight aspects of each, in this order."""
        self.entries = {plain_name(name): index for index, name in enumerate(book)}
        self.queries = tuple((text, *aspects[name]) for name, text in book.items())
        self.book = self.encode([text for nine in self.queries[:ENTRIES] for text in nine])

    def encode(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, 768): the [CLS] state of ClinicalBERT's last layer."""
        return encode_in_batches(self._encode_few, texts)

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, 224, 224) -> (B, D), each row of length 1: attention pooling of the last map."""
        return F.normalize(self.network.pool(self.network.pyramid(images)[-1]), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1: the queries before the decoder."""
        return F.normalize(self.network.disease_embedding_layer(self.encode(texts)), dim=-1)

    def match(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T findings -> (B, T): the probability of "present" of two classes."""
        return self._decode_texts(images, findings)[0]

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T, S / 16, S / 16): mean attention of four queries."""
        return to_grid(self._decode_texts(images, texts)[1].transpose(1, 2))

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the ResNet's maps of strides 2, 4, 8 and 16; it has no layer 4."""
        return self.network.pyramid(images)

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 1024): the mean of the last map, before the projections."""
        return self.network.pyramid(images)[-1].mean(dim=(2, 3))

    def _encode_few(self, texts: Sequence[str]) -> Tensor:
        tokens, mask = (part.to(self.book.device) for part in self.tokenize(texts))
        first: Tensor = self.bert(input_ids=tokens, attention_mask=mask).last_hidden_state[:, 0]
        return first

    def _decode_texts(self, images: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S), T texts -> probabilities (B, T), attention (B, T, P)."""
        patches = self.network.patches(images)
        known = self.network.decode(self.book, patches)
        outputs = [self._decode_text(patches, text, known) for text in texts]
        probabilities, attention = (torch.stack(part, dim=1) for part in zip(*outputs, strict=True))
        return probabilities, attention

    def _decode_text(
        self, patches: Tensor, text: str, known: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """One text -> probability (B,), attention (B, P); `known` is the output of the book."""
        entry = self._entry(text)
        if entry is not None and entry < ENTRIES:
            return known[0][:, entry], known[1][:, entry]
        nine = self.queries[entry] if entry is not None else (text,) * QUERIES
        queries = torch.cat([self.book, self.encode(nine)])
        probabilities, attention = self.network.decode(queries, patches)
        return probabilities[:, -1], attention[:, -1]

    def _entry(self, text: str) -> int | None:
        """Index of a finding's entry in the disease book; None for any other text."""
        name = plain_name(text)
        return self.entries.get(name, self.entries.get(ALIASES.get(name, name)))


def load(source: str | None, seed: int) -> MAVL:
    """MAVL from the folder described above, or from the checkpoint in it; `seed` is unused.

    Raises Misuse without a source or with several checkpoints, BadCheckpoint where a file is
    missing or does not fit.
    """
    file = find_checkpoint(source, CARD, BERT_FOLDER)
    folder = find_bert_folder(file.parent, CARD, (BOOK_FILE, ASPECT_FILE))
    bert = read_encoder(folder)
    network = _Network(bert.config.hidden_size)
    state = strip_wrappers(find_state(read_weights(file), file), file)
    state = strip_to(state, "disease_embedding_layer.weight", file)
    load_state(network, resnet.name_stages(state, "backbone."), file, _UNUSED_KEYS)
    model = MAVL(network, bert, read_tokenizer(folder, bert.config.vocab_size)).eval()
    book = read_book(file.with_name(BOOK_FILE), most=2 * ENTRIES)
    model.encode_book(book, _read_aspects(file.with_name(ASPECT_FILE), book))
    model.identity = Identity(CARD.name, digest(model))
    return model


def _read_aspects(file: Path, book: Mapping[str, str]) -> dict[str, list[str]]:
    """Eight texts for each disease of the book; BadCheckpoint names those that lack them."""
    aspects = read_json(file)
    lacking = [
        name
        for name in book
        if not isinstance(found := aspects.get(name), list)
        or len(found) != ASPECTS
        or not all(isinstance(text, str) for text in found)
    ]
    if lacking:
        raise BadCheckpoint(
            f"{file} has not {ASPECTS} visual aspects for {len(lacking)} diseases of {BOOK_FILE}, "
            f"such as {lacking[0]!r}: copy both files from {CARD.source}"
        )
    return aspects
