"""ImageNet init: an image encoder with the ImageNet weights of torchvision or timm.

Shapes: B batch, S input side, C channels. SOURCE is one of

    resnet50            torchvision's first weights (IMAGENET1K_V1) where torchvision has the
                        architecture under timm's name (ResNets, DenseNets), otherwise timm's
    timm/resnet50       timm's default weights of an architecture; also with a tag:
                        timm/vit_base_patch16_224.augreg_in21k_ft_in1k
    resnet50@FILE       a local file with the weights of torchvision, timm, or EfficientNet-PyTorch

Files are read from torch's cache (`$TORCH_HOME/hub/checkpoints`) and from the cache of the Hugging
Face hub; nothing is downloaded. IMAGENET1K_V1 is what the papers call ImageNet init
(`resnet50(pretrained=True)`). Images are prepared as torchvision or timm evaluate the weights; for
a local file as timm evaluates the architecture.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from huggingface_hub import try_to_load_from_cache
from torch import Tensor

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.model import Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.image.timm_encoder import TimmEncoder, timm_preprocess
from g2dbench.pretrained.weights import State, digest, find_state, load_state, read_weights
from g2dbench.registry import unknown_name

CARD = ModelCard(
    name="imagenet",
    summary="ImageNet init: imagenet:resnet50, imagenet:timm/ARCH or imagenet:ARCH@FILE",
    paper="Deng et al., ImageNet, CVPR 2009; weights of torchvision (2016) or of timm (Wightman, "
    "PyTorch Image Models, 2019)",
    source="download.pytorch.org/models, or huggingface.co/timm",
    licence="BSD-3-Clause (torchvision), that of the model's page (timm)",
    capabilities=("features",),
    trained_on=("imagenet",),
    tested_with=("torch 2.14", "torchvision 0.29", "timm 1.0.31"),
    openness="weights, code, data and licence public",
    notes=(
        "torchvision has two sets of weights of a ResNet-50; the papers used the first, "
        "IMAGENET1K_V1.",
    ),
)

_TIMM = "timm/"
_TIMM_FILES = ("model.safetensors", "pytorch_model.bin")
_EFFICIENTNET = "_conv_stem.weight"
"""A key of EfficientNet-PyTorch's files, whose tensors have the order of timm's model."""


@dataclass(frozen=True)
class _Weights:
    """Where the weights of a SOURCE are. preprocess: None for that of timm's architecture."""

    name: str
    file: Path
    preprocess: Preprocess | None = None


def load(source: str | None, seed: int) -> Model:
    """The encoder of SOURCE with its ImageNet weights; `seed` is unused.

    Raises Misuse without a SOURCE and for an unknown architecture, BadCheckpoint for weights that
    are in no cache or do not fit.
    """
    if not source:
        raise Misuse(
            "imagenet needs an architecture: --model imagenet:resnet50, imagenet:timm/ARCH, or "
            "imagenet:ARCH@FILE"
        )
    weights = _find(source)
    trunk = timm.create_model(weights.name, pretrained=False, num_classes=0).eval()
    state = _named_as_timm(find_state(read_weights(weights.file), weights.file), trunk)
    load_state(trunk, state, weights.file, ignore=_classifier_patterns(trunk))
    model: Model = TimmEncoder(CARD, trunk, weights.preprocess or timm_preprocess(trunk))
    model.identity = Identity(f"imagenet:{weights.name}", digest(model))
    return model.eval()


def _find(source: str) -> _Weights:
    name, at, place = source.partition("@")
    if at:
        return _Weights(_known(name.removeprefix(_TIMM)), Path(place).expanduser())
    if name.startswith(_TIMM):
        return _find_timm(_known(name.removeprefix(_TIMM)))
    if name in torchvision.models.list_models(torchvision.models):
        return _find_torchvision(_known(name))
    return _find_timm(_known(name))


def _known(name: str) -> str:
    if not timm.is_model(name):
        raise Misuse(unknown_name("timm architecture", name, timm.list_models(f"{name[:4]}*")[:20]))
    return name


def _find_torchvision(name: str) -> _Weights:
    """IMAGENET1K_V1 in torch's cache, and its evaluation transform."""
    weights: Any = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / weights.url.rpartition("/")[2]
    if not file.is_file():
        raise BadCheckpoint(
            f"{file} does not exist: download {weights.url} into {folder}, or give a file, as "
            f"imagenet:{name}@FILE"
        )
    step = weights.transforms()
    preprocess = Preprocess(
        size=step.crop_size[0],
        resize=step.resize_size[0],
        fit="crop",
        mean=tuple(step.mean),
        std=tuple(step.std),
        resampling=step.interpolation.value,
    )
    return _Weights(name, file, preprocess)


def _find_timm(name: str) -> _Weights:
    """The architecture's default weights, or those of its tag, in the hub's cache."""
    config = timm.get_pretrained_cfg(name)
    hub_id = config.hf_hub_id if config is not None else None
    if not hub_id:
        raise BadCheckpoint(f"timm has no published weights of {name}; give imagenet:{name}@FILE")
    for file in _TIMM_FILES:
        found = try_to_load_from_cache(hub_id, file)
        if isinstance(found, str):
            return _Weights(name, Path(found))
    raise BadCheckpoint(
        f"the hub's cache has no weights of {hub_id}: run `hf download {hub_id} {_TIMM_FILES[0]}`, "
        f"or give a file, as imagenet:{name}@FILE"
    )


def _named_as_timm(state: State, trunk: Any) -> State:
    """The state with timm's key names; EfficientNet-PyTorch's are matched by order and shape."""
    if _EFFICIENTNET not in state:
        return state
    names = list(trunk.state_dict())
    found = [key for key in state if not key.startswith("_fc.")]
    expected = trunk.state_dict()
    if len(found) != len(names) or _differ(state, found, expected, names):
        return state
    return {new: state[old] for old, new in zip(found, names, strict=True)}


def _differ(
    state: Mapping[str, Tensor], found: list[str], expected: Mapping[str, Tensor], names: list[str]
) -> bool:
    pairs = zip(found, names, strict=True)
    return any(
        state[old].shape != expected[new].shape or _leaf(old) != _leaf(new) for old, new in pairs
    )


def _leaf(key: str) -> str:
    return key.rpartition(".")[2]


def _classifier_patterns(trunk: Any) -> list[str]:
    """Regular expressions of the classifier's keys, which the encoder does not have."""
    names = trunk.pretrained_cfg.get("classifier") or ()
    return [rf"^{name}\." for name in ((names,) if isinstance(names, str) else names)]
