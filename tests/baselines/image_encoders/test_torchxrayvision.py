"""TorchXRayVision's wrapper beside the original, and beside its stored outputs."""

import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from support.models import golden
from support.models.image_encoders.torchxrayvision import ALL, RESNET, SMALL, write, write_resnet
from support.models.small_baselines import load

from g2dbench.errors import BadCheckpoint, Unsupported

pytestmark = pytest.mark.integration

torch.set_num_threads(1)

NOTE = "mlmed/torchxrayvision f4087a0, models.py; downloads and scikit-image replaced by stand-ins"
ASKED = ["Edema", "Pleural Effusion", "Lung Opacity"]
COLUMNS = [4, 7, 16]


@torch.no_grad()
def outputs(model: Any) -> dict[str, torch.Tensor]:
    images = golden.seeded_images(96, channels=1) * 300
    return {
        "pooled": model.pooled(images),
        "map": model.features(images)[-1],
        "match": model.match(images, ASKED),
    }


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_densenet_gives_the_stored_outputs(tmp_path: Path, zipped: bool) -> None:
    model = load("torchxrayvision", write(tmp_path, zipped=zipped))
    golden.check_golden("xrv_dense", outputs(model))


def test_the_resnet_gives_the_stored_outputs(tmp_path: Path) -> None:
    model = load("torchxrayvision", write_resnet(tmp_path))
    assert model.preprocess.size == 512
    golden.check_golden("xrv_resnet", outputs(model))


def original_models() -> Any:
    import torchxrayvision.models

    return torchxrayvision.models


def stand_ins() -> dict[str, Any]:
    package = types.ModuleType("torchxrayvision")
    package.__path__ = [str(golden.original("XRV") / "torchxrayvision")]
    sets = types.ModuleType("torchxrayvision.datasets")
    sets.default_pathologies = list(range(18))
    utils = types.ModuleType("torchxrayvision.utils")
    utils.fix_resolution = lambda x, size, model: x
    utils.warn_normalization = lambda x: None
    package.datasets, package.utils = sets, utils
    return {
        "torchxrayvision": package, "torchxrayvision.datasets": sets,
        "torchxrayvision.utils": utils, "requests": types.ModuleType("requests"),
    }  # fmt: skip


@torch.no_grad()
def test_the_densenet_gives_the_outputs_of_the_original(tmp_path: Path) -> None:
    with golden.importable(golden.original("XRV"), **stand_ins()):
        network = original_models().DenseNet(**SMALL)
        golden.fill(network)
        shapes = {key: tuple(v.shape) for key, v in network.state_dict().items()}
        images = golden.seeded_images(96, channels=1) * 300
        theirs = {
            "pooled": network.features2(images),
            "map": network.features(images),
            "match": network(images).sigmoid()[:, COLUMNS],
        }
        golden.check_live("xrv_dense", shapes, theirs, NOTE)
        torch.save(network, tmp_path / ALL)
    golden.same(outputs(load("torchxrayvision", tmp_path / ALL)), theirs)


@torch.no_grad()
def test_the_resnet_gives_the_outputs_of_the_original(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resnet = torchvision.models.resnet50
    with golden.importable(golden.original("XRV"), **stand_ins()):
        code = original_models()
        monkeypatch.setattr(
            "torchvision.models.resnet50",
            lambda num_classes=1000, pretrained=False, weights=None: resnet(
                num_classes=num_classes
            ),
        )
        monkeypatch.setattr(code, "get_weights", lambda name, cache_dir: tmp_path / RESNET)
        blank = resnet(num_classes=18)
        blank.conv1 = torch.nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        shapes = {key: tuple(v.shape) for key, v in blank.state_dict().items()}
        torch.save(golden.seeded_state(shapes), tmp_path / RESNET)
        network = code.ResNet(weights="resnet50-res512-all", apply_sigmoid=True)
        network.op_threshs = None
        images = golden.seeded_images(96, channels=1) * 300
        maps: list[torch.Tensor] = []
        network.model.layer4.register_forward_hook(lambda *call: maps.append(call[-1]))
        theirs = {"pooled": network.features(images), "map": maps[0]}
        theirs["match"] = network(images)[:, COLUMNS]
    golden.check_live("xrv_resnet", shapes, theirs, NOTE)
    golden.same(outputs(load("torchxrayvision", tmp_path / RESNET)), theirs)


def test_inputs_run_from_minus_1024_to_1024(tmp_path: Path) -> None:
    model = load("torchxrayvision", write(tmp_path))
    ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    prepared = model.preprocess(np.kron(ramp, np.ones((4, 4), np.uint8)))
    assert prepared.shape == (1, 224, 224)
    assert -1024 <= prepared.min() < -1010
    assert 1010 < prepared.max() <= 1024


def test_an_untrained_output_is_never_given(tmp_path: Path) -> None:
    model: Any = load("torchxrayvision", write(tmp_path, "kaggle-densenet121-best.pt"))
    images = torch.zeros(1, 1, 64, 64)
    assert model.match(images, ["Pneumonia", "lung_opacity"]).shape == (1, 2)
    with pytest.raises(Unsupported, match=r"no trained output for 'Edema'; it has pneumonia, lung"):
        model.match(images, ["Pneumonia", "Edema"])
    with pytest.raises(BadCheckpoint, match="must start as published"):
        load("torchxrayvision", write(tmp_path, "best.pt"))
