"""Any image encoder that timm can build, with weights from a local file (ImageNet or your own).

Shapes: B batch, S input side, C channels. SOURCE is ARCH@FILE, for example
`encoder:resnet50@weights.pth` or `encoder:vit_base_patch16_224@model.safetensors`. ARCH is a
name of timm; ResNets and DenseNets of torchvision have the same names and keys. The classifier in
the file is ignored. Preprocessing is timm's default for the architecture, because a weights file
does not specify any.
"""

from pathlib import Path
from typing import Any

import timm
from timm.data import resolve_data_config
from torch import Tensor

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.model import Identity, Model
from g2dbench.preprocess import Fit, Preprocess, Resampling
from g2dbench.pretrained.feature_maps import find_levels
from g2dbench.pretrained.weights import (
    State,
    digest,
    find_state,
    load_state,
    read_weights,
    select_prefix,
)
from g2dbench.registry import unknown_name

CARD = ModelCard(
    name="encoder",
    summary="Any timm or torchvision image encoder: encoder:ARCH@FILE",
    paper="Wightman, PyTorch Image Models, 2019",
    source="huggingface.co/timm, pytorch.org/vision, or your own training",
    licence="that of the weights file",
    capabilities=("features",),
    source_kind="file",
    source_pattern="ARCH@FILE",
)

_FITS: dict[str, Fit] = {"center": "crop", "squash": "stretch"}
_RESAMPLINGS: dict[str, Resampling] = {"bilinear": "bilinear", "bicubic": "bicubic"}


class Encoder(Model):
    """A timm encoder without its classifier: the last feature map of each stride, and pooling."""

    card = CARD

    def __init__(self, trunk: Any) -> None:
        super().__init__()
        self.trunk = trunk
        self.preprocess = _preprocess(trunk)
        self.fixed_size = bool(trunk.pretrained_cfg.get("fixed_input_size", False))
        self.levels = find_levels(self._stages, self.preprocess.size)
        self.channels, self.strides = self.levels.channels, self.levels.strides

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the feature pyramid; for a ViT a single map, after the final norm."""
        maps = self.trunk.forward_intermediates(
            images,
            indices=list(self.levels.indices),
            norm=self.levels.is_single,
            intermediates_only=True,
        )
        return self.levels.pyramid(maps, images.shape[-1])

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C): the input of the architecture's classifier."""
        output: Tensor = self.trunk.forward_head(
            self.trunk.forward_features(images), pre_logits=True
        )
        return output

    def _stages(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.trunk.forward_intermediates(images, intermediates_only=True)
        return maps


def load(source: str | None, seed: int) -> Encoder:
    """The encoder of ARCH@FILE; `seed` is unused.

    Raises Misuse for a SOURCE without a known ARCH or without @FILE, BadCheckpoint for weights
    that are not the architecture's.
    """
    name, at, place = (source or "").partition("@")
    if not at or not name or not place:
        raise Misuse(
            f"the model is written encoder:ARCH@FILE (encoder:resnet50@weights.pth), not {source!r}"
        )
    if not timm.is_model(name):
        raise Misuse(unknown_name("timm architecture", name, timm.list_models(f"{name[:4]}*")[:20]))
    trunk = timm.create_model(name, pretrained=False, num_classes=0).eval()
    if not hasattr(trunk, "forward_intermediates"):
        raise Misuse(f"timm's {name} has no intermediate feature maps; choose another architecture")
    file = Path(place).expanduser()
    state = _find_encoder_state(find_state(read_weights(file), file), trunk, file)
    load_state(trunk, state, file, ignore=_classifier_patterns(trunk))
    model = Encoder(trunk)
    model.identity = Identity(f"encoder:{name}@{file.name}", digest(model))
    return model.eval()


def _find_encoder_state(state: State, trunk: Any, file: Path) -> State:
    """The entries with the prefix (`module.`, `encoder.`, none) under which all keys are present.

    BadCheckpoint for a file that contains the encoder several times, such as a momentum encoder's.
    """
    keys = [key for key in trunk.state_dict() if not key.endswith("num_batches_tracked")]
    prefixes = [key.removesuffix(keys[0]) for key in state if key.endswith(keys[0])]
    complete = [prefix for prefix in prefixes if all(prefix + key in state for key in keys)]
    if len(complete) > 1:
        raise BadCheckpoint(
            f"{file} contains this encoder {len(complete)} times, under "
            f"{', '.join(map(repr, complete))}: save the one to evaluate to a separate file"
        )
    return select_prefix(state, complete[0]) if complete else state


def _classifier_patterns(trunk: Any) -> list[str]:
    """Regular expressions of the classifier's keys, which the encoder does not have."""
    names = trunk.pretrained_cfg.get("classifier") or ()
    return [rf"^{name}\." for name in ((names,) if isinstance(names, str) else names)]


def _preprocess(trunk: Any) -> Preprocess:
    """timm's evaluation transform of the architecture (timm/data/transforms_factory.py)."""
    config = resolve_data_config(pretrained_cfg=trunk.pretrained_cfg)
    channels, height, width = config["input_size"]
    fit, resampling = _FITS.get(config["crop_mode"]), _RESAMPLINGS.get(config["interpolation"])
    if channels != 3 or height != width or fit is None or resampling is None:
        raise Misuse(
            f"timm prepares images for {trunk.pretrained_cfg['architecture']} by "
            f"{config['crop_mode']}, {config['interpolation']}, to {config['input_size']}; "
            "g2dbench supports center and squash, bilinear and bicubic, and squares of 3 channels"
        )
    return Preprocess(
        size=height,
        resize=int(height / config["crop_pct"]),
        fit=fit,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        resampling=resampling,
    )
