"""G2D's released files: the encoder, the U-Net, or the whole checkpoint of a pre-training.

Shapes: B images, S input side. Which of the three layouts a file has is read from its keys: an
encoder gives features; a U-Net also its decoder; a checkpoint embeds and locates too, with the word
pieces of its text encoder from the file's folder, or Bio_ClinicalBERT's from the hub's local cache.
Input and encoder are those of the authors' config.yaml, or of the `model.json` beside the file that
`g2dbench export` writes.
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
from g2dbench.pretrained import bert
from g2dbench.pretrained.hub import read_json
from g2dbench.pretrained.tokenizer import FILE as TOKENIZER_FILE
from g2dbench.pretrained.tokenizer import SCRATCH, load_tokenizer
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
    summary="Released G2D, or ours by `g2dbench export`: encoder, U-Net or whole checkpoint",
    paper="Liu et al., G2D: From Global to Dense Radiography Representation Learning via "
    "Vision-Language Pre-training, NeurIPS 2024, arXiv 2312.01522",
    source="github.com/cheliu-computation/G2D-NeurIPS24: NAME_encoder.pth, "
    "NAME_encoder_decoder.pth, NAME_N_checkpoint.pth",
    licence="the repository names none",
    capabilities=("embeds", "features", "locates", "decodes"),
    trained_on=("mimic_cxr",),
    source_kind="file",
    signature=("img_model.segmentation_head.0.weight", "attnpool.positional_embedding"),
)

TEXT_SOURCE = "emilyalsentzer/Bio_ClinicalBERT"
RECIPE = "g2d-code"
"""Its `[model]` table describes what the authors' config.yaml trains."""


class Encoder(Model):
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


class Unet(Encoder):
    """`NAME_encoder_decoder.pth`: smp's Unet, which hands over its decoder."""

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
    settings, and for a checkpoint whose word pieces are not at hand.
    """
    if source is None:
        raise Misuse(f"g2d needs its weights: --model g2d:FILE, FILE of {CARD.source}")
    file = Path(source).expanduser()
    state = strip_prefix(find_state(read_weights(file), file), "module.", "backbone.")
    try:
        model = _build(state, file)
    except (BadData, Misuse, RuntimeError, MemoryError, OverflowError) as error:
        raise BadCheckpoint(f"{file} cannot be taken for a G2D: {error}") from error
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
        return _whole(state, file)
    if any(key.startswith("img_local_atten_layer.") for key in state):
        raise BadCheckpoint(
            f"{file} is a checkpoint of the released code's training without decoder: its image "
            "encoder is in NAME_encoder.pth beside it"
        )
    settings = _settings(file, {"mask": _masks(state)})
    if layout == "encoder":
        model = Encoder(settings)
        load_state(model.encoder, state, file)
        return model
    unet = Unet(settings)
    load_state(unet.unet, state, file)
    return unet


def _whole(state: State, file: Path) -> Model:
    """The method itself, its tokenizer found beside the file or in the hub's cache."""
    try:
        settings = _settings(file, read_sizes(state))
        words = len(state["lm_model.embeddings.word_embeddings.weight"])
    except (KeyError, IndexError, TypeError) as error:
        raise BadCheckpoint(f"{file} is no whole checkpoint: it lacks or bends {error}") from error
    g2d = G2D(settings, _tokenizer(file, words))
    load_state(g2d, from_released(state), file)
    return g2d.as_model()


def _masks(state: Mapping[str, Tensor]) -> dict[str, str]:
    head = state.get("segmentation_head.0.weight")
    return {"heads": "separate"} if head is not None and head.ndim and len(head) > 1 else {}


def _settings_file(file: Path) -> Path:
    return file.with_name(SETTINGS_FILE)


def _settings(file: Path, found: Mapping[str, Mapping[str, Any]]) -> G2DSettings:
    """The `[model]` table: that of the export, or the released code's with the sizes `found`.

    Nothing is fetched: whatever a table says, the weights are those of the file.
    """
    beside = _settings_file(file)
    exported = beside.is_file()
    table = read_json(beside) if exported else recipe.load(RECIPE).model
    parts = {key: dict(value) for key, value in table.items() if isinstance(value, Mapping)}
    for name, values in {} if exported else found.items():
        parts[name] = {**parts.get(name, {}), **values}
    # As the released code tokenises once it is not training; nothing is frozen, nothing learns.
    fixed = {"source": SCRATCH, "padding": "longest", "frozen_layers": 0}
    parts["text"] = {**parts.get("text", {}), **fixed}
    parts["image"] = {**parts.get("image", {}), "weights": ""}
    parts["attention"] = {**parts.get("attention", {}), "output": "double"}
    return read_settings(G2DSettings, {**table, **parts})


def _tokenizer(file: Path, words: int) -> PreTrainedTokenizerBase:
    """Word pieces from `text_model` beside the file, from its folder, or of Bio_ClinicalBERT."""
    tokenizer = _beside(file, words) or _cached(file)
    if len(tokenizer) != words:
        raise BadCheckpoint(
            f"{file} has embeddings of {words} word pieces, and the vocabulary found for it has "
            f"{len(tokenizer)}: they belong to two models; put the right vocab.txt beside the file"
        )
    return tokenizer


def _beside(file: Path, words: int) -> PreTrainedTokenizerBase | None:
    for folder in (file.with_name(TEXT_FOLDER), file.parent):
        if (folder / TOKENIZER_FILE).is_file():
            return load_tokenizer(folder)
        if (folder / "vocab.txt").is_file():
            return bert.read_tokenizer(folder, words)
    return None


def _cached(file: Path) -> PreTrainedTokenizerBase:
    try:
        return load_tokenizer(TEXT_SOURCE)
    except BadData as error:
        raise BadCheckpoint(
            f"{file} holds a text encoder without its word pieces, and neither its folder nor the "
            f"hub has them: copy vocab.txt of {TEXT_SOURCE} beside the file, or give the "
            "NAME_encoder_decoder.pth, which needs none"
        ) from error
