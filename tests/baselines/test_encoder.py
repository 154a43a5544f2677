"""The wrapper of timm encoders gives the outputs of timm and torchvision."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from PIL import Image
from support.models.small_baselines import inputs, load, make_encoder, pixel_gap, random_weights

from g2dbench.errors import BadCheckpoint, Misuse

pytestmark = pytest.mark.integration

torch.set_num_threads(1)


@torch.no_grad()
@pytest.mark.parametrize(
    "wrap", [None, "state_dict", "module."], ids=["bare", "nested", "prefixed"]
)
def test_an_encoder_of_torchvision_equals_torchvision(tmp_path: Path, wrap: str | None) -> None:
    reference = random_weights(lambda: torchvision.models.resnet18(weights=None))
    content: dict[str, Any] = reference.state_dict()
    if wrap == "state_dict":
        content = {"state_dict": content, "epoch": 3}
    elif wrap is not None:
        content = {f"{wrap}{key}": value for key, value in content.items()}
    torch.save(content, tmp_path / "r18.pth")
    model: Any = load("encoder", f"resnet18@{tmp_path / 'r18.pth'}")
    assert model.strides == (2, 4, 8, 16, 32)
    assert model.identity.label == "encoder:resnet18@r18.pth"
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(reference.fc(model.pooled(images)), reference(images))
    maps = model.features(images)
    torch.testing.assert_close(maps[-1].mean((2, 3)), model.pooled(images))
    torch.testing.assert_close(maps[0], reference.relu(reference.bn1(reference.conv1(images))))


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet"])
def test_an_encoder_of_timm_equals_timm(tmp_path: Path, name: str) -> None:
    model: Any = load("encoder", make_encoder(tmp_path, name))
    reference = timm.create_model(name).eval()
    reference.load_state_dict(safetensors.torch.load_file(tmp_path / f"{name}.safetensors"))
    images = inputs(model)
    features = reference.forward_features(images)
    pooled = reference.forward_head(features, pre_logits=True)
    torch.testing.assert_close(model.pooled(images), pooled)
    if name == "test_vit":
        patches = features[:, reference.num_prefix_tokens :].transpose(1, 2)
        torch.testing.assert_close(model.features(images)[-1].flatten(2), patches)
    elif name == "test_convnext":
        torch.testing.assert_close(model.features(images)[-1], features)


@pytest.mark.parametrize("shape", [(256, 256), (300, 600)])
def test_an_encoder_prepares_images_as_timm_does(tmp_path: Path, shape: tuple[int, int]) -> None:
    source = make_encoder(tmp_path, "test_resnet")
    model: Any = load("encoder", source)
    config = timm.data.resolve_data_config(model=model.trunk)
    image = np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)
    wanted = timm.data.create_transform(**config)(Image.fromarray(image).convert("RGB"))
    assert pixel_gap(model, image, wanted) <= 1.001


def test_an_encoders_source_and_file_are_checked(tmp_path: Path) -> None:
    source = make_encoder(tmp_path, "test_resnet")
    for wrong in ("resnet50", "@f.pth", "resnet50@"):
        with pytest.raises(Misuse, match="encoder:ARCH@FILE"):
            load("encoder", wrong)
    with pytest.raises(Misuse, match="did you mean 'resnet50'"):
        load("encoder", f"resnet5O@{tmp_path / 'f.pth'}")
    with pytest.raises(BadCheckpoint, match="does not fit"):
        load("encoder", source.replace("test_resnet@", "test_vit@"))
    state = safetensors.torch.load_file(source.partition("@")[2])
    twice = {f"{who}.{key}": value for who in ("query", "key") for key, value in state.items()}
    torch.save(twice, tmp_path / "moco.pth")
    with pytest.raises(
        BadCheckpoint, match=r"2 times, under .*: choose one, as .*moco\.pth#(query|key)\."
    ):
        load("encoder", f"test_resnet@{tmp_path / 'moco.pth'}")


@torch.no_grad()
def test_a_prefix_selects_an_encoder_among_heads_and_copies(tmp_path: Path) -> None:
    state = safetensors.torch.load_file(make_encoder(tmp_path, "test_resnet").partition("@")[2])
    other = {key: value + 1 if value.is_floating_point() else value for key, value in state.items()}
    content = {f"model.img_encoder.{key}": value for key, value in state.items()}
    content |= {f"model.img_encoder_m.{key}": value for key, value in other.items()}
    content["model.img_encoder.fc_norm.weight"] = torch.ones(3)
    content["model.text.weight"] = torch.ones(3)
    torch.save({"state_dict": content}, tmp_path / "run.ckpt")
    source = f"test_resnet@{tmp_path / 'run.ckpt'}"
    plain: Any = load("encoder", f"test_resnet@{tmp_path / 'test_resnet.safetensors'}")
    images = inputs(plain)
    for prefix in ("img_encoder.", "model.img_encoder."):
        model: Any = load("encoder", f"{source}#{prefix}")
        torch.testing.assert_close(model.pooled(images), plain.pooled(images))
        assert model.identity.label == f"encoder:test_resnet@run.ckpt#{prefix}"
    copy: Any = load("encoder", f"{source}#img_encoder_m.")
    assert not torch.allclose(copy.pooled(images), plain.pooled(images))
    with pytest.raises(BadCheckpoint, match=r"no key with the prefix 'image\.'.*img_encoder_m"):
        load("encoder", f"{source}#image.")
    with pytest.raises(BadCheckpoint, match=r"does not fit"):
        load("encoder", f"{source}#model.")


def test_a_file_whose_name_has_the_mark_of_a_prefix_is_read(tmp_path: Path) -> None:
    make_encoder(tmp_path, "test_resnet")
    file = (tmp_path / "test_resnet.safetensors").rename(tmp_path / "a#b.safetensors")
    assert load("encoder", f"test_resnet@{file}").identity.label.endswith("@a#b.safetensors")
