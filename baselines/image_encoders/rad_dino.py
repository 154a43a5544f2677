"""RAD-DINO: a DINOv2 ViT-B/14 on chest X-rays at 518 pixels (Perez-Garcia et al., 2025).

Shapes: B batch, S input side, C = 768. Source: huggingface.co/microsoft/rad-dino; the reference is
transformers' Dinov2Model. SOURCE is the hub repository or its folder, or the file
`backbone_compatible.safetensors` with the key names of the original DINOv2.

The image processor resizes the short side to 518 and crops the middle square: the margins of an
oblong image are not seen.
"""

import re
from pathlib import Path

import torch
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model

from g2dbench.cards import ModelCard
from g2dbench.model import Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.image.hf_vision import HFVision, load_vision
from g2dbench.pretrained.towers import names_as_built
from g2dbench.pretrained.weights import State, digest, find_state, load_state, read_weights

CARD = ModelCard(
    name="rad-dino",
    summary="RAD-DINO: a DINOv2 ViT-B/14 at 518 pixels on chest X-rays, without texts",
    paper="Perez-Garcia et al., Exploring Scalable Medical Image Encoders Beyond Text Supervision, "
    "Nature Machine Intelligence 2025",
    source="huggingface.co/microsoft/rad-dino",
    licence="MIT (microsoft/rad-dino); MSRLA (microsoft/rad-dino-maira-2)",
    capabilities=("features",),
    trained_on=("mimic_cxr", "nih_cxr14", "chexpert", "padchest"),
    source_kind="hub",
    files=("model.safetensors", "backbone_compatible.safetensors"),
    input_size=518,
    tested_with=("transformers 5.24",),
    openness="weights, list of training images (training_images.csv) and licence public",
    notes=(
        "training_images.csv in its repository lists every training image, so overlap with a test "
        "set can be computed exactly.",
        "The MAIRA-2 variant saw more data, some of it private.",
        "The middle square is cropped: pixels outside of it get no score in dense tasks.",
    ),
)

PREPROCESS = Preprocess(
    size=518, fit="crop", mean=(0.5307,) * 3, std=(0.2583,) * 3, resampling="bicubic"
)
_LAYER = re.compile(r"^blocks\.(\d+)\.")
_RENAMED = (
    ("patch_embed.proj.", "embeddings.patch_embeddings.projection."),
    ("pos_embed", "embeddings.position_embeddings"),
    ("cls_token", "embeddings.cls_token"),
    ("mask_token", "embeddings.mask_token"),
    (".attn.proj.", ".attention.o_proj."),
    (".ls1.gamma", ".layer_scale1.lambda1"),
    (".ls2.gamma", ".layer_scale2.lambda1"),
)
"""Original DINOv2's names -> transformers'."""


def load(source: str | None, seed: int) -> Model:
    """RAD-DINO from a hub id, its folder or the file named above; `seed` is unused.

    Raises Misuse for another SOURCE, BadCheckpoint for weights that do not fit.
    """
    file = Path(source or "").expanduser()
    if source is None or not file.is_file():
        return load_vision(source, CARD, ("dinov2",), PREPROCESS)
    network = Dinov2Model(Dinov2Config(image_size=518, patch_size=14)).eval()
    state = from_original(find_state(read_weights(file), file))
    load_state(network, names_as_built(network, state), file)
    model = HFVision(CARD, network, PREPROCESS)
    model.identity = Identity(f"{CARD.name}:{file.name}", digest(model))
    return model.eval()


def from_original(state: State) -> State:
    """The state_dict of facebookresearch/dinov2 with the names of transformers."""
    renamed: State = {}
    for key, value in state.items():
        name = _LAYER.sub(r"encoder.layer.\1.", key)
        name = re.sub(r"^norm\.", "layernorm.", name)
        for old, new in _RENAMED:
            name = name.replace(old, new)
        if ".attn.qkv." in name:
            renamed |= _split(name, value)
        else:
            # Early versions store the mask token as (1, 1, C) or (1, C).
            renamed[name] = value.reshape(1, -1) if name.endswith("mask_token") else value
    return renamed


def _split(name: str, value: Tensor) -> State:
    parts = torch.chunk(value, 3)
    return {
        name.replace(".attn.qkv.", f".attention.{which}_proj."): part
        for which, part in zip("qkv", parts, strict=True)
    }
