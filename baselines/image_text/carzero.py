"""CARZero: images and texts scored by cross-attention in both directions (Lai et al., CVPR 2024).

Shapes: B batch, S = 224, D = 768, P patches, T texts, h w the patch grid (14 x 14).
Source: laihaoran/CARZero at fa4e09c (CARZero.py, models/). SOURCE is the released Lightning file.

One decoder is read in two ways: a text asks the image's tokens, and the image asks the text's
words; its score is the mean of both logits. Tokens are the global vector first, then the patches,
or the words of a text, filled with zeros to 97, as in the original. Queries do not see each other,
so that no score depends on other images or texts.
`match` squashes the score of "There is {finding}" to [0, 1]; the authors rank the logits, which
gives the same AUC. `locate` is the attention of the text to the patches, the mean of four layers
and heads. There is no space in which images and texts are compared by cosine.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertTokenizerFast

from g2dbench.cards import ModelCard
from g2dbench.errors import Misuse
from g2dbench.model import Grounding, Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.image.feature_maps import to_grid
from g2dbench.pretrained.image.vit import make_vit, patch_grid
from g2dbench.pretrained.layouts import strip_to, strip_wrappers
from g2dbench.pretrained.query_decoder import CrossLayer
from g2dbench.pretrained.text.checkpoint_bert import bert_config, find_tokenizer
from g2dbench.pretrained.text.text_batches import encode_in_batches
from g2dbench.pretrained.text.word_encoder import MAX_TOKENS, UNUSED_KEYS, WordEncoder
from g2dbench.pretrained.weights import State, digest, find_state, load_state, read_weights

CARD = ModelCard(
    name="carzero",
    summary="CARZero: ViT-B/16 and BioClinicalMPBERT, scored by cross-attention in both directions",
    paper="Lai et al., CARZero: Cross-Attention Alignment for Radiology Zero-Shot Classification, "
    "CVPR 2024",
    source="github.com/laihaoran/CARZero (README: Google Drive)",
    licence="Apache-2.0",
    capabilities=("features", "locates", "matches"),
    trained_on=("mimic_cxr",),
    signature=(
        "CARZero.img_encoder.model.patch_embed.proj.weight",
        "CARZero.fusion_module.mlp_head.9.weight",
    ),
    files=("CARZero_best_model.ckpt",),
    input_size=224,
    text_needs="vocab.txt of huggingface.co/Laihaoran/BioClinicalMPBERT",
    tested_with=("torch 2.14", "timm 1.0.31", "transformers 5.24"),
    openness="weights, code and licence public; data by agreement; no list of training images",
    notes=(
        "Its text encoder was tuned on reports of MIMIC-CXR and PadChest, so zero-shot figures on "
        "PadChest are not clean.",
        "A sentence of one word is dropped: a prompt needs two words or more.",
        "The code of its published grounding figures was not released (issue 3); the map here is "
        "that of its demonstration.",
    ),
)

BERT_HUB = "Laihaoran/BioClinicalMPBERT"
PROMPT = "There is {}"
HEADS, HIDDEN, LAYERS = 4, 1024, 4
HEAD_WIDTHS = (1024, 512, 256, 1)
_IMAGE, _BERT, _FUSION = "img_encoder.model.", "text_encoder.model.", "fusion_module."
_UNUSED_KEYS = (
    *UNUSED_KEYS,
    r"^fusion_module\.logit_scale$",
    r"^fusion_module\.decoder\.layers\.\d+\.(self_attn|norm1)\.",
    r"^img_encoder\.model\.(decoder_|mask_token$|head\.)",
)
"""A temperature and self-attention that its forward pass skips; parts of masked pre-training."""


class _Fusion(nn.Module):
    """The decoder and its scores; `decoder_norm` and `decoder.norm` are one layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.decoder_norm = nn.LayerNorm(width)
        layers = nn.ModuleList(CrossLayer(width, HEADS, HIDDEN) for _ in range(LAYERS))
        self.decoder = nn.ModuleDict({"layers": layers, "norm": self.decoder_norm})
        self.mlp_head = nn.Sequential()
        for before, after in zip((width, *HEAD_WIDTHS), HEAD_WIDTHS, strict=False):
            self.mlp_head.extend([nn.Linear(before, after), nn.ReLU(), nn.Identity()])
        del self.mlp_head[-2:]

    def forward(self, tokens: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, D), (Q, D) -> logits (B, Q), attention (B, Q, N), mean of layers and heads."""
        memory = self.decoder_norm(tokens)
        states = self.decoder_norm(queries).expand(len(tokens), -1, -1)
        attention = []
        for layer in self.decoder["layers"].children():
            states, found = layer(states, memory)
            attention.append(found)
        logits = self.mlp_head(self.decoder_norm(states))
        return logits.squeeze(-1), torch.stack(attention).mean(dim=0)


class _Network(nn.Module):
    """Both encoders and the decoder, with the key names of the official state_dict."""

    def __init__(self, trunk: Any, bert: BertConfig, tokenizer: BertTokenizerFast) -> None:
        super().__init__()
        self.img_encoder: Any = nn.ModuleDict({"model": trunk})
        self.text_encoder = WordEncoder(bert, tokenizer)
        self.fusion_module = _Fusion(trunk.embed_dim)


class CARZero(Model):
    """CARZero: scores of texts by cross-attention, attention maps, and the features of a ViT."""

    card = CARD
    preprocess = Preprocess(
        size=224, resize=256, fit="pad", mean=(0.4978,) * 3, std=(0.2449,) * 3, resampling="area"
    )
    fixed_size = True
    grounding = Grounding("nearest", None)

    def __init__(self, network: _Network) -> None:
        super().__init__()
        self.network = network
        trunk = network.img_encoder["model"]
        self.channels, self.strides = (trunk.embed_dim,), (trunk.patch_embed.patch_size[0],)

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> one map of patch tokens, after the final norm."""
        return [patch_grid(self.network.img_encoder["model"], images)]

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D): the class token after the final norm."""
        return self.image_tokens(images)[:, 0]

    def image_tokens(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 1 + P, D): the class token, then the patches."""
        tokens: Tensor = self.network.img_encoder["model"].forward_features(images)
        return tokens

    def text_tokens(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, 98, D): the mean over 97 words, then the words, 0 where it has ended."""
        return encode_in_batches(self._encode_few, texts)

    def similarities(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T): logits, the mean of both directions."""
        pictures, words = self.image_tokens(images), self.text_tokens(texts)
        fuse = self.network.fusion_module
        asked_by_texts = fuse(pictures, words[:, 0])[0]
        asked_by_images = fuse(words, pictures[:, 0])[0].T
        scores: Tensor = (asked_by_texts + asked_by_images) / 2
        return scores

    def match(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T findings -> (B, T): the score of "There is {finding}" in [0, 1]."""
        names = [finding.replace("_", " ") for finding in findings]
        return self.similarities(images, [PROMPT.format(name) for name in names]).sigmoid()

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T, h, w): attention of each text to the patches."""
        attention = self.network.fusion_module(
            self.image_tokens(images), self.text_tokens(texts)[:, 0]
        )[1]
        return to_grid(attention[:, :, 1:].transpose(1, 2))

    def _encode_few(self, texts: Sequence[str]) -> Tensor:
        words = self.network.text_encoder.padded(texts)
        return torch.cat([words.sum(dim=1, keepdim=True) / MAX_TOKENS, words], dim=1)


def load(source: str | None, seed: int) -> CARZero:
    """CARZero from its file; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint for a file that does not fit or a vocabulary that
    is not found.
    """
    if source is None:
        raise Misuse(f"carzero needs its weights: --model carzero:FILE, FILE of {CARD.source}")
    file = Path(source).expanduser()
    state = _read(file)
    bert = bert_config(state, _BERT, file)
    tokenizer = find_tokenizer(file, BERT_HUB, bert.vocab_size)
    network = _Network(make_vit(state, _IMAGE, file), bert, tokenizer)
    load_state(network, state, file, _UNUSED_KEYS)
    model = CARZero(network)
    model.identity = Identity(CARD.name, digest(model))
    return model.eval()


def _read(file: Path) -> State:
    state = strip_wrappers(find_state(read_weights(file), file), file)
    return strip_to(state, "fusion_module.decoder_norm.weight", file)
