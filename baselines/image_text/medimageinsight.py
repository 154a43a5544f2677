"""MedImageInsight: DaViT and a text transformer on many kinds of medical images (Microsoft, 2024).

Shapes: B batch, S = 480 (any multiple of 32 runs), T texts, L = 77 tokens, D = 1024.
Source: visual-layer/MedImageInsight at e31cae3, a port of Microsoft's code without its service.
SOURCE is the folder `2024.09.27` of huggingface.co/lion-ai/MedImageInsights, or the weights in it:

    vision_model/medimageinsigt-v1.0.0.pt        safetensors, in spite of its name
    language_model/clip_tokenizer_4.16.2/        vocab.json and merges.txt of CLIP

The image encoder is timm's DaViT, under other key names. The text transformer is no causal one, and
its padding is masked; a text is the state of its first end token. The original loads without
strictness, so that a key it does not know leaves random weights; here it is an error.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from timm.layers.activations import QuickGELU
from timm.models.davit import DaVit
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTokenizerFast

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.model import Identity, Model
from g2dbench.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from g2dbench.pretrained.image.vit_encoder import read_source
from g2dbench.pretrained.layouts import layers_in, rename_parts, renamed
from g2dbench.pretrained.text.text_batches import encode_in_batches
from g2dbench.pretrained.text.tokenizer import Tokenize
from g2dbench.pretrained.weights import State, digest, load_state

CARD = ModelCard(
    name="medimageinsight",
    summary="MedImageInsight: DaViT at 480 pixels and a text transformer, for many modalities",
    paper="Codella et al., MedImageInsight: An Open-Source Embedding Model for General Domain "
    "Medical Imaging, 2024, arXiv 2410.06542",
    source="huggingface.co/lion-ai/MedImageInsights (a mirror of Microsoft's files on Azure)",
    licence="MIT by the README of the mirror; there is no licence file",
    capabilities=("embeds", "features"),
    trained_on=("mimic_cxr", "nih_cxr14", "chexpert"),
    source_kind="folder",
    signature=("image_projection", "lang_projection", "logit_scale"),
    files=("medimageinsigt-v1.0.0.pt",),
    input_size=480,
    text_needs="language_model/clip_tokenizer_4.16.2 with vocab.json and merges.txt",
    tested_with=("torch 2.14", "timm 1.0.31", "transformers 5.24"),
    openness="weights public, code as a port; licence unclear; most data public, some of the web",
    notes=(
        "Its configuration names MIMIC-CXR, ChestX-ray14, CheXpert, IRMA, RSNA bone age, MURA and "
        "pairs from the web as training data: zero-shot on the first three is not clean.",
        "The port classifies by a softmax of 100 times the cosine over labels, or a sigmoid of "
        "each for several findings; cosines are compared here.",
        "No grounding is published.",
    ),
)

TOKENIZER, MAX_TOKENS, HEAD_WIDTH, WINDOW = "clip_tokenizer_4.16.2", 77, 64, 12
_WEIGHTS_FOLDER, _TOKENIZER_FOLDER = "vision_model", f"language_model/{TOKENIZER}"
_CHANNELS_PER_HEAD = 32
_OLD_PARTS = {
    "visual.": "image_encoder.",
    "text.": "lang_encoder.",
    "vision_projection": "image_projection",
    "text_projection": "lang_projection",
}
"""Earlier names (UniCLModel.py, _convert_old_weights)."""
_RULES = (
    (r"^image_encoder\.(?:convs|conv_embeds)\.0\.", "trunk.stem."),
    (r"^image_encoder\.(?:convs|conv_embeds)\.(\d+)\.", r"trunk.stages.\1.downsample."),
    (r"^(trunk\.(?:stem|stages\.\d+\.downsample))\.proj\.", r"\1.conv."),
    (r"^image_encoder\.main_blocks\.", "image_encoder.blocks."),
    (r"^(image_encoder\.blocks\.\d+\.\d+)\.0\.", r"\1.spatial_block."),
    (r"^(image_encoder\.blocks\.\d+\.\d+)\.1\.", r"\1.channel_block."),
    (r"^image_encoder\.blocks\.(\d+)\.", r"trunk.stages.\1.blocks."),
    (r"_block\.cpe\.0\.|_block\.conv1\.fn\.dw\.", "_block.cpe1.proj."),
    (r"_block\.cpe\.1\.|_block\.conv2\.fn\.dw\.", "_block.cpe2.proj."),
    (r"\.cpe([12])\.proj\.proj\.", r".cpe\1.proj."),
    (r"_block\.(?:window|channel)_attn\.fn\.", "_block.attn."),
    (r"_block\.(?:window|channel)_attn\.norm\.", "_block.norm1."),
    (r"_block\.ffn\.norm\.", "_block.norm2."),
    (r"_block\.ffn\.fn\.net\.", "_block.mlp."),
    (r"^image_encoder\.norms\.", "trunk.head.norm."),
    (r"^lang_encoder\.resblocks\.", "layers."),
    (r"^lang_encoder\.", ""),
    (r"^(layers\.\d+)\.attn\.", r"\1.self_attn."),
    (r"^(layers\.\d+)\.ln_", r"\1.norm"),
    (r"^(layers\.\d+)\.mlp\.c_fc\.", r"\1.linear1."),
    (r"^(layers\.\d+)\.mlp\.c_proj\.", r"\1.linear2."),
)
"""The port's names -> timm's and torch's, also from the names of the first DaViT."""
_UNUSED_KEYS = (r"^logit_scale$", r"^image_encoder\.head\.")


