"""The wrapper of OpenCLIP gives the outputs of the library, and names what is broken."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
import safetensors.torch
import timm
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from support.models.factories import WHOLE
from support.models.small_baselines import (
    TEXTS,
    VIT,
    inputs,
    load,
    make_open_clip,
    make_open_clip_bert,
    pixel_gap,
)
from torch import nn
from transformers import (
    AutoTokenizer,
)

from g2dbench.errors import BadCheckpoint, Unsupported
from g2dbench.pretrained.open_clip import _timm_grid

pytestmark = pytest.mark.integration

torch.set_num_threads(1)


@torch.no_grad()
@pytest.mark.parametrize("kind", [*WHOLE, "bert"])
def test_open_clip_equals_the_library(kind: str, sources: Callable[[str], object]) -> None:
    folder = Path(str(sources(f"open_clip-{kind}")))
    model: Any = load("open_clip", folder)
    if kind == "bert":
        reference = model.clip.__class__(**_local(folder)).eval()
        reference.load_state_dict(
            safetensors.torch.load_file(folder / "open_clip_model.safetensors"), strict=False
        )
    else:
        reference = open_clip.create_model(f"local-dir:{folder}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
    images = inputs(model)
    for ours, theirs in (
        (model.embed_images(images), reference.encode_image(images, normalize=True)),
        (model.embed_texts(TEXTS), reference.encode_text(tokens, normalize=True)),
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def _local(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    config["text_cfg"] |= {"hf_model_name": str(folder), "hf_model_pretrained": False}
    return config


@pytest.mark.parametrize("shape", [(96, 96), (64, 128), (300, 150), (40, 40)])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "resize_mode": "squash"},
        {"resize_mode": "longest"},
    ],
    ids=["clip", "squash", "longest"],
)
def test_open_clip_prepares_images_as_the_library_does(
    tmp_path: Path, settings: dict[str, Any], shape: tuple[int, int]
) -> None:
    model = load("open_clip", make_open_clip(tmp_path / "m", **settings))
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    transform = image_transform_v2(PreprocessCfg(**{"size": 64, **settings}), is_train=False)
    assert pixel_gap(model, image, transform(Image.fromarray(image))) <= 1.001


@torch.no_grad()
def test_a_map_of_one_patch_is_the_embedding_where_pooling_allows_it(tmp_path: Path) -> None:
    """An average pool of one patch is that patch: the map must be the image's own cosine."""
    model: Any = load("open_clip", make_open_clip(tmp_path / "m", "one_patch"))
    images = inputs(model)
    wanted = model.embed_images(images) @ model.embed_texts(TEXTS).T
    torch.testing.assert_close(model.locate(images, TEXTS)[..., 0, 0], wanted)


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_resnet", "swin_tiny_patch4_window7_224"])
def test_the_mean_of_the_cells_of_an_average_pool_is_the_embedding(name: str) -> None:
    """Maps of convolutional trunks, and of those that keep their channels last."""
    small = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}
    options = small if name.startswith("swin") else {}
    visual = SimpleNamespace(trunk=timm.create_model(name, **options).eval(), head=nn.Sequential())
    images = torch.randn(2, 3, 224, 224)
    grid = _timm_grid(visual, images)
    assert grid.shape[2:] == (7, 7)
    torch.testing.assert_close(grid.mean((2, 3)), visual.trunk(images), atol=1e-5, rtol=1e-4)


def test_attention_pooling_with_positions_does_not_locate(tmp_path: Path) -> None:
    model: Any = load("open_clip", make_open_clip(tmp_path / "m", "learned_positions"))
    with pytest.raises(Unsupported, match="learned positions"):
        model.locate(inputs(model), TEXTS)


def test_a_broken_open_clip_folder_is_named(tmp_path: Path) -> None:
    folder = make_open_clip(tmp_path / "m")
    weights, config = folder / "open_clip_pytorch_model.bin", folder / "open_clip_config.json"
    good = json.loads(config.read_text())

    def refused(words: str) -> None:
        with pytest.raises(BadCheckpoint, match=words):
            load("open_clip", folder)

    for change in ({"vision_cfg": {**VIT, "layers": 3}}, {"embed_dim": 8}):
        config.write_text(json.dumps({**good, "model_cfg": good["model_cfg"] | change}))
        refused(r"open_clip_pytorch_model\.bin does not fit CLIP")
    for broken in (
        {},
        {"model_cfg": {}},
        {"model_cfg": {**good["model_cfg"], "vision_cfg": {"timm_model_name": "no"}}},
    ):
        config.write_text(json.dumps(broken))
        refused("cannot build the model of")
    config.write_text("{")
    refused("not readable JSON")
    config.write_text(json.dumps(good))
    weights.write_bytes(weights.read_bytes()[:1000])
    refused("cut short or broken")
    weights.unlink()
    refused("has no weights")


def test_a_text_encoder_without_its_configuration_says_how_to_get_it(tmp_path: Path) -> None:
    folder = make_open_clip_bert(tmp_path / "m")
    (folder / "config.json").unlink()
    with pytest.raises(BadCheckpoint, match=r"hf download nobody/bert config\.json --local-dir"):
        load("open_clip", folder)


def test_code_in_a_folder_is_not_executed(tmp_path: Path) -> None:
    folder, marker = make_open_clip_bert(tmp_path / "m"), tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Evil: pass\n")
    automap = {"AutoTokenizer": ["evil.Evil", "evil.Evil"], "AutoConfig": "evil.Evil"}
    file = folder / "open_clip_config.json"
    config = json.loads(file.read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    file.write_text(json.dumps(config))
    for name, change in (
        ("tokenizer_config.json", {"tokenizer_class": "Evil"}),
        ("config.json", {"model_type": "evil"}),
    ):
        part = folder / name
        part.write_text(json.dumps(json.loads(part.read_text()) | {"auto_map": automap} | change))
        with contextlib.suppress(BadCheckpoint):
            load("open_clip", folder)
        assert not marker.exists()
    with contextlib.suppress(Exception):
        AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    assert marker.exists(), (
        "transformers does not run the folder's code: the test above shows nothing"
    )
