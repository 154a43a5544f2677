"""GLoRIA: global and word-by-region alignment of images and reports (Huang et al., ICCV 2021).

Shapes: B batch, S input side, D = 768, T texts, W words of a text, R = 19 x 19 regions.
Source: marshuang80/gloria at 416466a. SOURCE is the released Lightning file, or the re-training of
BenchX (`visual.`, `linguistic.`); its ResNet-18 has a global branch alone, because the original
gives its local branch the width of a ResNet-50.

Embeddings, attention and `pooled` use images stretched to 299 pixels, as the original's forward
pass; the feature pyramid has the size of the input, as its segmentation (an smp U-Net) has.
Facts that matter for prompts: a sentence of one word is dropped, so that "Pneumonia" is an empty
text. The local similarity covers as many words as the raw text has characters, padding included
(`cap_lens` of the original), and the original refuses texts of more than 96 characters, which are
covered up to the 96th word here.
`match` is the original's score of a class, the mean of global and local similarity to its prompts,
squashed to [0, 1]; the original standardizes it over the test images, which changes no AUC. Its
prompt is "there is {finding}"; the authors' prompts exist for five findings only.
`locate` is the mean over the words' attention maps; the authors show the map of each word.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertTokenizerFast

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.model import Grounding, Identity, Model, capabilities
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.image import resnet
from g2dbench.pretrained.layouts import rename_parts, strip_to, strip_wrappers
from g2dbench.pretrained.text.checkpoint_bert import CLINICAL_BERT, bert_config, find_tokenizer
from g2dbench.pretrained.text.text_batches import encode_in_batches
from g2dbench.pretrained.text.word_encoder import MAX_TOKENS, UNUSED_KEYS, WordEncoder
from g2dbench.pretrained.weights import State, digest, find_state, load_state, read_weights

UPSAMPLED = 299
"""Side to which the original stretches its input before the ResNet."""
ATTENTION_SCALE, WORD_SCALE = 4.0, 5.0
"""The temperatures temp1 and temp2 (configs/chexpert_pretrain_config.yaml)."""
PROMPT = "there is {}"
_UNUSED_KEYS = (*UNUSED_KEYS, r"^img_encoder\.model\.fc\.")
_BENCHX = {
    "visual.model.": "img_encoder.model.",
    "global_embedder.": "img_encoder.global_embedder.",
    "local_embedder.": "img_encoder.local_embedder.",
    "linguistic.encoder.": "text_encoder.model.",
}
_TRUNK, _BERT = "img_encoder.model.", "text_encoder.model."


class _Network(nn.Module):
    """Both encoders, with the key names of the official state_dict."""

    def __init__(
        self, depth: int, bert: BertConfig, local_channels: int, tokenizer: BertTokenizerFast
    ) -> None:
        super().__init__()
        trunk = resnet.make_resnet(depth)
        channels = trunk.layer4[-1].bn1.num_features * (4 if depth >= 50 else 1)
        self.img_encoder: Any = nn.ModuleDict(
            {
                "model": trunk,
                "global_embedder": nn.Linear(channels, bert.hidden_size),
                "local_embedder": nn.Conv2d(local_channels, bert.hidden_size, 1, bias=False),
            }
        )
        self.text_encoder = WordEncoder(bert, tokenizer)

    def upsampled_pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the ResNet's maps of the image at 299 pixels."""
        side = (UPSAMPLED, UPSAMPLED)
        return self.pyramid(F.interpolate(images, side, mode="bilinear", align_corners=True))

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the ResNet's maps of strides 2 to 32."""
        return resnet.pyramid(self.img_encoder["model"], images)


class GlobalGLoRIA(Model):
    """GLoRIA's global branch: embeddings and feature maps."""

    preprocess = Preprocess(
        size=224, resize=256, fit="pad", mean=(0.5,) * 3, std=(0.5,) * 3, resampling="area"
    )
    strides = resnet.STRIDES
    fixed_size = False

    def __init__(self, network: _Network) -> None:
        super().__init__()
        self.network = network
        last = network.img_encoder["global_embedder"].in_features
        self.channels: tuple[int, ...] = (64, *(last // 2**n for n in (3, 2, 1, 0)))

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D), each row of length 1."""
        embedded = self.network.img_encoder["global_embedder"](self.pooled(images))
        return F.normalize(embedded, dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1: the sum over the words, [CLS] and [SEP]."""
        return encode_in_batches(
            lambda few: F.normalize(self.network.text_encoder(few).sum(1), dim=-1), texts
        )

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the ResNet's maps of strides 2 to 32, without stretching to 299."""
        return self.network.pyramid(images)

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C): mean of the last map at 299 pixels, its classifiers' input."""
        return self.network.upsampled_pyramid(images)[-1].mean(dim=(2, 3))