class _Network(nn.Module):
    """Both encoders and their projections, with sizes of a state_dict."""

    def __init__(self, state: State) -> None:
        super().__init__()
        stages = range(layers_in(state, r"trunk\.stages\.(\d+)\."))
        widths = [len(state["trunk.stem.norm.weight"])]
        widths += [len(state[f"trunk.stages.{i}.downsample.conv.bias"]) for i in stages[1:]]
        self.trunk: Any = DaVit(
            depths=tuple(layers_in(state, rf"trunk\.stages\.{i}\.blocks\.(\d+)\.") for i in stages),
            embed_dims=tuple(widths),
            num_heads=tuple(width // _CHANNELS_PER_HEAD for width in widths),
            window_size=WINDOW,
            down_kernel_size=3,
            channel_attn_v2=True,
            named_blocks=True,
            num_classes=0,
        )
        words, positions = state["token_embedding.weight"], state["positional_embedding"]
        self.token_embedding = nn.Embedding(*words.shape)
        self.positional_embedding = nn.Parameter(torch.empty(positions.shape))
        width = words.shape[1]
        layers = layers_in(state, r"layers\.(\d+)\.")
        self.layers = nn.ModuleList(_text_layer(width) for _ in range(layers))
        self.ln_final = nn.LayerNorm(width, eps=1e-12)
        self.image_projection = nn.Parameter(torch.empty(state["image_projection"].shape))
        self.lang_projection = nn.Parameter(torch.empty(state["lang_projection"].shape))

    def encode_images(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D), not normalized."""
        trunk = self.trunk
        pooled: Tensor = trunk.forward_head(trunk.forward_features(images), pre_logits=True)
        return pooled @ self.image_projection

    def encode_texts(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(T, L) tokens and attention -> (T, D), not normalized."""
        states = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        for layer in self.layers:
            states = layer(states, src_key_padding_mask=mask == 0)
        rows = torch.arange(len(tokens), device=tokens.device)
        # The end token has the highest number; argmax finds its first place, before the padding.
        ends: Tensor = self.ln_final(states)[rows, tokens.argmax(dim=-1)]
        return ends @ self.lang_projection


def _text_layer(width: int) -> nn.Module:
    return nn.TransformerEncoderLayer(
        width,
        width // HEAD_WIDTH,
        4 * width,
        dropout=0.0,
        activation=QuickGELU(),
        layer_norm_eps=1e-12,
        batch_first=True,
        norm_first=True,
    )


class MedImageInsight(Model):
    """The released MedImageInsight: embeddings and the maps of its four stages."""

    card = CARD
    preprocess = Preprocess(
        size=480, mean=IMAGENET_MEAN, std=IMAGENET_STD, resampling="bicubic"
    )  # fmt: skip
    fixed_size = False

    def __init__(self, network: _Network, tokenizer: CLIPTokenizerFast) -> None:
        super().__init__()
        self.network = network
        self.tokenize = Tokenize(tokenizer, len(network.positional_embedding), "max_length")
        stages = network.trunk.feature_info
        self.channels = tuple(stage["num_chs"] for stage in stages)
        self.strides = tuple(stage["reduction"] for stage in stages)

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D), each row of length 1."""
        return F.normalize(self.network.encode_images(images), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1."""
        return encode_in_batches(self._embed_few, texts)

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the maps of the four stages, of strides 4 to 32."""
        maps: list[Tensor] = self.network.trunk.forward_intermediates(
            images, intermediates_only=True
        )
        return maps

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D): the embedding, which its adapters read."""
        return self.embed_images(images)

    def _embed_few(self, texts: Sequence[str]) -> Tensor:
        device = self.network.lang_projection.device
        tokens, mask = (part.to(device) for part in self.tokenize(texts))
        return F.normalize(self.network.encode_texts(tokens, mask), dim=-1)


