"""Image encoders that timm builds, for wrappers with a card.

Shapes: B batch, S input side, C channels.
"""

from pathlib import Path
from typing import Any

from timm.data import resolve_data_config
from torch import Tensor

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.model import Model
from g2dbench.preprocess import Fit, Preprocess, Resampling
from g2dbench.pretrained.image.feature_maps import find_levels
from g2dbench.pretrained.weights import State, select_prefix

_FITS: dict[str, Fit] = {"center": "crop", "squash": "stretch"}
_RESAMPLINGS: dict[str, Resampling] = {"bilinear": "bilinear", "bicubic": "bicubic"}


class TimmEncoder(Model):
    """A timm encoder without its classifier: the last feature map of each stride, and pooling."""

    def __init__(self, card: ModelCard, trunk: Any, preprocess: Preprocess) -> None:
        super().__init__()
        self.card = card
        self.trunk = trunk
        self.preprocess = preprocess
        self.fixed_size = bool(trunk.pretrained_cfg.get("fixed_input_size", True))
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


def find_encoder_state(state: State, trunk: Any, file: Path) -> State:
    """The entries with the prefix (`module.`, `encoder.`, none) under which all keys are present.

    BadCheckpoint for a file that contains the encoder several times, such as a momentum encoder's.
    """
    keys = [key for key in trunk.state_dict() if not key.endswith("num_batches_tracked")]
    prefixes = [key.removesuffix(keys[0]) for key in state if key.endswith(keys[0])]
    complete = [prefix for prefix in prefixes if all(prefix + key in state for key in keys)]
    if len(complete) > 1:
        raise BadCheckpoint(
            f"{file} contains this encoder {len(complete)} times, under "
            f"{', '.join(map(repr, complete))}: choose one, as {file}#{complete[0]}"
        )
    return select_prefix(state, complete[0]) if complete else state


def select_encoder(state: State, prefix: str, trunk: Any, file: Path) -> State:
    """The entries under a prefix that the user names, at the start of a key or after a dot.

    BadCheckpoint where no key has the prefix; the message lists the prefixes that there are.
    """
    ending = next(iter(trunk.state_dict()))
    chosen: State = {}
    for key, value in state.items():
        start, found, rest = key.partition(prefix)
        if found and (not start or start.endswith(".")):
            chosen[rest] = value
    if not chosen:
        has = sorted({key.removesuffix(ending) for key in state if key.endswith(ending)})
        raise BadCheckpoint(
            f"{file} has no key with the prefix {prefix!r}; "
            + (f"the encoder's first key follows {', '.join(map(repr, has))}" if has else "")
            + f"; its first keys are {', '.join(list(state)[:3])}"
        )
    return chosen


def classifier_patterns(trunk: Any) -> list[str]:
    """Regular expressions of the classifier's keys, which the encoder does not have."""
    names = trunk.pretrained_cfg.get("classifier") or ()
    return [rf"^{name}\." for name in ((names,) if isinstance(names, str) else names)]


def timm_preprocess(trunk: Any) -> Preprocess:
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
