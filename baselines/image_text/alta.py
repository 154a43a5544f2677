"""ALTA: a masked vision model and a report model, aligned by adapters (Lian et al., 2025).

Shapes: B batch, S = 224, D = 128, T texts, h w the patch grid (14 x 14).
Source: DopamineLcy/ALTA at 0f474b8 (model.py, adapter_block.py, cxrbert.py,
CheXpert5X200_zeroshot.py). SOURCE is the released `ALTA.pth`.

A block of MRM's ViT-B/16, and a layer of CXR-BERT-specialized, has one adapter behind its attention
and one beside its feed-forward part. A single image is a current frontal view: the embeddings of
its time and view are added to all tokens. Averages of prompts are over rows that are not scaled to
length 1. Texts lose punctuation and sentences of one word, as in the 5x200 code; its code for RSNA
and for retrieval reads texts as they are.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertTokenizerFast
from transformers.models.bert.modeling_bert import BertLayer

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.model import Identity
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.image.patch_encoder import PatchEncoder
from g2dbench.pretrained.image.vit import make_vit
from g2dbench.pretrained.layouts import strip_to, strip_wrappers
from g2dbench.pretrained.text.checkpoint_bert import bert_config, find_tokenizer
from g2dbench.pretrained.text.cxr_bert import CXRBert, Projection
from g2dbench.pretrained.text.report_words import clean_report
from g2dbench.pretrained.text.text_batches import encode_in_batches
from g2dbench.pretrained.text.tokenizer import Tokenize
from g2dbench.pretrained.weights import State, digest, find_state, load_state, read_weights

CARD = ModelCard(
    name="alta",
    summary="ALTA: MRM's ViT-B/16 and CXR-BERT-specialized, aligned by adapters",
    paper="Lian et al., Efficient Medical Vision-Language Alignment Through Adapting Masked Vision "
    "Models, IEEE TMI 2025",
    source="github.com/DopamineLcy/ALTA (README: Google Drive)",
    licence="CC BY-NC 4.0",
    capabilities=("embeds", "features"),
    trained_on=("mimic_cxr",),
    signature=("blocks.0.attn_adapter.D_fc1.weight", "projection_head.dense_to_hidden.weight"),
    files=("ALTA.pth",),
    noncommercial=True,
    input_size=224,
    text_needs="vocab.txt of huggingface.co/microsoft/BiomedVLP-CXR-BERT-specialized",
    tested_with=("torch 2.14", "timm 1.0.31", "transformers 5.24"),
    openness="weights and code public; no commercial use; data by agreement; no list of training "
    "images",
    notes=(
        "Trained on four images of a patient (two views, two visits); here it sees one, as in its "
        "own evaluation.",
        "A sentence of one word is dropped, as in its 5x200 code: the prompt 'Pneumonia' is an "
        "empty text.",
    ),
)

CXR_BERT = "microsoft/BiomedVLP-CXR-BERT-specialized"
MAX_TOKENS, ADAPTER_SHARE = 128, 0.5
_BERT = "bert_encoder.bert."
_UNUSED_KEYS = (
    r"^decoder_",
    r"^(mask_token|missing_token)$",
    r"^bert_embed\.",
    r"^(bert_encoder\.)?local_projection_head\.",
    r"^bert_encoder\.(cls|predictions)\.",
    r"^bert_encoder\.bert\.pooler\.",
    r"^logit_scale",
)
"""Keys of reconstruction, of absent images, and of the loss of patches and words."""


class _Adapter(nn.Module):
    """A bottleneck, added to its input or not."""

    def __init__(self, state: State, prefix: str, is_added: bool) -> None:
        super().__init__()
        hidden, width = state[f"{prefix}.D_fc1.weight"].shape
        self.D_fc1, self.D_fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.is_added = is_added

    def forward(self, states: Tensor) -> Tensor:
        change: Tensor = self.D_fc2(F.gelu(self.D_fc1(states)))
        if not self.is_added:
            return change
        return states + change


class _Block(nn.Module):
    """timm's block with an adapter behind its attention and one beside its MLP."""

    def __init__(self, block: Any, state: State, prefix: str) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp = (
            block.norm1, block.attn, block.norm2, block.mlp,
        )  # fmt: skip
        self.attn_adapter = _Adapter(state, f"{prefix}.attn_adapter", is_added=True)
        self.mlp_adapter = _Adapter(state, f"{prefix}.mlp_adapter", is_added=False)

    def forward(self, states: Tensor) -> Tensor:
        states = states + self.attn_adapter(self.attn(self.norm1(states)))
        normed = self.norm2(states)
        changed: Tensor = states + self.mlp(normed) + ADAPTER_SHARE * self.mlp_adapter(normed)
        return changed


