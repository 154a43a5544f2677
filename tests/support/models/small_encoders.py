"""Small vision encoders in the formats of transformers."""

from pathlib import Path
from typing import Any

from transformers import (
    BitImageProcessor,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

try:
    from transformers import DINOv3ViTImageProcessor
except ImportError:  # its only name before transformers 5
    from transformers import DINOv3ViTImageProcessorFast as DINOv3ViTImageProcessor

from support.models.small_baselines import random_weights

SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}

KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "vit": (ViTForImageClassification, ViTConfig, {"image_size": 64, "intermediate_size": 48}),
    "dinov2": (Dinov2Model, Dinov2Config, {"image_size": 70, "patch_size": 14}),
    "dinov2_with_registers": (
        Dinov2WithRegistersModel,
        Dinov2WithRegistersConfig,
        {"image_size": 70, "patch_size": 14},
    ),
    "dinov3_vit": (
        DINOv3ViTModel,
        DINOv3ViTConfig,
        {"image_size": 64, "num_register_tokens": 4, "intermediate_size": 48},
    ),
}


def build(kind: str, **changes: Any) -> Any:
    """The original class of transformers with random weights."""
    model, config, options = KINDS[kind]
    return random_weights(lambda: model(config(**{**SIZES, **options, **changes})))


def make_vision(folder: Path, kind: str, **changes: Any) -> Path:
    """A folder of `save_pretrained`, with the image processor that such repositories have."""
    build(kind, **changes).save_pretrained(folder)
    if kind == "vit":
        ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    elif kind == "dinov3_vit":
        DINOv3ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    else:
        BitImageProcessor(
            size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56}
        ).save_pretrained(folder)
    return folder


def make_rad_dino(folder: Path) -> Path:
    """A DINOv2 with position embeddings for the size of RAD-DINO's images."""
    return make_vision(folder, "dinov2", image_size=518)
