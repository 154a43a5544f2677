"""KAD: findings as text queries, with knowledge of UMLS (Zhang et al., Nature Communications 2023).

Shapes: B batch, S input side, D = 768, P patches, Q queries, T texts, h w the patch grid.
Source: xiaoman-zhang/KAD at 591d999, A3_CLIP (models/clip_tqn.py, test_chestxray14.py,
plot_visualize_512.py). SOURCE is a released file (`best_valid.pt`), which contains the image
encoder, the text encoder Med-KEBERT and the query decoder. The input size is that of the file's
settings (512 or 1024), 512 without them; the code's model for 224 pixels ends at layer 3 of its
ResNet, which the keys show.

One layer norm of the decoder is applied three times: to patches, to queries, and after the decoder.
Queries attend to each other: `match` decodes all findings that it is given together, as the
original decodes all classes of a data set. `locate` decodes each text alone, so that a map does not
depend on the other texts; it is the last layer's attention, the mean over heads.
The loss compares features by their inner product, not normalized; the cosine of `embed_images` and
`embed_texts` is ours. Features of the text encoder enter the decoder as they are.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel, BertTokenizerFast

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.model import Grounding, Identity, Model
from g2dbench.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from g2dbench.pretrained.image import resnet
from g2dbench.pretrained.image.feature_maps import to_grid
from g2dbench.pretrained.layouts import strip_wrappers, without
from g2dbench.pretrained.query_decoder import QueryLayer
from g2dbench.pretrained.text.checkpoint_bert import bert_config, find_tokenizer
from g2dbench.pretrained.text.text_batches import encode_in_batches
from g2dbench.pretrained.text.tokenizer import Tokenize
from g2dbench.pretrained.weights import State, digest, find_state, load_state, read_weights

CARD = ModelCard(
    name="kad",
    summary="KAD: ResNet-50, Med-KEBERT, and findings as queries of a decoder",
    paper="Zhang et al., Knowledge-enhanced visual-language pre-training on chest radiology "
    "images, Nature Communications 2023",
    source="github.com/xiaoman-zhang/KAD (README: Google Drive or Baidu)",
    licence="MIT",
    capabilities=("embeds", "features", "locates", "matches"),
    trained_on=("mimic_cxr",),
    files=("best_valid.pt", "best_valid_chexpert.pt", "checkpoint_state.pt"),
    text_needs="vocab.txt of huggingface.co/xmcmic/Med-KEBERT",
    tested_with=("torch 2.14", "torchvision 0.29", "transformers 5.24"),
    openness="weights, code and licence public; data by agreement; no list of training images",
    notes=(
        "Zero-shot AUC on ChestX-ray14: about 0.789 published, 0.703 by two users of the released "
        "file (issue 19).",
        "The original's evaluation drops the last incomplete batch of 64 images.",
        "Its loss compares inner products of features that are not normalized; the cosine of the "
        "embeddings is not what was trained.",
    ),
)

MED_KEBERT = "xmcmic/Med-KEBERT"
WIDTH, HEADS, HIDDEN, LAYERS, MAX_TOKENS = 768, 4, 1024, 4, 256
DEFAULT_SIDE, SMALL_SIDE = 512, 224
ALIASES = {
    "effusion": "pleural effusion",
    "mass": "lung mass",
    "nodule": "lung nodule",
    "pleural thickening": "pleural thicken",
}
"""Name of a finding -> the query of test_chestxray14.py; all queries are in lower case."""
_IMAGE, _TEXT, _DECODER = "image_encoder", "text_encoder", "model"
_DUPLICATES = (r"^resnet\.",)
"""The ResNet a second time, under its own name, with its classifier."""


class _ImageEncoder(nn.Module):
    def __init__(self, has_last_layer: bool) -> None:
        super().__init__()
        self.res_features: Any = resnet.make_resnet()
        self.levels = 5 if has_last_layer else 4
        if not has_last_layer:
            self.res_features.layer4 = nn.Identity()
        channels = resnet.CHANNELS[self.levels - 1]
        self.res_l1 = nn.Linear(channels, channels)
        self.res_l2 = nn.Linear(channels, WIDTH)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the ResNet's maps of strides 2 to 32, or to 16 without layer 4."""
        return resnet.pyramid(self.res_features, images)[: self.levels]

    def patches(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, P, D) projected patches."""
        rows = self.pyramid(images)[-1].flatten(2).transpose(1, 2)
        projected: Tensor = self.res_l2(F.relu(self.res_l1(rows)))
        return projected


class _TextEncoder(nn.Module):
    def __init__(self, bert: BertConfig) -> None:
        super().__init__()
        self.bert_model: Any = BertModel(bert)
        self.mlp_embed = nn.Sequential(
            nn.Linear(bert.hidden_size, bert.hidden_size),
            nn.GELU(),
            nn.Linear(bert.hidden_size, bert.hidden_size),
        )
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(T, L) -> (T, D)."""
        pooled = self.bert_model(input_ids=tokens, attention_mask=mask).pooler_output
        embedded: Tensor = self.mlp_embed(pooled)
        return embedded


