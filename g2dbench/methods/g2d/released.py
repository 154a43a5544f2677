"""Converts weights between the authors' released files and our G2D.

    NAME_encoder.pth          smp's encoder
    NAME_encoder_decoder.pth  smp's Unet: encoder, decoder, segmentation head
    NAME_N_checkpoint.pth     epoch, model_state_dict (class CNN_AE), optimizer_state_dict

Source: GitHub cheliu-computation/G2D-NeurIPS24 at 30364bd, models/cnn_ae.py and utils/trainer.py in
PRETRAIN. Their 1 x 1 convolutions are our linear layers, their packed attention weights our three.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from g2dbench.methods.g2d.model import G2D
from g2dbench.methods.g2d.settings import G2DSettings
from g2dbench.methods.shared.settings import read_settings
from g2dbench.pretrained.weights import State

Layout = Literal["encoder", "encoder_decoder", "checkpoint"]

_FROM_RELEASED = {
    "img_model.": "unet.",
    "lm_model.": "text.encoder.bert.",
    "proj_v.0.": "projector.first.",
    "proj_v.1.": "projector.norm.",
    "proj_v.3.": "projector.second.",
    "proj_t.0.": "text.projector.first.",
    "proj_t.1.": "text.projector.norm.",
    "proj_t.3.": "text.projector.second.",
    "attnpool.positional_embedding": "pool.positions",
    "attnpool.mhsa.out_proj.": "pool.out.0.",
    "attnpool.c_proj.": "pool.out.1.",
}
"""Prefixes in the released files -> our prefixes."""
_TO_RELEASED = {ours: theirs for theirs, ours in _FROM_RELEASED.items()}
_PACKED = {"attnpool.mhsa.in_proj_weight": "weight", "attnpool.mhsa.in_proj_bias": "bias"}
_PARTS = ("query", "key", "value")
_KERNEL = re.compile(r"proj_([vt])\.[03]\.weight")
_UNUSED = ("pseudo_conv.", "lm_model.pooler.")
"""The released code has these weights but does not use them."""
_BUFFER = re.compile(r"\.(running_mean|running_var|num_batches_tracked)$")
_MAX_TOKENS = 256
"""Maximum number of tokens of a report, in cnn_ae.py."""
_HEAD_WIDTH = 64
"""Width of a head in every BERT that Google published; a file does not hold it."""

_FIXED: dict[str, Any] = {
    "image.depth": 5,
    "image.options": {},
    "text.hidden": 768,
    "text.pool": "cls",
    "projector.norm": "batch",
    "contrastive.learned": False,
    "decoder.channels": (256, 128, 64, 32, 16),
    "attention.heads": 4,
    "attention.head_dim": 0,
    "attention.stride": 32,
    "attention.query": "mean",
    "attention.keys": "pixels+query",
    "attention.positions": "learned",
    "attention.logits": "dot",
    "attention.scale": 1.0,
}
"""Settings that are constants in the code of CNN_AE, so that a checkpoint cannot differ."""


def find_layout(state: Mapping[str, Tensor]) -> Layout:
    """The layout of a state_dict; "encoder" unless it has keys of another layout."""
    if any(key.startswith(("img_model.", "attnpool.")) for key in state):
        return "checkpoint"
    return "encoder_decoder" if "segmentation_head.0.weight" in state else "encoder"


def from_released(state: Mapping[str, Tensor]) -> State:
    """A released model_state_dict with the names of a `G2D` with attention.output "double".

    Unknown keys keep their names, so that `load_state` reports them.
    """
    found: State = {}
    for key, value in state.items():
        if key in _PACKED:
            parts = zip(_PARTS, torch.atleast_1d(value).chunk(3), strict=False)
            found |= {f"pool.{part}.{_PACKED[key]}": rows for part, rows in parts}
        elif not key.startswith(_UNUSED):
            kernel = _KERNEL.fullmatch(key) and value.ndim > 2
            found[_renamed(key, _FROM_RELEASED)] = value.flatten(1) if kernel else value
    return found


def to_released(g2d: G2D) -> State:
    """A method's weights as a model_state_dict of CNN_AE; see `unsupported_settings`.

    Weights that the released code has but does not use are 0: `pseudo_conv` and BERT's pooler.
    """
    ours = {key: value.detach().cpu() for key, value in g2d.state_dict().items()}
    return released_names(ours) | _unused_weights(g2d)


def released_names(ours: Mapping[str, Tensor]) -> State:
    """The inverse of `from_released`; a single output layer is followed by the identity."""
    found = {_renamed(key, _TO_RELEASED): value for key, value in ours.items()}
    for theirs, kind in _PACKED.items():
        found[theirs] = torch.cat([found.pop(f"pool.{part}.{kind}") for part in _PARTS])
    if "pool.out.weight" in found:
        width = len(found["pool.out.bias"])
        for kind in ("weight", "bias"):
            found[f"attnpool.mhsa.out_proj.{kind}"] = found.pop(f"pool.out.{kind}")
        found["attnpool.c_proj.weight"] = torch.eye(width)
        found["attnpool.c_proj.bias"] = torch.zeros(width)
    for key, value in found.items():
        if kernel := _KERNEL.fullmatch(key):
            found[key] = value[(...,) + (None,) * (2 if kernel[1] == "v" else 1)]
    return found


def unsupported_settings(g2d: G2D) -> list[str]:
    """The settings that CNN_AE does not support, as "attention.heads = 3 (there 4)"."""
    settings = read_settings(G2DSettings, g2d.architecture)
    found = {key: _at(settings, key) for key in _FIXED}
    return [
        f"{key} = {found[key]} (there {_FIXED[key]})" for key in _FIXED if found[key] != _FIXED[key]
    ]


def read_sizes(state: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """The parts of a `[model]` table that follow from the shapes of a checkpoint.

    BERT's heads are assumed to be 64 wide. Raises KeyError for a missing key, IndexError or
    TypeError for a tensor of the wrong rank.
    """
    words = state["lm_model.embeddings.word_embeddings.weight"]
    layers = {key.split(".")[3] for key in state if key.startswith("lm_model.encoder.layer.")}
    positions = state["attnpool.positional_embedding"]
    masks = len(state["img_model.segmentation_head.0.weight"])
    tokens = len(state["lm_model.embeddings.position_embeddings.weight"])
    text = {
        "layers": len(layers),
        "hidden": words.shape[-1],
        "heads": max(words.shape[-1] // _HEAD_WIDTH, 1),
        "feed_forward": len(state["lm_model.encoder.layer.0.intermediate.dense.weight"]),
        "positions": tokens,
        "max_length": min(tokens, _MAX_TOKENS),
    }
    return {
        "text": text,
        "image": {"size": 32 * round((len(positions) - 1) ** 0.5)},
        "projector": {"hidden": len(state["proj_v.0.weight"])},
        "mask": {"heads": "separate" if masks > 1 else "mean"},
    }


def count_parameters(state: Mapping[str, Tensor]) -> int:
    """Number of entries of a state_dict that are parameters, not buffers."""
    return sum(_BUFFER.search(key) is None for key in state)


def _unused_weights(g2d: G2D) -> State:
    text: Any = g2d.text
    width, hidden = text.projector.second.out_features, text.encoder.width
    shapes = {
        "pseudo_conv.weight": (width, g2d.channels[-2], 1, 1),
        "pseudo_conv.bias": (width,),
        "lm_model.pooler.dense.weight": (hidden, hidden),
        "lm_model.pooler.dense.bias": (hidden,),
    }
    return {key: torch.zeros(shape) for key, shape in shapes.items()}


def _renamed(key: str, prefixes: Mapping[str, str]) -> str:
    found = next((prefix for prefix in prefixes if key.startswith(prefix)), "")
    return prefixes[found] + key[len(found) :] if found else key


def _at(settings: G2DSettings, key: str) -> Any:
    part, name = key.split(".")
    return getattr(getattr(settings, part), name)
