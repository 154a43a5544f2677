"""MGCA: alignment of images and reports by pairs, words and prototypes (Wang et al., NeurIPS 2022).

Shapes: B batch, S input side, D = 128, T texts, W words of a text, h w the grid of patches or
regions: 14 x 14 of a ViT-B/16, 19 x 19 of a ResNet-50.
Source: HKU-MedAI/MGCA at 680fe4a. SOURCE is one of the released Lightning files; its keys show
whether it contains the ViT or the ResNet. Embeddings, attention and `pooled` of the ResNet use
images stretched to 299 pixels, as its forward pass; its feature pyramid has the size of the input,
as in its segmentation.

Two facts of the authors' text encoder that its weights were trained with, found by running it:
it passes the token types, all 0, where its BERT expects positions, so that every token has position
0 and the order of words is invisible; and its BERT has no token type embeddings.
The authors publish no zero-shot classification. Texts are cleaned as their reports, but a sentence
of one word is kept, because a prompt may be one. `locate` is the attention that was trained: for
each word a softmax over patches of the cosine / 0.1, here averaged over the words of the text. The
map of the authors' notebook comes from `word_local_atten_layer`, which gets no gradient in the
released settings, and is not offered.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel, BertTokenizerFast

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.model import Grounding, Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.image import resnet
from g2dbench.pretrained.image.vit import make_vit, patch_grid
from g2dbench.pretrained.layouts import strip_to, strip_wrappers
from g2dbench.pretrained.text.checkpoint_bert import CLINICAL_BERT, bert_config, find_tokenizer
from g2dbench.pretrained.text.report_words import clean_report
from g2dbench.pretrained.text.text_batches import encode_in_batches
from g2dbench.pretrained.text.tokenizer import Tokenize
from g2dbench.pretrained.text.word_grouping import WordGrouping
from g2dbench.pretrained.weights import State, digest, find_state, load_state, read_weights

CARD = ModelCard(
    name="mgca",
    summary="MGCA: ViT-B/16 or ResNet-50 and six layers of ClinicalBERT",
    paper="Wang et al., Multi-Granularity Cross-modal Alignment for Generalized Medical Visual "
    "Representation Learning, NeurIPS 2022",
    source="github.com/HKU-MedAI/MGCA (README: Google Drive folder)",
    licence="none given",
    capabilities=("embeds", "features", "locates"),
    trained_on=("mimic_cxr",),
    signature=(
        "img_encoder_q.global_embed.head.0.weight",
        "text_encoder_q.model.embeddings.word_embeddings.weight",
    ),
    files=("vit_base.ckpt", "resnet_50.ckpt"),
    input_size=224,
    text_needs="vocab.txt of huggingface.co/emilyalsentzer/Bio_ClinicalBERT",
    tested_with=("torch 2.14", "timm 1.0.31", "torchvision 0.29", "transformers 5.24"),
    openness="weights and code public; no licence; data by agreement; no list of training images",
    notes=(
        "The authors publish no zero-shot classification; cosines of the global embeddings are "
        "compared here.",
        "Its text encoder gives every token position 0, as in its training (the authors pass token "
        "types in place of positions): texts are bags of words.",
        "The map of the authors' notebook is that of a layer without any training; `locate` is the "
        "trained attention of words to patches.",
    ),
)

MAX_TOKENS, TEMPERATURE, UPSAMPLED = 112, 0.1, 299
"""Tokens of a text, the temperature of local attention, and the side before the ResNet."""
_UNUSED_KEYS = (
    r"\.crossattention\.",
    r"^(prototype_layer|patch_local_atten_layer|word_local_atten_layer)\.",
    r"^text_encoder_q\.model\.pooler\.",
    r"^img_encoder_q\.model\.(fc|head)\.",
)
_TRUNK, _BERT = "img_encoder_q.model.", "text_encoder_q.model."


class _Head(nn.Module):
    """(.., C) -> (.., D) by two layers with batch normalization; 1x1 convolutions of local ones."""

    def __init__(self, state: State, prefix: str) -> None:
        super().__init__()
        first, last = state[f"{prefix}.head.0.weight"], state[f"{prefix}.head.3.weight"]
        layer = nn.Linear if first.ndim == 2 else _Pointwise
        self.head = nn.Sequential(
            layer(first.shape[1], len(first)),
            nn.BatchNorm1d(len(first)),
            nn.ReLU(),
            layer(len(first), len(last)),
            nn.BatchNorm1d(len(last), affine=False),
        )

    def forward(self, values: Tensor) -> Tensor:
        """(N, C), or (N, C, P) for a local head -> D in place of C, of length 1."""
        return F.normalize(self.head(values), dim=1)


class _Pointwise(nn.Conv1d):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, kernel_size=1)


class _Encoder(nn.Module):
    """One encoder with its two heads, with the key names of the official state_dict."""

    def __init__(self, model: nn.Module, state: State, prefix: str) -> None:
        super().__init__()
        self.model: Any = model
        self.global_embed = _Head(state, f"{prefix}.global_embed")
        self.local_embed = _Head(state, f"{prefix}.local_embed")


class _Network(nn.Module):
    def __init__(self, trunk: nn.Module, bert: BertConfig, state: State) -> None:
        super().__init__()
        text = BertModel(bert, add_pooling_layer=False)
        self.img_encoder_q = _Encoder(trunk, state, "img_encoder_q")
        self.text_encoder_q = _Encoder(text, state, "text_encoder_q")


class MGCA(Model):
    """MGCA with either image encoder; subclasses give its pooled and its local features."""

    card = CARD
    preprocess = Preprocess(
        size=224, resize=256, fit="pad", mean=(0.5,) * 3, std=(0.5,) * 3, resampling="area"
    )
    grounding = Grounding("bilinear", None)
    """The authors give none; their notebook shows bilinear maps."""

    def __init__(self, network: _Network, tokenizer: BertTokenizerFast) -> None:
        super().__init__()
        self.network = network
        positions = network.text_encoder_q.model.config.max_position_embeddings
        self.tokenize = Tokenize(tokenizer, min(MAX_TOKENS, positions))
        self.group = WordGrouping(tokenizer)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> pooled features (B, C), local features (B, C', h, w)."""
        raise NotImplementedError

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D), each row of length 1."""
        embedded: Tensor = self.network.img_encoder_q.global_embed(self.encode(images)[0])
        return embedded

    def embed_patches(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D, h, w), each patch of length 1."""
        local = self.encode(images)[1]
        embedded: Tensor = self.network.img_encoder_q.local_embed(local.flatten(2))
        grid: Tensor = embedded.unflatten(2, local.shape[-2:])
        return grid

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1: the projected [CLS] state."""
        head = self.network.text_encoder_q.global_embed
        return encode_in_batches(lambda few: head(self._words(few)[:, 0]), texts)

    def embed_words(self, text: str) -> Tensor:
        """One text -> (W, D), each row of length 1, without [CLS] and [SEP]."""
        words = self._words([text])[:, 1:-1].transpose(1, 2)
        embedded: Tensor = self.network.text_encoder_q.local_embed(words)
        return embedded[0].T

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C): the input of its classifiers."""
        return self.encode(images)[0]

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T, h, w): the mean over a text's words of `word_maps`."""
        patches = self.embed_patches(images)
        return torch.stack([self.word_maps(patches, text).mean(1) for text in texts], dim=1)

    def word_maps(self, patches: Tensor, text: str) -> Tensor:
        """(B, D, h, w), text -> (B, W, h, w): each word's attention to patches, of sum 1.

        Source: mgca_module.py, atten_scores. For a text without words, that of [CLS].
        """
        words = self.embed_words(text)
        if not len(words):
            words = self.embed_texts([text])
        scores = torch.einsum("bdp,wd->bwp", patches.flatten(2), words) / TEMPERATURE
        maps: Tensor = scores.softmax(dim=2).unflatten(2, patches.shape[-2:])
        return maps

    def _words(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, words, 768): [CLS], sums of the pieces of each word, [SEP], then zeros."""
        encoder = self.network.text_encoder_q.model
        device = encoder.embeddings.word_embeddings.weight.device
        cleaned = [clean_report(text, min_words=1) for text in texts]
        tokens, mask = (part.to(device) for part in self.tokenize(cleaned))
        states = encoder(
            input_ids=tokens, attention_mask=mask, position_ids=torch.zeros_like(tokens)
        ).last_hidden_state
        words: Tensor = self.group(tokens, mask) @ states
        return words


class MGCAViT(MGCA):
    """MGCA with a vision transformer: one map of patch tokens."""

    fixed_size = True

    def __init__(self, network: _Network, tokenizer: BertTokenizerFast) -> None:
        super().__init__(network, tokenizer)
        trunk = network.img_encoder_q.model
        self.channels, self.strides = (trunk.embed_dim,), (trunk.patch_embed.patch_size[0],)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> class token (B, C) and patches (B, C, h, w), after the final norm."""
        tokens = self.network.img_encoder_q.model.forward_features(images)
        side = images.shape[-1] // self.strides[0]
        return tokens[:, 0], tokens[:, 1:].transpose(1, 2).unflatten(2, (side, side))

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> one map of patch tokens, after the final norm."""
        return [patch_grid(self.network.img_encoder_q.model, images)]


class MGCAResNet(MGCA):
    """MGCA with a ResNet-50."""

    channels, strides = resnet.CHANNELS, resnet.STRIDES
    fixed_size = False

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> mean of the last map (B, C), the map of layer 3; both at 299 pixels."""
        side = (UPSAMPLED, UPSAMPLED)
        maps = self.features(F.interpolate(images, side, mode="bilinear", align_corners=True))
        return maps[-1].mean(dim=(2, 3)), maps[-2]

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the ResNet's maps of strides 2 to 32, without stretching to 299."""
        return resnet.pyramid(self.network.img_encoder_q.model, images)


