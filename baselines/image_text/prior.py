"""PRIOR: images and reports that meet in prototypes of sentences (Cheng et al., ICCV 2023).

Shapes: B batch, C channels, S = 224, D = 768, T texts, P = 49 cells of the last map.
Source: QtacierP/PRIOR at 086bf2e, codes/prior. SOURCE is the whole model's file, or
`prior_resnet50.pt`, the image encoder alone, which gives features only. The number of input
channels is that of the file's first convolution; the code has one, its README three.

A sentence is the mean of its projected words, replaced by a mixture of 512 prototypes; sentences
are pooled by attention. The original draws the mixture with Gumbel noise at inference too, so that
its scores vary; here it is drawn without noise (softmax at its temperature of 0.9). As in its
zero-shot code, the words of a text of one sentence include [SEP]; texts of several sentences are
split at full stops, the original's splitter of reports is not part of its evaluation.
`class_probabilities` is the original's zero-shot decision among classes, not normalized: the
softmax of cosines plus half that of attention between text and cells. It says nothing of a single
finding, so tasks compare embeddings by cosine. The original reads the cells of the last map in a
scrambled order of channels and places; this is kept there, and there is no map of a text.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from open_clip.modified_resnet import AttentionPool2d
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel, BertTokenizerFast

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.model import Identity, Model, capabilities
from g2dbench.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from g2dbench.pretrained.image import resnet
from g2dbench.pretrained.layouts import strip_to, strip_wrappers
from g2dbench.pretrained.text.checkpoint_bert import CLINICAL_BERT, bert_config, find_tokenizer
from g2dbench.pretrained.text.tokenizer import Tokenize
from g2dbench.pretrained.towers import ResNetTower
from g2dbench.pretrained.weights import State, digest, find_state, load_state, read_weights

CARD = ModelCard(
    name="prior",
    summary="PRIOR: ResNet-50 and ClinicalBERT, with sentences as mixtures of prototypes",
    paper="Cheng et al., PRIOR: Prototype Representation Joint Learning from Medical Images and "
    "Reports, ICCV 2023",
    source="github.com/QtacierP/PRIOR (README: Google Drive; pretrained/prior_resnet50.pt)",
    licence="Apache-2.0",
    capabilities=("embeds", "features"),
    trained_on=("mimic_cxr",),
    signature=("sentence_bank.embed.weight", "image_encoder.atten_pool.c_proj.weight"),
    files=("prior_resnet50.pt",),
    input_size=224,
    text_needs="vocab.txt of huggingface.co/emilyalsentzer/Bio_ClinicalBERT",
    tested_with=("torch 2.14", "torchvision 0.29", "transformers 5.24"),
    openness="weights, code and licence public; code of its supervised tasks is not; data by "
    "agreement; no list of training images",
    notes=(
        "The original draws its prototypes with random noise at inference: its zero-shot figures "
        "vary from run to run. Here there is no noise.",
        "Images are normalized as in its zero-shot code (mean .506); its pre-training has .4755.",
        "Its 5x200 decision adds attention between text and cells to the cosine; tasks here take "
        "the cosine alone.",
    ),
)

MAX_TOKENS, HEADS, POOL_SIDE, TEMPERATURE, LOCAL_SHARE = 256, 8, 7, 0.9, 0.5
PROMPT = "{} is observed"
_GRAY_MEAN, _GRAY_STD = 0.5062731200407803, 0.28946775394688107
_BERT, _TRUNK = "text_encoder.encoder.", "image_encoder.encoder."
_UNUSED_KEYS = (
    rf"^{re.escape(_BERT)}pooler\.",
    r"^image_encoder\.encoder\.fc\.",
    r"^(predictor|sentence_decoder|image_decoder|global_text_projection)\.",
    r"^(prototype_queries|local_logit_scale)$",
    r"^local_cross_attention\.value[12]\.",
)
"""Parts of the loss and of reconstruction, which no embedding needs."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


