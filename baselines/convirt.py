"""ConVIRT: a ResNet-50 and ClinicalBERT aligned by pairs (Zhang et al., MLHC 2022).

Shapes: B batch, S input side, D = 512, 768 or 128, T texts, h w the last feature map.
The authors released neither code nor weights. SOURCE is a file of one of three re-implementations,
which the keys show:

    edreisMD/ConVIRT-pytorch at c99ca5f   `res_features.`, `bert_model.`: mean of the tokens
    BenchX (youngzhou12/ConVIRT)          `visual.`, `linguistic.`: BERT's pooler
    HKU-MedAI/MGCA at 680fe4a             `img_encoder.`, `text_encoder.`: [CLS], images at 299

Differences from the originals: edreisMD's projects texts in half precision, here in single. Cosines
are the space of its losses; no re-implementation publishes zero-shot classification or grounding,
so `locate` is the cosine of a text and each projected cell of the last map, as for our own methods.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertModel, BertTokenizerFast

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.model import Grounding, Identity, Model
from g2dbench.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from g2dbench.pretrained.image import resnet
from g2dbench.pretrained.image.feature_maps import cosine_similarity
from g2dbench.pretrained.layouts import rename_parts, strip_to, strip_wrappers
from g2dbench.pretrained.text.checkpoint_bert import CLINICAL_BERT, bert_config, find_tokenizer
from g2dbench.pretrained.text.report_words import clean_report
from g2dbench.pretrained.text.text_batches import encode_in_batches
from g2dbench.pretrained.text.tokenizer import Tokenize
from g2dbench.pretrained.weights import State, digest, find_state, load_state, read_weights

CARD = ModelCard(
    name="convirt",
    summary="ConVIRT: ResNet-50 and ClinicalBERT, from one of three re-implementations",
    paper="Zhang et al., Contrastive Learning of Medical Visual Representations from Paired Images "
    "and Text, MLHC 2022, arXiv 2010.00747",
    source="huggingface.co/youngzhou12/ConVIRT, or your own training with "
    "github.com/edreisMD/ConVIRT-pytorch or github.com/HKU-MedAI/MGCA",
    licence="that of the weights file; code MIT (edreisMD, BenchX)",
    capabilities=("embeds", "features", "locates"),
    trained_on=("mimic_cxr",),
    files=("ConVIRT.pth",),
    input_size=224,
    text_needs="vocab.txt of huggingface.co/emilyalsentzer/Bio_ClinicalBERT",
    tested_with=("torch 2.14", "torchvision 0.29", "transformers 5.24"),
    openness="no code or weights of the authors; re-trained weights and code public; data by "
    "agreement; no list of training images",
    notes=(
        "No re-implementation publishes zero-shot classification or grounding: both are cosines "
        "in the space of the loss.",
    ),
)

Pooling = Literal["mean", "pooler", "first"]
_SIZED: dict[str, Any] = {"size": 224}


@dataclass(frozen=True)
class _Layout:
    """One re-implementation.

    anchor: a key that shows it. parts: its prefixes -> names of `_Network`. pooling: of the text's
    tokens. side: to which images are stretched before the ResNet; None to leave them. unused: keys
    without use here.
    """

    anchor: str
    parts: Mapping[str, str]
    pooling: Pooling
    preprocess: Preprocess
    max_tokens: int = 512
    side: int | None = None
    unused: tuple[str, ...] = ()


_IMAGENET = Preprocess(**_SIZED, mean=IMAGENET_MEAN, std=IMAGENET_STD)
_LAYOUTS = (
    _Layout(
        anchor="res_features.0.weight",
        parts={
            "res_features.": "trunk.",
            "res_l1.": "image_head.0.",
            "res_l2.": "image_head.2.",
            "bert_model.": "bert.",
            "bert_l1.": "text_head.0.",
            "bert_l2.": "text_head.2.",
        },
        pooling="mean",
        preprocess=_IMAGENET,
        unused=(r"^bert\.pooler\.",),
    ),
    _Layout(
        anchor="vis_proj.0.weight",
        parts={
            "visual.model.": "trunk.",
            "vis_proj.": "image_head.",
            "linguistic.encoder.": "bert.",
            "lin_proj.": "text_head.",
        },
        pooling="pooler",
        preprocess=_IMAGENET,
        unused=(r"^trunk\.fc\.",),
    ),
    _Layout(
        anchor="img_encoder.global_embed.head.0.weight",
        parts={
            "img_encoder.model.": "trunk.",
            "img_encoder.global_embed.head.": "image_head.",
            "text_encoder.model.": "bert.",
            "text_encoder.global_embed.head.": "text_head.",
        },
        pooling="first",
        preprocess=Preprocess(
            **_SIZED, resize=256, fit="pad", mean=(0.5,) * 3, std=(0.5,) * 3, resampling="area"
        ),
        max_tokens=112,
        side=299,
        unused=(
            r"\.crossattention\.",
            r"^(img|text)_encoder\.local_embed\.",
            r"^bert\.embeddings\.token_type",
        ),
    ),
)


class _Network(nn.Module):
    """Both encoders and projections; `state` has the names of this module."""

    def __init__(self, state: State, layout: _Layout, file: Path) -> None:
        super().__init__()
        self.trunk = resnet.make_resnet()
        bert = bert_config(state, "bert.", file)
        bert.type_vocab_size = 2
        self.bert = BertModel(bert, add_pooling_layer=layout.pooling == "pooler")
        self.image_head = _make_head(state, "image_head.", file)
        self.text_head = _make_head(state, "text_head.", file)


def _make_head(state: State, prefix: str, file: Path) -> nn.Sequential:
    """Two linear layers and a ReLU, with batch normalization where the file has it."""
    try:
        first = state[f"{prefix}0.weight"]
        is_normalized = f"{prefix}1.weight" in state
        last = state[f"{prefix}{3 if is_normalized else 2}.weight"]
    except KeyError as error:
        raise BadCheckpoint(f"{file} has no complete projection; missing: {error}") from error
    start: list[nn.Module] = [nn.Linear(first.shape[1], len(first))]
    end: list[nn.Module] = [nn.Linear(last.shape[1], len(last))]
    if is_normalized:
        start.append(nn.BatchNorm1d(len(first)))
        end.append(nn.BatchNorm1d(len(last), affine=False))
    return nn.Sequential(*start, nn.ReLU(), *end)


class ConVIRT(Model):
    """ConVIRT of one re-implementation."""

    card = CARD
    channels, strides = resnet.CHANNELS, resnet.STRIDES
    fixed_size = False
    grounding = Grounding("bilinear", None)

    def __init__(self, network: _Network, layout: _Layout, tokenizer: BertTokenizerFast) -> None:
        super().__init__()
        self.network = network
        self.preprocess = layout.preprocess
        positions = network.bert.config.max_position_embeddings
        self.tokenize = Tokenize(tokenizer, min(layout.max_tokens, positions))
        self._layout = layout

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D), each row of length 1."""
        return F.normalize(self.network.image_head(self.pooled(images)), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1."""
        return encode_in_batches(self._embed_few, texts)

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the ResNet's maps of strides 2 to 32, at the size of the input."""
        return resnet.pyramid(self.network.trunk, images)

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 2048): the mean of the last map."""
        return self._last_map(images).mean(dim=(2, 3))

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T, h, w): cosine of each projected cell and text."""
        grid = self._last_map(images)
        cells = grid.permute(0, 2, 3, 1)
        projected = self.network.image_head(cells.reshape(-1, cells.shape[-1]))
        by_cell = projected.view(*cells.shape[:3], -1).permute(0, 3, 1, 2)
        return cosine_similarity(by_cell, self.embed_texts(texts))

    def _last_map(self, images: Tensor) -> Tensor:
        if (side := self._layout.side) is not None:
            images = F.interpolate(images, (side, side), mode="bilinear", align_corners=True)
        return self.features(images)[-1]

    def _embed_few(self, texts: Sequence[str]) -> Tensor:
        if self._layout.pooling == "first":
            texts = [clean_report(text, min_words=1) for text in texts]
        device = self.network.bert.embeddings.word_embeddings.weight.device
        tokens, mask = (part.to(device) for part in self.tokenize(texts))
        return F.normalize(self.network.text_head(self._pool(tokens, mask)), dim=-1)

    def _pool(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(T, L) -> (T, 768), as the re-implementation pools its tokens."""
        if self._layout.pooling == "first":
            # MGCA's encoder reads the token types, all 0, as positions; see `mgca`.
            places = torch.zeros_like(tokens)
            states = self.network.bert(tokens, mask, position_ids=places).last_hidden_state
            first: Tensor = states[:, 0]
            return first
        output = self.network.bert(tokens, mask)
        if self._layout.pooling == "pooler":
            pooled: Tensor = output.pooler_output
            return pooled
        weights = mask[..., None].float()
        mean: Tensor = (output.last_hidden_state * weights).sum(1) / weights.sum(1)
        return mean


def load(source: str | None, seed: int) -> ConVIRT:
    """ConVIRT from its file; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint for a file of no known layout, a file that does
    not fit, or a vocabulary that is not found.
    """
    if source is None:
        raise Misuse(f"convirt needs its weights: --model convirt:FILE, FILE of {CARD.source}")
    file = Path(source).expanduser()
    state = strip_wrappers(find_state(read_weights(file), file), file)
    layout = _find_layout(state, file)
    state = rename_parts(strip_to(state, layout.anchor, file), layout.parts)
    state = resnet.name_stages(state, "trunk.")
    network = _Network(state, layout, file)
    types = "bert.embeddings.token_type_embeddings.weight"
    if layout.pooling == "first":  # MGCA's BERT adds none
        state = {**state, types: torch.zeros(2, network.bert.config.hidden_size)}
    load_state(network, state, file, layout.unused)
    tokenizer = find_tokenizer(file, CLINICAL_BERT, network.bert.config.vocab_size)
    model = ConVIRT(network, layout, tokenizer)
    model.identity = Identity("convirt", digest(model))
    return model.eval()


def _find_layout(state: State, file: Path) -> _Layout:
    for layout in _LAYOUTS:
        if any(f".{key}".endswith(f".{layout.anchor}") for key in state):
            return layout
    raise BadCheckpoint(
        f"{file} has the layout of no known ConVIRT: it contains none of the keys "
        f"{', '.join(layout.anchor for layout in _LAYOUTS)}"
    )