def load(source: str | None, seed: int) -> MGCA:
    """MGCA from one of its files; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint for a file that does not fit or a vocabulary that
    is not found.
    """
    if source is None:
        raise Misuse(f"mgca needs its weights: --model mgca:FILE, FILE of {CARD.source}")
    file = Path(source).expanduser()
    state = strip_wrappers(find_state(read_weights(file), file), file)
    state = strip_to(state, "img_encoder_q.global_embed.head.0.weight", file)
    state = _without_token_types(state)
    is_resnet = f"{_TRUNK}layer1.0.conv1.weight" in state
    trunk = resnet.make_resnet() if is_resnet else make_vit(state, _TRUNK, file)
    network = _build(trunk, state, file)
    load_state(network, state, file, _UNUSED_KEYS)
    vocab_size = network.text_encoder_q.model.config.vocab_size
    tokenizer = find_tokenizer(file, CLINICAL_BERT, vocab_size)
    model = (MGCAResNet if is_resnet else MGCAViT)(network, tokenizer)
    model.identity = Identity("mgca-resnet50" if is_resnet else "mgca-vit", digest(model))
    return model.eval()


def _without_token_types(state: State) -> State:
    """The state with zeros for the token type embeddings, which the authors' BERT does not add.

    The ones of ClinicalBERT in a re-trainer's file are zeroed as well: nothing was trained on them.
    """
    words = state.get(f"{_BERT}embeddings.word_embeddings.weight")
    if words is None or words.ndim != 2:
        return state
    zeros = words.new_zeros(2, words.shape[1])
    return {**state, f"{_BERT}embeddings.token_type_embeddings.weight": zeros}


def _build(trunk: nn.Module, state: State, file: Path) -> _Network:
    bert = bert_config(state, _BERT, file)
    try:
        return _Network(trunk, bert, state)
    except (KeyError, IndexError) as error:
        raise BadCheckpoint(f"{file} has no complete heads; missing: {error}") from error
