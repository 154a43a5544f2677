"""ViT, DINOv2 and DINOv3 encoders of transformers, from a folder or the hub.

Shapes: B batch, S input side, N patches, C width. Code in the folder is never executed.
"""

from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import Dinov2Model, Dinov2WithRegistersModel, DINOv3ViTModel, ViTModel

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint
from g2dbench.model import Identity
from g2dbench.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from g2dbench.pretrained.hf_weights import load_strictly
from g2dbench.pretrained.hub import model_folder, read_json
from g2dbench.pretrained.image.image_processor import read_preprocess
from g2dbench.pretrained.image.patch_encoder import PatchEncoder
from g2dbench.pretrained.weights import digest

CLASSES: dict[str, Any] = {
    "vit": ViTModel,
    "dinov2": Dinov2Model,
    "dinov2_with_registers": Dinov2WithRegistersModel,
    "dinov3_vit": DINOv3ViTModel,
}
_UNUSED_KEYS = (r"^classifier\.", r"^pooler\.", r"^decoder\.", r"\.pooler\.", r"^head\.")
"""Keys of classifiers, of BERT-like poolers and of decoders, which follow the encoder."""
_NO_POOLER = {"vit": {"add_pooling_layer": False}}
_HALF = (0.5, 0.5, 0.5)
_STRETCHED = Preprocess(size=224, mean=_HALF, std=_HALF)
_CROPPED = Preprocess(size=224, fit="crop", mean=IMAGENET_MEAN, std=IMAGENET_STD)
_DEFAULTS = {"vit": _STRETCHED}
"""transformers' default image processors, for entries that a folder's file lacks."""


class HFVision(PatchEncoder):
    """A ViT: the vector is the class token, the map the patches, both after the final norm."""

    def __init__(self, card: ModelCard, network: Any, preprocess: Preprocess) -> None:
        super().__init__(preprocess)
        self.card = card
        self.network = network
        self.skipped = 1 + int(getattr(network.config, "num_register_tokens", 0) or 0)
        self.measure()

    def tokens(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> class token (B, C) and patches (B, N, C)."""
        states: Tensor = self.network(pixel_values=images).last_hidden_state
        return states[:, 0], states[:, self.skipped :]


def load_vision(
    source: str | None,
    card: ModelCard,
    kinds: tuple[str, ...] = tuple(CLASSES),
    preprocess: Preprocess | None = None,
) -> HFVision:
    """The encoder of a folder or a hub id.

    kinds: the model types that the card allows. preprocess: of the authors; None: that of the
    folder. Raises Misuse for a SOURCE that is neither, BadCheckpoint for a folder that is
    incomplete, broken or of another kind of model.
    """
    folder = model_folder(source, card.name, "config.json")
    kind = str(read_json(folder / "config.json").get("model_type"))
    if kind not in kinds:
        raise BadCheckpoint(
            f"{folder / 'config.json'} describes a {kind!r} model; "
            f"{card.name} reads {' and '.join(kinds)}"
        )
    network = load_strictly(CLASSES[kind], folder, _UNUSED_KEYS, **_NO_POOLER.get(kind, {})).eval()
    if preprocess is None:
        side = network.config.image_size if kind == "vit" else None
        preprocess = read_preprocess(folder, _DEFAULTS.get(kind, _CROPPED), side)
    model = HFVision(card, network, preprocess)
    label = folder.resolve().name if Path(source or "").expanduser().is_dir() else source
    model.identity = Identity(f"{card.name}:{label}", digest(model))
    return model.eval()
