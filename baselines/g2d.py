"""G2D's released files: the encoder, the U-Net, or the full pre-training checkpoint.

Shapes: B images, S input side. The keys of a file show which of the three layouts it has. An
encoder gives features; a U-Net also gives its decoder; a checkpoint also embeds and locates. The
vocabulary of a checkpoint's text encoder is read from the file's folder, or else it is that of
Bio_ClinicalBERT from the hub's local cache. Input size and encoder are those of the authors'
config.yaml, or those of the `model.json` that `g2dbench export` writes beside the file.
Source: GitHub cheliu-computation/G2D-NeurIPS24, PRETRAIN/utils/trainer.py (save_checkpoints).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, BadData, Misuse
from g2dbench.methods.g2d.export import SETTINGS_FILE, TEXT_FOLDER
from g2dbench.methods.g2d.model import G2D, make_g2d_unet
from g2dbench.methods.g2d.released import find_layout, from_released, read_sizes
from g2dbench.methods.g2d.settings import G2DSettings
from g2dbench.methods.shared.encoders import image_encoder
from g2dbench.methods.shared.settings import read_settings
from g2dbench.methods.shared.two_towers import non_empty_levels, pyramid_levels
from g2dbench.methods.shared.unet import Decoder
from g2dbench.model import Identity, Model, capabilities
from g2dbench.pretrained.hub import read_json
from g2dbench.pretrained.layouts import strip_wrappers
from g2dbench.pretrained.text import bert
from g2dbench.pretrained.text.tokenizer import SCRATCH, TOKENIZER_FILE, load_tokenizer
from g2dbench.pretrained.weights import (
    State,
    digest,
    find_state,
    load_state,
    read_weights,
    strip_prefix,
)
from g2dbench.recipes import recipe

CARD = ModelCard(
    name="g2d",
    summary="G2D's released files, or files of `g2dbench export`: encoder, U-Net or checkpoint",
    paper="Liu et al., G2D: From Global to Dense Radiography Representation Learning via "
    "Vision-Language Pre-training, NeurIPS 2024, arXiv 2312.01522",
    source="github.com/cheliu-computation/G2D-NeurIPS24: NAME_encoder.pth, "
    "NAME_encoder_decoder.pth, NAME_N_checkpoint.pth",
    licence="the repository names none",
    capabilities=("embeds", "features", "locates", "decodes"),
    trained_on=("mimic_cxr",),
    source_kind="file",
    openness="code is public, without a license file; the repository links no weights; the data "
    "need an agreement; there is no list of training images",
    signature=("img_model.segmentation_head.0.weight", "attnpool.positional_embedding"),
    input_size=256,
    text_needs="for a checkpoint: vocab.txt of huggingface.co/emilyalsentzer/Bio_ClinicalBERT",
    tested_with=("torch 2.14", "segmentation-models-pytorch 0.6", "transformers 5.24"),
)

TEXT_SOURCE = "emilyalsentzer/Bio_ClinicalBERT"
RECIPE = "g2d-code"
"""The recipe whose `[model]` table describes the model of the authors' config.yaml."""


class ReleasedEncoder(Model):
    """`NAME_encoder.pth`: the image encoder alone."""

    def __init__(self, settings: G2DSettings) -> None:
        super().__init__()
        self.encoder = image_encoder(settings.image)
        self.preprocess = settings.image.preprocess()
        self.channels, self.strides = pyramid_levels(self.encoder)
        self.fixed_size = False

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the encoder's maps of strides 2 to 32, fine to coarse."""
        return non_empty_levels(self.encoder(images))

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C): mean over the pixels of the last map."""
        return self.features(images)[-1].mean((2, 3))


class ReleasedUnet(ReleasedEncoder):
    """`NAME_encoder_decoder.pth`: a U-Net with its pre-trained decoder."""

    def __init__(self, settings: G2DSettings) -> None:
        super().__init__(settings)
        self.unet: Any = make_g2d_unet(self.encoder, settings)
        del self.encoder

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the encoder's maps of strides 2 to 32, fine to coarse."""
        return non_empty_levels(self.unet.encoder(images))

    def pretrained_decoder(self) -> nn.Module:
        """A fresh copy of the decoder: `features` pyramid -> (B, 1, S, S) logits."""
        return Decoder(self.unet, self.strides)