class _BertLayer(BertLayer):
    """A layer of BERT with an adapter behind its attention and one beside its feed-forward part."""

    def __init__(self, config: BertConfig, index: int, state: State) -> None:
        super().__init__(config, layer_idx=index)
        prefix = f"{_BERT}encoder.layer.{index}"
        self.attn_adapter = _Adapter(state, f"{prefix}.attn_adapter", is_added=True)
        self.mlp_adapter = _Adapter(state, f"{prefix}.mlp_adapter", is_added=False)
        self.attention.register_forward_hook(self._adapt)

    def feed_forward_chunk(self, attention_output: Tensor) -> Tensor:
        """(T, L, D) -> (T, L, D)."""
        states: Tensor = super().feed_forward_chunk(attention_output)
        adapted: Tensor = states + ADAPTER_SHARE * self.mlp_adapter(attention_output)
        return adapted

    def _adapt(self, attention: nn.Module, given: Any, found: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self.attn_adapter(found[0]), *found[1:])


class _Network(nn.Module):
    """Both encoders, with the key names of the official state_dict."""

    def __init__(self, trunk: Any, text: CXRBert, state: State) -> None:
        super().__init__()
        self.patch_embed, self.norm = trunk.patch_embed, trunk.norm
        self.cls_token, self.pos_embed = trunk.cls_token, trunk.pos_embed
        self.blocks = nn.ModuleList(
            _Block(block, state, f"blocks.{i}") for i, block in enumerate(trunk.blocks)
        )
        width = trunk.embed_dim
        self.temporal_embedding = nn.Parameter(torch.zeros(1, 2, width))
        self.view_embedding = nn.Parameter(torch.zeros(1, 2, width))
        self.projection_head = Projection(width, len(state["projection_head.dense_to_hidden.bias"]))
        self.bert_encoder = text

    def image_tokens(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> class token and patches (B, N, C), after the final norm."""
        patches = self.patch_embed(images)
        first = self.cls_token.expand(len(patches), -1, -1)
        states = torch.cat([first, patches], dim=1) + self.pos_embed
        states = states + self.temporal_embedding[:, :1] + self.view_embedding[:, :1]
        for block in self.blocks:
            states = block(states)
        normed: Tensor = self.norm(states)
        return normed


class ALTA(PatchEncoder):
    """The published ALTA for single images: embeddings of images and texts, features of a ViT."""

    card = CARD

    def __init__(self, network: _Network, tokenizer: BertTokenizerFast) -> None:
        super().__init__(
            Preprocess(
                size=224, resize=256, fit="crop", mean=(0.4785,) * 3, std=(0.2834,) * 3,
                resampling="bicubic",
            )
        )  # fmt: skip
        self.network = network
        positions = network.bert_encoder.bert.config.max_position_embeddings
        self.tokenize = Tokenize(tokenizer, min(MAX_TOKENS, positions))
        self.measure()

    def tokens(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> class token (B, C) and patches (B, N, C), after the final norm."""
        states = self.network.image_tokens(images)
        return states[:, 0], states[:, 1:]

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D), each row of length 1."""
        return F.normalize(self.network.projection_head(self.pooled(images)), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1."""
        return F.normalize(self.project_texts(texts), dim=-1)

    def project_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), not normalized; the published averages of prompts are over these."""
        return encode_in_batches(self._project_few, texts)

    def _project_few(self, texts: Sequence[str]) -> Tensor:
        device = self.network.cls_token.device
        cleaned = list(map(clean_report, texts))
        tokens, mask = (part.to(device) for part in self.tokenize(cleaned))
        projected: Tensor = self.network.bert_encoder(tokens, mask)
        return projected


def load(source: str | None, seed: int) -> ALTA:
    """ALTA from its file; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint for a file that does not fit or a vocabulary that
    is not found.
    """
    if source is None:
        raise Misuse(f"alta needs its weights: --model alta:FILE, FILE of {CARD.source}")
    file = Path(source).expanduser()
    state = strip_wrappers(find_state(read_weights(file), file), file)
    state = strip_to(state, "projection_head.dense_to_hidden.bias", file)
    network = _build(state, file)
    load_state(network, state, file, _UNUSED_KEYS)
    tokenizer = find_tokenizer(file, CXR_BERT, network.bert_encoder.bert.config.vocab_size)
    model = ALTA(network.eval(), tokenizer)
    model.identity = Identity(CARD.name, digest(model))
    return model.eval()


def _build(state: State, file: Path) -> _Network:
    try:
        bert = bert_config(state, _BERT, file)
        text = CXRBert(bert, len(state["bert_encoder.cls_projection_head.dense_to_hidden.bias"]))
        layers = range(bert.num_hidden_layers)
        text.bert.encoder.layer = nn.ModuleList(_BertLayer(bert, i, state) for i in layers)
        return _Network(make_vit(state, "", file), text, state)
    except KeyError as error:
        raise BadCheckpoint(f"{file} is not ALTA: it has no {error}") from error
