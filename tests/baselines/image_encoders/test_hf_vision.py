"""The wrappers of ViT, DINOv2, DINOv3, RAD-DINO and XrayDINO give the outputs of transformers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from support.models.golden import same
from support.models.small_baselines import inputs, load, pixel_gap, random_weights
from support.models.small_encoders import KINDS, DINOv3ViTImageProcessor, build, make_vision
from transformers import BitImageProcessor, Dinov2Config, ViTImageProcessor

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint
from g2dbench.registry import Registry

pytestmark = pytest.mark.integration

torch.set_num_threads(1)

PROCESSORS = {"vit": ViTImageProcessor, "dinov3_vit": DINOv3ViTImageProcessor}


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    model: Any = load("hf_vit", make_vision(tmp_path / "m", kind))
    reference = build(kind)
    images = inputs(model)
    states = getattr(reference, "vit", reference)(pixel_values=images).last_hidden_state
    skipped = {"dinov2_with_registers": 5, "dinov3_vit": 5}.get(kind, 1)
    patches = states[:, skipped:]
    side = int(patches.shape[1] ** 0.5)
    grid = patches.transpose(1, 2).unflatten(2, (side, side))
    same(
        {"pooled": model.pooled(images), "map": model.tokens(images)[1]},
        {"pooled": states[:, 0], "map": patches},
    )
    assert model.features(images)[0].shape == (3, 32, *grid.shape[2:])


@pytest.mark.parametrize("shape", [(96, 96), (128, 256), (300, 150)])
@pytest.mark.parametrize("kind", ["vit", "dinov2", "dinov3_vit"])
def test_images_are_prepared_as_transformers_does(
    tmp_path: Path, kind: str, shape: tuple[int, int]
) -> None:
    folder = make_vision(tmp_path / "m", kind)
    processor = PROCESSORS.get(kind, BitImageProcessor).from_pretrained(folder)
    image = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    picture = Image.fromarray(image).convert("RGB")
    wanted = processor(picture, return_tensors="pt")["pixel_values"][0]
    assert pixel_gap(load("hf_vit", folder), image, wanted) <= 2.001


def test_a_folder_of_another_kind_or_without_a_layer_is_refused(tmp_path: Path) -> None:
    folder = make_vision(tmp_path / "m", "dinov3_vit")
    with pytest.raises(BadCheckpoint, match="'dinov3_vit' model; rad-dino reads dinov2"):
        load("rad-dino", folder)
    weights = folder / "model.safetensors"
    state = safetensors.torch.load_file(weights)
    lost = next(key for key in state if key.endswith("k_proj.weight"))
    del state[lost]
    safetensors.torch.save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(BadCheckpoint, match="do not match DINOv3ViTModel: 1 missing"):
        load("hf_vit", folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "resnet"}))
    with pytest.raises(BadCheckpoint, match="'resnet' model"):
        load("hf_vit", folder)


@torch.no_grad()
@pytest.mark.parametrize("card", ["rad-dino", "xraydino"])
def test_the_folders_of_rad_dino_and_xraydino_are_read(tmp_path: Path, card: str) -> None:
    size = 518 if card == "rad-dino" else 70
    folder = make_vision(tmp_path / "m", "dinov2", image_size=size)
    model: Any = load(card, folder)
    assert model.preprocess.size == (518 if card == "rad-dino" else 56)
    images = inputs(model)
    state = build("dinov2", image_size=size)
    wanted = state(pixel_values=images).last_hidden_state
    same({"pooled": model.pooled(images)}, {"pooled": wanted[:, 0]})
    assert model.card.name == card


def test_rad_dino_prepares_images_as_its_image_processor_does() -> None:
    """The settings of microsoft/rad-dino's preprocessor_config.json."""
    processor = BitImageProcessor(
        size={"shortest_edge": 518}, crop_size={"height": 518, "width": 518},
        image_mean=[0.5307] * 3, image_std=[0.2583] * 3,
    )  # fmt: skip
    image = np.random.default_rng(5).integers(0, 256, (700, 600), dtype=np.uint8)
    wanted = processor(Image.fromarray(image).convert("RGB"), return_tensors="pt")
    module = Registry().find(ModelCard, "rad-dino").load()
    std = torch.tensor(module.PREPROCESS.std).view(3, 1, 1)
    gap = ((module.PREPROCESS(image) - wanted["pixel_values"][0]).abs() * std * 255).max()
    assert gap <= 2.001


@torch.no_grad()
def test_the_original_key_names_of_dinov2_give_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """timm's DINOv2 has the names of facebookresearch/dinov2, so it is an independent reference."""
    reference = random_weights(
        lambda: timm.create_model(
            "vit_base_patch14_dinov2", img_size=518, embed_dim=32, depth=2, num_heads=2
        )
    )
    state = {key: value.contiguous() for key, value in reference.state_dict().items()}
    state["mask_token"] = torch.zeros(1, 32)
    file = tmp_path / "backbone_compatible.safetensors"
    safetensors.torch.save_file(state, file)
    module = Registry().find(ModelCard, "rad-dino").load()
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    monkeypatch.setattr(module, "Dinov2Config", lambda **k: Dinov2Config(**k, **small))
    model = module.load(str(file), 0)
    images = torch.randn(1, 3, 518, 518)
    tokens = reference.forward_features(images)
    same(
        dict(zip(("pooled", "patches"), model.tokens(images), strict=True)),
        {"pooled": tokens[:, 0], "patches": tokens[:, 1:]},
    )
    assert model.identity.label == "rad-dino:backbone_compatible.safetensors"