def load(source: str | None, seed: int) -> Model:
    """The model in one of the three layouts; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint for a file of another layout or with other
    settings, and for a checkpoint whose vocabulary is not found.
    """
    if source is None:
        raise Misuse(f"g2d needs its weights: --model g2d:FILE, FILE of {CARD.source}")
    file = Path(source).expanduser()
    state = strip_wrappers(find_state(read_weights(file), file), file)
    state = strip_prefix(state, "backbone.", "model.")
    try:
        model = _build(state, file)
    except (BadData, Misuse, RuntimeError, MemoryError, OverflowError) as error:
        raise BadCheckpoint(f"{file} cannot be read as a G2D model: {error}") from error
    model.card = replace(
        CARD,
        capabilities=capabilities(model),
        trained_on=() if _settings_file(file).is_file() else CARD.trained_on,
    )
    model.identity = Identity(f"{CARD.name}:{file.name}", digest(model))
    return model.eval()


def _build(state: State, file: Path) -> Model:
    layout = find_layout(state)
    if layout == "checkpoint":
        return _build_checkpoint(state, file)
    if any(key.startswith("img_local_atten_layer.") for key in state):
        raise BadCheckpoint(
            f"{file} is a checkpoint of the released code, trained without a decoder: give the "
            "NAME_encoder.pth beside it, which contains its image encoder"
        )
    settings = _read_settings(file, {"mask": _mask_settings(state)})
    if layout == "encoder":
        model = ReleasedEncoder(settings)
        load_state(model.encoder, state, file)
        return model
    unet = ReleasedUnet(settings)
    load_state(unet.unet, state, file)
    return unet


def _build_checkpoint(state: State, file: Path) -> Model:
    """G2D with both encoders; the tokenizer is beside the file or in the hub's cache."""
    try:
        settings = _read_settings(file, read_sizes(state))
        vocab_size = len(state["lm_model.embeddings.word_embeddings.weight"])
    except (KeyError, IndexError, TypeError) as error:
        raise BadCheckpoint(
            f"{file} is not a complete checkpoint; missing or malformed: {error}"
        ) from error
    g2d = G2D(settings, _find_tokenizer(file, vocab_size))
    load_state(g2d, from_released(state), file)
    return g2d.as_model()


def _mask_settings(state: Mapping[str, Tensor]) -> dict[str, str]:
    head = state.get("segmentation_head.0.weight")
    return {"heads": "separate"} if head is not None and head.ndim and len(head) > 1 else {}


def _settings_file(file: Path) -> Path:
    return file.with_name(SETTINGS_FILE)


def _read_settings(file: Path, sizes: Mapping[str, Mapping[str, Any]]) -> G2DSettings:
    """The `[model]` table of the export, or that of the released code with the given `sizes`.

    Nothing is downloaded: the weights are always those of the file, whatever the table says.
    """
    beside = _settings_file(file)
    exported = beside.is_file()
    table = read_json(beside) if exported else recipe.load(RECIPE).model
    parts = {key: dict(value) for key, value in table.items() if isinstance(value, Mapping)}
    for name, values in {} if exported else sizes.items():
        parts[name] = {**parts.get(name, {}), **values}
    # The released code pads to the longest text outside training. No layer is trained here.
    fixed = {"source": SCRATCH, "padding": "longest", "frozen_layers": 0}
    parts["text"] = {**parts.get("text", {}), **fixed}
    parts["image"] = {**parts.get("image", {}), "weights": ""}
    parts["attention"] = {**parts.get("attention", {}), "output": "double"}
    return read_settings(G2DSettings, {**table, **parts})


def _find_tokenizer(file: Path, vocab_size: int) -> PreTrainedTokenizerBase:
    """The tokenizer in `text_model` beside the file, in its folder, or of Bio_ClinicalBERT."""
    tokenizer = _tokenizer_beside(file, vocab_size) or _hub_tokenizer(file)
    if len(tokenizer) != vocab_size:
        raise BadCheckpoint(
            f"{file} has embeddings of {vocab_size} tokens, but the vocabulary found for it has "
            f"{len(tokenizer)}: they belong to different models; put the matching vocab.txt beside "
            "the file"
        )
    return tokenizer


def _tokenizer_beside(file: Path, vocab_size: int) -> PreTrainedTokenizerBase | None:
    for folder in (file.with_name(TEXT_FOLDER), file.parent):
        if (folder / TOKENIZER_FILE).is_file():
            return load_tokenizer(folder)
        if (folder / "vocab.txt").is_file():
            return bert.read_tokenizer(folder, vocab_size)
    return None


def _hub_tokenizer(file: Path) -> PreTrainedTokenizerBase:
    try:
        return load_tokenizer(TEXT_SOURCE)
    except BadData as error:
        raise BadCheckpoint(
            f"{file} contains a text encoder but no vocabulary, and there is none in its folder or "
            f"in the hub's cache: copy vocab.txt of {TEXT_SOURCE} beside the file, or give the "
            "NAME_encoder_decoder.pth, which needs none"
        ) from error
