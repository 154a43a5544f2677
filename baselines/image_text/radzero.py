"""RadZero: texts matched with patches by cosine, and with what they attend to (NeurIPS 2025).

Shapes: B batch, S = 518, D = 768, N tokens, P = N - 1 patches, T texts, h w the grid (37 x 37).
Source: deepnoid-ai/RadZero at 656ae5f (exp/cxr_pt/model/modeling.py, losses.py). SOURCE is the hub
repository or its folder; code in it is never executed. The keys of its weights are those of the
training code's class, the file itself was not opened.

XrayDINO, frozen, and two more layers give the tokens of an image; MPNet's mean token is the text.
Cosine over a temperature is the map of a text (`locate`); its softmax over class token and patches
weights the image's tokens, and the cosine of their mean with the text is the score. `match` is the
original's probability of "There is {finding}", a sigmoid of the score over the temperature.
Images have no vector that texts are compared with by cosine: there are no global embeddings.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    Dinov2Config,
    Dinov2Model,
    MPNetConfig,
    MPNetModel,
    MPNetTokenizerFast,
)
from transformers.models.dinov2.modeling_dinov2 import Dinov2Encoder

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint
from g2dbench.model import Grounding, Identity
from g2dbench.preprocess import CLIP_MEAN, CLIP_STD, Preprocess
from g2dbench.pretrained.hub import model_folder
from g2dbench.pretrained.image.feature_maps import to_grid
from g2dbench.pretrained.image.image_processor import read_preprocess
from g2dbench.pretrained.image.patch_encoder import PatchEncoder
from g2dbench.pretrained.layouts import layers_in, part_of, unwrapped
from g2dbench.pretrained.text.bert import weights_file
from g2dbench.pretrained.text.text_batches import encode_in_batches
from g2dbench.pretrained.text.tokenizer import Tokenize
from g2dbench.pretrained.towers import modern_dinov2, names_as_built
from g2dbench.pretrained.weights import State, digest, find_state, load_state, read_weights

CARD = ModelCard(
    name="radzero",
    summary="RadZero: XrayDINO at 518 pixels and MPNet, matched by similarity of patches",
    paper="Park et al., RadZero: Similarity-Based Cross-Attention for Explainable Vision-Language "
    "Alignment in Chest X-ray with Zero-Shot Multi-Task Capability, NeurIPS 2025",
    source="huggingface.co/Deepnoid/RadZero",
    licence="CC BY-NC 4.0",
    capabilities=("features", "locates", "matches"),
    trained_on=("mimic_cxr", "chexpert"),
    source_kind="hub",
    signature=("loss_fns.RadZeroLoss.loss_temperature", "loss_fns.RadZeroLoss.layer_norm.weight"),
    files=("model.safetensors",),
    noncommercial=True,
    input_size=518,
    text_needs="the tokenizer files of the same hub repository",
    tested_with=("torch 2.14", "transformers 5.24", "open_clip 3.3"),
    openness="weights, code and training texts public; no commercial use; data by agreement",
    notes=(
        "Texts and images of MIMIC-CXR; its image encoder XrayDINO saw CheXpert and sets that are "
        "not named.",
        "Its published segmentation figures take the threshold that is best on the test set, and "
        "count images with the finding alone.",
        "Images are stretched to squares.",
    ),
)

PROMPT = "There is {}"
MAX_TOKENS, SIDE, HEAD_WIDTH, FIRST_POSITIONS = 512, 518, 64, 2
_PREPROCESS = Preprocess(size=SIDE, mean=CLIP_MEAN, std=CLIP_STD, resampling="bicubic")
"""BLIP's defaults, for entries that the folder's file lacks."""
_UNUSED_KEYS = (r"(^|\.)mask_token$", r"^text_model\.pooler\.")


class _Align(nn.Module):
    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        self.transformer_layers: Any = Dinov2Encoder(config)


class _Similarity(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(width)
        self.loss_temperature = nn.Parameter(torch.zeros(1))


class _Network(nn.Module):
    """Encoders, further layers and similarity, with the key names of the official class."""

    def __init__(self, vision: Dinov2Config, text: MPNetConfig, depth: int) -> None:
        super().__init__()
        width = vision.hidden_size
        self.vision_model: Any = Dinov2Model(vision)
        self.text_model: Any = MPNetModel(text, add_pooling_layer=False)
        self.align_transformer = _Align(
            Dinov2Config(
                hidden_size=width,
                num_hidden_layers=depth,
                num_attention_heads=width // HEAD_WIDTH,
                attn_implementation="eager",  # a bare encoder of transformers 4 chooses none
            )
        )
        self.loss_fns: Any = nn.ModuleDict({"RadZeroLoss": _Similarity(width)})


class RadZero(PatchEncoder):
    """The published RadZero: scores of texts, their similarity maps, and a ViT's features."""

    card = CARD
    grounding = Grounding("bilinear", None)

    def __init__(self, network: _Network, tokenizer: MPNetTokenizerFast, prepare: Preprocess):
        super().__init__(prepare)
        self.network = network
        positions = network.text_model.config.max_position_embeddings - FIRST_POSITIONS
        self.tokenize = Tokenize(tokenizer, min(MAX_TOKENS, positions))
        self.measure()

    def tokens(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> class token and mean patch (B, 2 D), of length 1; patches (B, P, D)."""
        found = self.image_tokens(images)
        pooled = torch.cat([found[:, 0], found[:, 1:].mean(dim=1)], dim=1)
        return F.normalize(pooled, dim=1), found[:, 1:]

    def image_tokens(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, N, D): class token and patches after the further layers."""
        states = self.network.vision_model(pixel_values=images).last_hidden_state
        layers = self.network.align_transformer.transformer_layers
        aligned: Tensor = layers(states).last_hidden_state
        return aligned

    def text_vectors(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D): the mean state of the tokens, not normalized."""
        return encode_in_batches(self._encode_few, texts)

    def similarities(self, images: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S), T texts -> logits (B, T), cosines over the temperature (B, T, N)."""
        similarity = self.network.loss_fns["RadZeroLoss"]
        norm, temperature = similarity.layer_norm, similarity.loss_temperature.exp()
        tokens = F.normalize(norm(self.image_tokens(images)), dim=-1)
        queries = F.normalize(norm(self.text_vectors(texts)), dim=-1)
        scores = queries @ tokens.transpose(1, 2) / temperature
        attended = F.normalize(scores.softmax(dim=-1) @ tokens, dim=-1)
        return (attended * queries).sum(dim=-1) / temperature, scores

    def match(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T findings -> (B, T): the probability of "There is {finding}"."""
        prompts = [PROMPT.format(finding.replace("_", " ")) for finding in findings]
        return self.similarities(images, prompts)[0].sigmoid()

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T, h, w): cosine over temperature of each patch."""
        return to_grid(self.similarities(images, texts)[1][:, :, 1:].transpose(1, 2))

    def _encode_few(self, texts: Sequence[str]) -> Tensor:
        tokens, mask = (part.to(self.network.text_model.device) for part in self.tokenize(texts))
        states = self.network.text_model(tokens, mask).last_hidden_state
        weights = mask[:, :, None].to(states.dtype)
        mean: Tensor = (states * weights).sum(dim=1) / weights.sum(dim=1)
        return mean


def load(source: str | None, seed: int) -> RadZero:
    """RadZero from its hub repository or folder; `seed` is unused.

    Raises Misuse for a SOURCE that is neither, BadCheckpoint for a folder that is incomplete,
    broken or of another model.
    """
    folder = model_folder(source, CARD.name, "preprocessor_config.json")
    file = weights_file(folder)
    state = modern_dinov2(unwrapped(find_state(read_weights(file), file)))
    try:
        network = _build(state)
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise BadCheckpoint(f"{file} is not RadZero: missing or malformed: {error}") from error
    load_state(network, names_as_built(network, state), file, _UNUSED_KEYS)
    prepare = read_preprocess(folder, _PREPROCESS, None)
    tokenizer = _read_tokenizer(folder, network.text_model.config.vocab_size)
    model = RadZero(network.eval(), tokenizer, prepare)
    model.identity = Identity(CARD.name, digest(model))
    return model.eval()


def _build(state: State) -> _Network:
    """The network with the sizes of the weights."""
    vision, text = part_of(state, "vision_model."), part_of(state, "text_model.")
    width, _, patch, _ = vision["embeddings.patch_embeddings.projection.weight"].shape
    grid = round((vision["embeddings.position_embeddings"].shape[1] - 1) ** 0.5)
    words = text["embeddings.word_embeddings.weight"]
    return _Network(
        Dinov2Config(
            hidden_size=width,
            num_hidden_layers=layers_in(vision, r"encoder\.layer\.(\d+)\."),
            num_attention_heads=width // HEAD_WIDTH,
            image_size=patch * grid,
            patch_size=patch,
        ),
        MPNetConfig(
            vocab_size=words.shape[0],
            hidden_size=words.shape[1],
            num_hidden_layers=layers_in(text, r"encoder\.layer\.(\d+)\."),
            num_attention_heads=text["encoder.relative_attention_bias.weight"].shape[1],
            intermediate_size=text["encoder.layer.0.intermediate.dense.weight"].shape[0],
            max_position_embeddings=text["embeddings.position_embeddings.weight"].shape[0],
        ),
        layers_in(state, r"align_transformer\.transformer_layers\.layer\.(\d+)\."),
    )


def _read_tokenizer(folder: Path, size: int) -> MPNetTokenizerFast:
    try:
        tokenizer = MPNetTokenizerFast.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the Rust code raises a plain Exception for every broken file
        raise BadCheckpoint(f"{folder} contains no readable vocabulary ({error})") from error
    if len(tokenizer) > size:
        raise BadCheckpoint(
            f"{folder} mixes files of two models: its vocabulary has {len(tokenizer)} tokens, its "
            f"weights have {size}"
        )
    return tokenizer
