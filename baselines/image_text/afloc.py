"""AFLoc: reports, sentences and words aligned with three levels of an image (2024).

Shapes: B batch, S = 224, D = 768, T texts, h w a grid of regions (19 x 19).
Source: YH0517/AFLoc at 940e3d7 (afloc/models, inference.py, eval/common.py), built on GLoRIA.
SOURCE is a released Lightning file.

As in GLoRIA, images are stretched to 299 pixels inside the embeddings, a text is the sum over its
words, and a sentence of one word is dropped. The feature pyramid has the size of the input.
`locate` is the original's grounding: the inner product, not the cosine, of each region and the
mean of the text's 97 words, after Gaussian smoothing; bilinear to the input.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertTokenizerFast

from g2dbench.cards import ModelCard
from g2dbench.errors import Misuse
from g2dbench.model import Grounding, Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.gloria import UPSAMPLED
from g2dbench.pretrained.image import resnet
from g2dbench.pretrained.layouts import strip_to, strip_wrappers
from g2dbench.pretrained.text.checkpoint_bert import CLINICAL_BERT, bert_config, find_tokenizer
from g2dbench.pretrained.text.cxr_bert import smooth
from g2dbench.pretrained.text.text_batches import encode_in_batches
from g2dbench.pretrained.text.word_encoder import MAX_TOKENS, UNUSED_KEYS, WordEncoder
from g2dbench.pretrained.weights import digest, find_state, load_state, read_weights

CARD = ModelCard(
    name="afloc",
    summary="AFLoc: ResNet-50 and ClinicalBERT, aligned by reports, sentences and words",
    paper="Yang et al., Multi-modal vision-language model for generalizable annotation-free "
    "pathology localization and clinical diagnosis, arXiv 2401.02044",
    source="github.com/YH0517/AFLoc (README: Google Drive)",
    licence="Apache-2.0",
    capabilities=("embeds", "features", "locates"),
    trained_on=("mimic_cxr",),
    signature=(
        "afloc.img_encoder.local2_embedder.weight",
        "afloc.text_encoder.model.embeddings.word_embeddings.weight",
    ),
    input_size=224,
    text_needs="vocab.txt of huggingface.co/emilyalsentzer/Bio_ClinicalBERT",
    tested_with=("torch 2.14", "torchvision 0.29", "transformers 5.24"),
    openness="weights, code and licence public; data by agreement; no list of training images",
    notes=(
        "A sentence of one word is dropped: the prompt 'Pneumonia' is an empty text.",
        "Its published grounding figures leave out a margin of the image, as BioViL does, and "
        "average over thresholds of .1 to .5 of a map scaled to [-1, 1]; here the task decides.",
    ),
)

_BERT, _TRUNK = "text_encoder.model.", "img_encoder.model."
_UNUSED_KEYS = (
    *UNUSED_KEYS,
    r"^img_encoder\.model\.fc\.",
    r"^img_encoder\.(local2|local_f)_embedder\.",
)
"""Keys of a classifier, and of the finer and coarser regions of the loss."""


class _Network(nn.Module):
    """Both encoders, with the key names of the official state_dict."""

    def __init__(self, bert: BertConfig, tokenizer: BertTokenizerFast) -> None:
        super().__init__()
        self.img_encoder: Any = nn.ModuleDict(
            {
                "model": resnet.make_resnet(),
                "global_embedder": nn.Linear(resnet.CHANNELS[-1], bert.hidden_size),
                "local_embedder": nn.Conv2d(resnet.CHANNELS[-2], bert.hidden_size, 1, bias=False),
            }
        )
        self.text_encoder = WordEncoder(bert, tokenizer)


class AFLoc(Model):
    """AFLoc: embeddings, feature maps, and regions that are compared with a text."""

    card = CARD
    preprocess = Preprocess(size=224, fit="pad", mean=(0.5,) * 3, std=(0.5,) * 3, resampling="area")
    channels, strides = resnet.CHANNELS, resnet.STRIDES
    fixed_size = False
    grounding = Grounding("bilinear", None)

    def __init__(self, network: _Network) -> None:
        super().__init__()
        self.network = network

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D), each row of length 1."""
        embedded = self.network.img_encoder["global_embedder"](self.pooled(images))
        return F.normalize(embedded, dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1."""
        return F.normalize(self.report_vectors(texts), dim=-1)

    def report_vectors(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), not normalized: the mean over 97 words, 0 where a text has ended."""
        encode = self.network.text_encoder
        return encode_in_batches(lambda few: encode(few).sum(dim=1) / MAX_TOKENS, texts)

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the ResNet's maps of strides 2 to 32, without stretching to 299."""
        return resnet.pyramid(self.network.img_encoder["model"], images)

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 2048): the mean of the last map at 299 pixels."""
        return self._stretched(images)[-1].mean(dim=(2, 3))

    def regions(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D, h, w): projected cells of layer 3."""
        projected: Tensor = self.network.img_encoder["local_embedder"](self._stretched(images)[-2])
        return projected

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T, h, w): inner products with the regions, smoothed."""
        products = torch.einsum("bdhw,td->bthw", self.regions(images), self.report_vectors(texts))
        return smooth(products)

    def _stretched(self, images: Tensor) -> list[Tensor]:
        side = (UPSAMPLED, UPSAMPLED)
        return self.features(F.interpolate(images, side, mode="bilinear", align_corners=True))


def load(source: str | None, seed: int) -> AFLoc:
    """AFLoc from its file; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint for a file that does not fit or a vocabulary that
    is not found.
    """
    if source is None:
        raise Misuse(f"afloc needs its weights: --model afloc:FILE, FILE of {CARD.source}")
    file = Path(source).expanduser()
    state = strip_wrappers(find_state(read_weights(file), file), file)
    state = strip_to(state, "img_encoder.global_embedder.weight", file)
    bert = bert_config(state, _BERT, file)
    network = _Network(bert, find_tokenizer(file, CLINICAL_BERT, bert.vocab_size))
    load_state(network, resnet.name_stages(state, _TRUNK), file, _UNUSED_KEYS)
    model = AFLoc(network)
    model.identity = Identity(CARD.name, digest(model))
    return model.eval()
