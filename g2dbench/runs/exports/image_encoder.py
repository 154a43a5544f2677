"""The image encoder of a trained method, as the network of the same name in timm or torchvision.

smp builds its encoders "resnet50" from torchvision's classes and "tu-NAME" from timm's, so that the
keys are theirs after a prefix is removed; nothing is converted.
"""

import re
from typing import Any

import timm
from torch import nn

from g2dbench.errors import Misuse
from g2dbench.methods.shared.pretrained_model import PretrainedImageModel
from g2dbench.model import Model
from g2dbench.pretrained.weights import State

_RESNET = re.compile(r"resnet(18|34|50|101|152)")
TIMM_PREFIX, INNER_PREFIX = "tu-", "model."


def encoder_of(model: Model) -> nn.Module:
    """The smp encoder of a trained method; Misuse for a model without one."""
    if isinstance(model, PretrainedImageModel):
        towers: Any = model.towers
        found = getattr(towers, "encoder", None) or getattr(towers, "unet", None)
        encoder = getattr(found, "encoder", found)
        if isinstance(encoder, nn.Module) and hasattr(encoder, "out_channels"):
            return encoder
    raise Misuse(
        f"{model.identity.label} has no image encoder of segmentation_models_pytorch to export: "
        "give the run folder of a method that trains one"
    )


def architecture_of(model: Model) -> tuple[str, dict[str, Any]]:
    """timm's name of the encoder, and its options; Misuse for an encoder that timm cannot build."""
    image = _image_settings(model)
    name = str(image["encoder"])
    if name.startswith(TIMM_PREFIX):
        return name.removeprefix(TIMM_PREFIX), dict(image.get("options") or {})
    if not _RESNET.fullmatch(name):
        raise Misuse(
            f"the image encoder {name!r} is smp's own and has other keys in timm and torchvision: "
            "export with --to smp or --to hf"
        )
    return name, {}


def timm_network(model: Model) -> Any:
    """The encoder as timm's network without classifier, with the trained weights.

    Raises Misuse for an encoder that is cut off (`model.image.depth`), since timm's network has
    layers that were not trained.
    """
    name, options = architecture_of(model)
    network = timm.create_model(name, pretrained=False, num_classes=0, **options).eval()
    state = encoder_state(model)
    if missing := [key for key in network.state_dict() if key not in state]:
        depth = _image_settings(model)["depth"]
        raise Misuse(
            f"the image encoder {name!r} was trained to depth {depth}, that is to stride "
            f"{2**depth}; the whole network also has {len(missing)} tensors such as {missing[0]}: "
            "export with --to smp or --to hf, which keep the depth"
        )
    network.load_state_dict({key: state[key] for key in network.state_dict()})
    return network


def encoder_state(model: Model) -> State:
    """The encoder's weights on the CPU, with the keys of timm or torchvision."""
    return {
        key.removeprefix(INNER_PREFIX): value.detach().cpu().contiguous()
        for key, value in encoder_of(model).state_dict().items()
    }


def _image_settings(model: Model) -> dict[str, Any]:
    encoder_of(model)
    towers: Any = model.towers
    settings: dict[str, Any] = towers.architecture["image"]
    return settings