def load(source: str | None, seed: int) -> Model:
    """MedImageInsight from its folder, or from the weights in it; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint where a file is missing or does not fit.
    """
    state, file = read_source(CARD, _find_weights(source))
    state = renamed(rename_parts(state, _OLD_PARTS), _RULES)
    try:
        network = _Network(state)
    except (KeyError, ValueError, IndexError, TypeError, ZeroDivisionError) as error:
        raise BadCheckpoint(
            f"{file} is not MedImageInsight (missing or malformed: {error})"
        ) from error
    load_state(network, state, file, _UNUSED_KEYS)
    model = MedImageInsight(network, _read_tokenizer(file, network.token_embedding.num_embeddings))
    model.identity = Identity(CARD.name, digest(model))
    return model.eval()


def _find_weights(source: str | None) -> str | None:
    """The weights in the folder, or the file that SOURCE is."""
    if source is None or not (folder := Path(source).expanduser()).is_dir():
        return source
    found = sorted((folder / _WEIGHTS_FOLDER).glob("*.*"))
    if not found:
        raise BadCheckpoint(
            f"{folder} has no weights in {_WEIGHTS_FOLDER}/: copy the folder 2024.09.27 of "
            f"{CARD.source}"
        )
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise Misuse(f"{folder / _WEIGHTS_FOLDER} contains {names}: give --model {CARD.name}:FILE")
    return str(found[0])


def _read_tokenizer(file: Path, size: int) -> CLIPTokenizerFast:
    """CLIP's tokenizer from beside the weights or from the released folder around them."""
    places = [file.parent / TOKENIZER, file.parent.parent / _TOKENIZER_FOLDER]
    folder = next((place for place in places if (place / "vocab.json").is_file()), None)
    if folder is None:
        raise BadCheckpoint(
            f"{file} needs CLIP's tokenizer: copy {_TOKENIZER_FOLDER} of "
            f"huggingface.co/lion-ai/MedImageInsights to {places[1]}"
        )
    try:
        tokenizer = CLIPTokenizerFast.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the Rust code raises a plain Exception for every broken file
        raise BadCheckpoint(f"{folder} contains no readable tokenizer ({error})") from error
    if len(tokenizer) != size:
        raise BadCheckpoint(
            f"{folder} has {len(tokenizer)} tokens, but {file} has embeddings of {size}"
        )
    return tokenizer