class _Decoder(nn.Module):
    """The query network; `decoder_norm` and `decoder.norm` are one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder_norm = nn.LayerNorm(WIDTH)
        layers = nn.ModuleList(QueryLayer(WIDTH, HEADS, HIDDEN) for _ in range(LAYERS))
        self.decoder = nn.ModuleDict({"layers": layers, "norm": self.decoder_norm})
        self.mlp_head = nn.Sequential(nn.Linear(WIDTH, 2))
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def forward(self, patches: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """(B, P, D), (Q, D) -> probabilities (B, Q), the last layer's attention (B, Q, P)."""
        memory = self.decoder_norm(patches)
        queries = self.decoder_norm(texts).expand(len(patches), -1, -1)
        attention = memory
        for layer in self.decoder["layers"].children():
            queries, attention = layer(queries, memory)
        logits = self.mlp_head(self.decoder_norm(queries))
        return logits.softmax(dim=-1)[..., 1], attention


class KAD(Model):
    """KAD: probabilities of findings, attention maps, and embeddings of images and texts."""

    card = CARD
    fixed_size = False
    matches_jointly = True
    grounding = Grounding("bilinear", None)
    """Bilinear to the image (plot_visualize_512.py), which gives no threshold."""

    def __init__(
        self,
        parts: tuple[_ImageEncoder, _TextEncoder, _Decoder],
        side: int,
        tokenizer: BertTokenizerFast,
    ) -> None:
        super().__init__()
        self.image, self.text, self.decoder = parts
        longest = min(MAX_TOKENS, self.text.bert_model.config.max_position_embeddings)
        self.tokenize = Tokenize(tokenizer, longest)
        self.preprocess = Preprocess(
            size=side, mean=IMAGENET_MEAN, std=IMAGENET_STD, resampling="bicubic"
        )
        self.channels = resnet.CHANNELS[: self.image.levels]
        self.strides = resnet.STRIDES[: self.image.levels]

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D), each row of length 1: the mean of the projected patches."""
        return F.normalize(self.image.patches(images).mean(dim=1), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1."""
        return F.normalize(self.encode_texts(texts), dim=-1)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), not normalized: the queries of the decoder."""
        return encode_in_batches(self._encode_few, texts)

    def match(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T findings -> (B, T): their probabilities, decoded together."""
        queries = self.encode_texts([query_of(name) for name in findings])
        probabilities: Tensor = self.decoder(self.image.patches(images), queries)[0]
        return probabilities

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T, h, w): attention of each text, decoded alone."""
        patches = self.image.patches(images)
        maps = [self.decoder(patches, row[None])[1][:, 0] for row in self.encode_texts(texts)]
        return to_grid(torch.stack(maps, dim=2))

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the ResNet's maps of strides 2 to 32, or to 16 without layer 4."""
        return self.image.pyramid(images)

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C): the mean of the last map, before the two projections."""
        return self.features(images)[-1].mean(dim=(2, 3))

    def _encode_few(self, texts: Sequence[str]) -> Tensor:
        device = self.text.logit_scale.device
        tokens, mask = (part.to(device) for part in self.tokenize(texts))
        encoded: Tensor = self.text(tokens, mask)
        return encoded


def query_of(finding: str) -> str:
    """The query of a finding's name, in the words of the original's evaluation."""
    name = " ".join(finding.replace("_", " ").lower().split())
    return ALIASES.get(name, name)


def load(source: str | None, seed: int) -> KAD:
    """KAD from its file; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint for a file that does not fit or a vocabulary that
    is not found.
    """
    if source is None:
        raise Misuse(f"kad needs its weights: --model kad:FILE, FILE of {CARD.source}")
    file = Path(source).expanduser()
    content = read_weights(file)
    image_state, text_state, decoder_state = _split(content, file)
    image = _ImageEncoder(has_last_layer="res_features.layer4.0.conv1.weight" in image_state)
    text = _TextEncoder(bert_config(text_state, "bert_model.", file))
    decoder = _Decoder()
    for module, state in ((image, image_state), (text, text_state), (decoder, decoder_state)):
        load_state(module, state, file)
    tokenizer = find_tokenizer(file, MED_KEBERT, text.bert_model.config.vocab_size)
    model = KAD((image, text, decoder), _find_side(content, image), tokenizer)
    model.identity = Identity("kad", digest(model))
    return model.eval()


def _split(content: object, file: Path) -> tuple[State, State, State]:
    """The three state_dicts of a checkpoint, without the second copy of the ResNet."""
    names = (_IMAGE, _TEXT, _DECODER)
    if not isinstance(content, Mapping) or not all(name in content for name in names):
        raise BadCheckpoint(
            f"{file} is not a KAD checkpoint: it has not the three entries {', '.join(names)}; "
            "the file of Med-KEBERT alone is not enough"
        )
    image, text, decoder = (
        strip_wrappers(find_state(content[name], file, ()), file) for name in names
    )
    image = resnet.name_stages(without(image, _DUPLICATES), "res_features.")
    return image, text, decoder


def _find_side(content: Mapping[str, Any], image: _ImageEncoder) -> int:
    """The input side of the checkpoint's settings, or the default of its image encoder."""
    settings = content.get("config")
    side = settings.get("img_res") if isinstance(settings, Mapping) else None
    if isinstance(side, int) and side > 0:
        return side
    return DEFAULT_SIDE if image.levels == len(resnet.CHANNELS) else SMALL_SIDE