class GLoRIA(GlobalGLoRIA):
    """GLoRIA with both branches: also scores and locates texts by their words."""

    grounding = Grounding("bilinear", None)

    def similarities(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T): mean of global cosine and local similarity.

        Source: gloria/gloria.py, get_similarities. The local similarity is 5 times the largest
        cosine of a word and its attended regions.
        """
        images_global, regions = self.embed_regions(images)
        cosines = images_global @ self.embed_texts(texts).T
        local = [self._local_similarity(regions, text) for text in texts]
        return (cosines + torch.stack(local, dim=1)) / 2

    def match(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T findings -> (B, T): the score of "there is {finding}" in [0, 1]."""
        return self.similarities(images, [PROMPT.format(name) for name in findings]).sigmoid()

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T, 19, 19): mean attention map of a text's words."""
        regions = self.embed_regions(images)[1]
        return torch.stack([_phrase_map(self.word_maps(regions, text)) for text in texts], dim=1)

    def word_maps(self, regions: Tensor, text: str) -> Tensor:
        """(B, D, 19, 19), text -> (B, 1 + words, 19, 19): attention of [CLS] and of each word."""
        return attend(self.network.text_encoder([text])[0, :-1], regions)[1]

    def embed_regions(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> global embeddings (B, D) of length 1, regions (B, D, 19, 19)."""
        maps, embed = self.network.upsampled_pyramid(images), self.network.img_encoder
        images_global = embed["global_embedder"](maps[-1].mean(dim=(2, 3)))
        return F.normalize(images_global, dim=-1), embed["local_embedder"](maps[-2])

    def _local_similarity(self, regions: Tensor, text: str) -> Tensor:
        """(B, D, 19, 19), text -> (B,)."""
        count = min(max(1, len(text) - text.count("[")), MAX_TOKENS - 1)
        padded = self.network.text_encoder.padded([text])[0, 1 : count + 1]
        attended = attend(padded, regions)[0]
        cosines = F.cosine_similarity(padded[None], attended, dim=-1, eps=1e-8)
        return WORD_SCALE * cosines.max(dim=1).values


def _phrase_map(maps: Tensor) -> Tensor:
    """(B, 1 + words, h, w) -> (B, h, w): mean over the words; that of [CLS] for an empty text."""
    return maps[:, 1:].mean(dim=1) if maps.shape[1] > 1 else maps[:, 0]


def attend(words: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    """(W, D), (B, D, h, w) -> attended regions (B, W, D), attention (B, W, h, w).

    Softmax over the words of each region first, then over the regions of each word
    (gloria_loss.py, attention_fn).
    """
    flat = regions.flatten(2)
    by_region = torch.einsum("wd,bdr->bwr", words, flat).softmax(dim=1)
    attention = (ATTENTION_SCALE * by_region).softmax(dim=2)
    attended = torch.einsum("bwr,bdr->bwd", attention, flat)
    return attended, attention.unflatten(2, regions.shape[-2:])


def load_gloria(card: ModelCard, source: str | None) -> GlobalGLoRIA:
    """The file as the model of a card: GLoRIA or one of its re-trainings.

    Raises Misuse without a source, BadCheckpoint for a file that does not fit or a vocabulary that
    is not found.
    """
    if source is None:
        raise Misuse(
            f"{card.name} needs its weights: --model {card.name}:FILE, FILE of {card.source}"
        )
    file = Path(source).expanduser()
    state = _read(file)
    depth = _depth(state, file)
    bert = bert_config(state, _BERT, file)
    tokenizer = find_tokenizer(file, CLINICAL_BERT, bert.vocab_size)
    network = _Network(depth, bert, _local_channels(state, file), tokenizer)
    load_state(network, state, file, _UNUSED_KEYS)
    model = (GLoRIA if depth >= 50 else GlobalGLoRIA)(network)
    model.card = replace(card, capabilities=capabilities(model))
    model.identity = Identity(card.name, digest(model))
    return model.eval()


def _read(file: Path) -> State:
    """The state_dict with the official names, from the official or BenchX's layout."""
    state = strip_wrappers(find_state(read_weights(file), file), file)
    if any(key.endswith("linguistic.encoder.embeddings.word_embeddings.weight") for key in state):
        state = rename_parts(strip_to(state, "global_embedder.weight", file), _BENCHX)
    else:
        state = strip_to(state, "img_encoder.global_embedder.weight", file)
    return resnet.name_stages(state, _TRUNK)


def _depth(state: State, file: Path) -> int:
    if f"{_TRUNK}layer1.0.conv3.weight" in state:
        return 50
    if f"{_TRUNK}layer1.0.conv2.weight" in state:
        return 34 if f"{_TRUNK}layer1.2.conv1.weight" in state else 18
    raise BadCheckpoint(
        f"{file} is not a GLoRIA file with a ResNet: it has no {_TRUNK}layer1.0.conv2.weight"
    )


def _local_channels(state: State, file: Path) -> int:
    weight = state.get("img_encoder.local_embedder.weight")
    if weight is None or weight.ndim != 4:
        raise BadCheckpoint(f"{file} has no img_encoder.local_embedder.weight of a convolution")
    return weight.shape[1]