class _SentencePool(nn.Module):
    """Attention of the mean of the sentences to the mean and each sentence."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.c_proj = (
            nn.Linear(width, width) for _ in range(4)
        )

    def forward(self, sentences: Tensor) -> Tensor:
        """(N, D) -> (D,)."""
        rows = torch.cat([sentences.mean(dim=0, keepdim=True), sentences])
        query, key, value = (
            part.unflatten(1, (HEADS, -1)).transpose(0, 1)
            for part in (self.q_proj(rows[:1]), self.k_proj(rows), self.v_proj(rows))
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        pooled: Tensor = self.c_proj(attended.flatten())
        return pooled


class _Network(nn.Module):
    """Both encoders, projections and prototypes, with the key names of the official file."""

    def __init__(self, state: State, channels: int, bert: BertConfig) -> None:
        super().__init__()
        prototypes, width = state["sentence_bank.embed.weight"].shape
        self.image_encoder: Any = nn.ModuleDict(
            {
                "encoder": ResNetTower(channels).network,
                "atten_pool": AttentionPool2d(POOL_SIDE, resnet.CHANNELS[-1], HEADS),
            }
        )
        self.text_encoder: Any = nn.ModuleDict({"encoder": BertModel(bert, False)})
        self.global_image_projection = nn.Linear(resnet.CHANNELS[-1], width)
        self.local_image_projection = nn.Linear(resnet.CHANNELS[-1], width)
        self.local_text_projection = nn.Linear(bert.hidden_size, width)
        self.global_text_attention = _SentencePool(width)
        self.sentence_bank: Any = nn.ModuleDict({"embed": nn.Embedding(prototypes, width)})
        names = ("query1", "key1", "query2", "key2")
        self.local_cross_attention: Any = nn.ModuleDict(
            {name: nn.Linear(width, width) for name in names}
        )
        self.logit_scale = nn.Parameter(torch.zeros(()))


class PRIOREncoder(Model):
    """`prior_resnet50.pt`: the image encoder alone."""

    card = CARD
    channels, strides = resnet.CHANNELS, resnet.STRIDES
    fixed_size = False

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        trunk = network.image_encoder["encoder"]
        is_gray = trunk.conv1.in_channels == 1
        self.preprocess = Preprocess(
            size=224,
            mean=(_GRAY_MEAN,) if is_gray else IMAGENET_MEAN,
            std=(_GRAY_STD,) if is_gray else IMAGENET_STD,
            channels=trunk.conv1.in_channels,
        )

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, C, S, S) -> the ResNet's maps of strides 2 to 32."""
        return resnet.pyramid(self.network.image_encoder["encoder"], images)

    def pooled(self, images: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, 2048): the mean of the last map."""
        return self.features(images)[-1].mean(dim=(2, 3))


class PRIOR(PRIOREncoder):
    """The whole model: also embeds images and texts, and decides among classes."""

    fixed_size = True  # the attention pooling has a position for each cell of the last map

    def __init__(self, network: _Network, tokenizer: BertTokenizerFast) -> None:
        super().__init__(network)
        bert = network.text_encoder["encoder"].config
        self.tokenize = Tokenize(tokenizer, min(MAX_TOKENS, bert.max_position_embeddings))

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, C, 224, 224) -> (B, D), each row of length 1: attention pooling of the last map."""
        return self._embed_map(self.features(images)[-1])

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1; each text is encoded alone."""
        pool = self.network.global_text_attention
        pooled = torch.stack([pool(self.sentences(text)) for text in texts])
        return F.normalize(pooled, dim=-1)

    def sentences(self, text: str) -> Tensor:
        """One text -> (N, D): each sentence as a mixture of prototypes."""
        bank: Tensor = self.network.sentence_bank["embed"].weight
        weights = (self._word_means(text) @ bank.T / TEMPERATURE).softmax(dim=1)
        mixed: Tensor = weights @ bank
        return mixed

    def class_probabilities(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        """(B, C, 224, 224), T findings -> (B, T): "{finding} is observed", not normalized."""
        prompts = [PROMPT.format(finding) for finding in findings]
        last = self.features(images)[-1]
        # As the original's `view`: neither a cell's channels nor a channel's cells.
        cells = self.network.local_image_projection(last.reshape(len(last), -1, last.shape[1]))
        cosines = self._embed_map(last) @ self.embed_texts(prompts).T
        local = self._local_scores(cells, torch.cat([self.sentences(each) for each in prompts]))
        by_cosine: Tensor = (self.network.logit_scale * cosines).softmax(dim=1)
        return by_cosine + LOCAL_SHARE * local.softmax(dim=1)

    def _embed_map(self, last: Tensor) -> Tensor:
        pooled = self.network.image_encoder["atten_pool"](last)
        return F.normalize(self.network.global_image_projection(pooled), dim=-1)

    def _local_scores(self, cells: Tensor, sentences: Tensor) -> Tensor:
        """(B, P, D), (T, D) -> (B, T): mean attention of both directions, by sigmoids."""
        layers, scale = self.network.local_cross_attention, cells.shape[-1] ** -0.5
        by_text = layers["key1"](cells) @ layers["query2"](sentences).T * scale
        by_cell = layers["query1"](cells) @ layers["key2"](sentences).T * scale
        scores: Tensor = (by_text.sigmoid() + by_cell.sigmoid()).mean(dim=1) / 2
        return scores

    def _word_means(self, text: str) -> Tensor:
        """One text -> (N, D): the mean of the projected words of each sentence."""
        device = self.network.logit_scale.device
        tokens, mask = (part.to(device) for part in self.tokenize([text]))
        states = self.network.text_encoder["encoder"](tokens, mask).last_hidden_state
        words: Tensor = self.network.local_text_projection(states[0, 1:])
        pieces = [part for part in _SENTENCE_END.split(text.strip()) if part]
        if len(pieces) < 2:
            return words.mean(0, keepdim=True)
        lengths = [len(self.tokenize.tokenizer.tokenize(piece)) for piece in pieces]
        groups = [part for part in words[:-1].split(_cut(lengths, len(words) - 1)) if len(part)]
        return torch.stack([part.mean(dim=0) for part in groups])


def _cut(lengths: Sequence[int], total: int) -> list[int]:
    """The lengths with what lies behind `total` cut off; their sum is `total`."""
    ends = [min(sum(lengths[: i + 1]), total) for i in range(len(lengths))]
    ends[-1] = total
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def load(source: str | None, seed: int) -> PRIOREncoder:
    """PRIOR from its file; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint for a file that does not fit or a vocabulary that
    is not found.
    """
    if source is None:
        raise Misuse(f"prior needs its weights: --model prior:FILE, FILE of {CARD.source}")
    file = Path(source).expanduser()
    state = strip_wrappers(find_state(read_weights(file), file), file)
    if not any(key.endswith("sentence_bank.embed.weight") for key in state):
        model = _read_encoder(strip_to(state, "layer1.0.conv1.weight", file), file)
    else:
        model = _read_whole(strip_to(state, "sentence_bank.embed.weight", file), file)
    model.card = replace(CARD, capabilities=capabilities(model))
    model.identity = Identity(CARD.name, digest(model))
    return model.eval()


def _read_encoder(state: State, file: Path) -> PRIOREncoder:
    trunk = ResNetTower(_channels(state, "conv1.weight", file)).network
    load_state(trunk, state, file, (r"^fc\.",))
    return PRIOREncoder(nn.ModuleDict({"image_encoder": nn.ModuleDict({"encoder": trunk})}))


def _read_whole(state: State, file: Path) -> PRIOR:
    bert = bert_config(state, _BERT, file)
    network = _Network(state, _channels(state, f"{_TRUNK}conv1.weight", file), bert)
    load_state(network, state, file, _UNUSED_KEYS)
    return PRIOR(network, find_tokenizer(file, CLINICAL_BERT, bert.vocab_size))


def _channels(state: State, key: str, file: Path) -> int:
    weight = state.get(key)
    if weight is None or weight.ndim != 4 or weight.shape[1] not in (1, 3):
        raise BadCheckpoint(f"{file} is not PRIOR: it has no {key} for images of 1 or 3 channels")
    return weight.shape[1]
