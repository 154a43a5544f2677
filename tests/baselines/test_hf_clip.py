"""The wrapper of CLIP and SigLIP gives the outputs of transformers."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from support.models.small_baselines import (
    TEXTS,
    inputs,
    load,
    make_hf_clip,
    make_hf_siglip,
    pixel_gap,
)
from transformers import (
    CLIPImageProcessor,
    CLIPModel,
    SiglipImageProcessor,
    SiglipModel,
)

from g2dbench.errors import BadCheckpoint

pytestmark = pytest.mark.integration

torch.set_num_threads(1)


@torch.no_grad()
@pytest.mark.parametrize(("case", "kind"), [("hf-clip", CLIPModel), ("hf-siglip", SiglipModel)])
def test_hf_clip_equals_transformers(
    case: str, kind: Any, sources: Callable[[str], object]
) -> None:
    folder = sources(case)
    model: Any = load("hf_clip", folder)
    reference = kind.from_pretrained(folder).eval()
    images = inputs(model)
    padding, length = (True, 14) if case == "hf-clip" else ("max_length", 9)
    tokens = model.tokenizer(
        TEXTS, return_tensors="pt", padding=padding, truncation=True, max_length=length
    )
    tokens = {
        k: tokens[k] for k in ("input_ids", *(["attention_mask"] if case == "hf-clip" else []))
    }
    output = reference(pixel_values=images, **tokens)
    torch.testing.assert_close(model.embed_images(images), output.image_embeds, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.embed_texts(TEXTS), output.text_embeds, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(96, 96), (128, 256), (300, 150), (40, 40)])
@pytest.mark.parametrize("case", ["hf-clip", "hf-siglip"])
def test_hf_clip_prepares_images_as_transformers_does(
    case: str, shape: tuple[int, int], sources: Callable[[str], object]
) -> None:
    folder = sources(case)
    processor = (CLIPImageProcessor if case == "hf-clip" else SiglipImageProcessor).from_pretrained(
        folder
    )
    image = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    wanted = processor(Image.fromarray(image).convert("RGB"), return_tensors="pt")["pixel_values"][
        0
    ]
    assert pixel_gap(load("hf_clip", folder), image, wanted) <= 1.001


def test_an_image_processor_is_read_in_every_form_it_was_written(tmp_path: Path) -> None:
    folder = make_hf_clip(tmp_path / "m")
    file = folder / "preprocessor_config.json"
    settings = json.loads(file.read_text())
    wanted = load("hf_clip", folder).preprocess
    file.write_text(json.dumps(settings | {"size": 64, "crop_size": 64}))
    assert load("hf_clip", folder).preprocess == wanted
    file.unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": settings}))
    assert load("hf_clip", folder).preprocess == wanted


@pytest.mark.parametrize(
    "change",
    [
        {"do_resize": False},
        {"resample": 1},
        {"rescale_factor": 1.0},
        {"crop_size": {"height": 48, "width": 48}},
        {"crop_size": {"height": 64, "width": 32}},
        {"do_normalize": False},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_unknown_image_processor_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = make_hf_clip(tmp_path / "m")
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(BadCheckpoint, match="preprocessor_config"):
        load("hf_clip", folder)


def test_a_broken_hf_folder_is_named(tmp_path: Path) -> None:
    folder = make_hf_siglip(tmp_path / "m")
    weights = folder / "model.safetensors"
    state = safetensors.torch.load_file(weights)

    def refused(words: str) -> None:
        with pytest.raises(BadCheckpoint, match=words):
            load("hf_clip", folder)

    name = "vision_model.head.probe"
    for changed in (
        {k: v for k, v in state.items() if k != name},
        state | {name: torch.zeros(1, 1, 3)},
        state | {"adapter.weight": torch.zeros(1)},
    ):
        safetensors.torch.save_file(changed, weights, metadata={"format": "pt"})
        refused("do not match SiglipModel: 1")
    weights.write_bytes(b"junk")
    refused("transformers cannot load SiglipModel")
    weights.unlink()
    refused("transformers cannot load SiglipModel")
    (folder / "config.json").write_text('{"model_type": "bert"}')
    refused("'bert' model; hf_clip reads clip and siglip")


def test_a_pickled_hf_checkpoint_is_not_executed(tmp_path: Path) -> None:
    folder, marker = make_hf_clip(tmp_path / "m"), tmp_path / "ran"

    class Attack:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {marker}",)

    (folder / "model.safetensors").unlink()
    torch.save({"logit_scale": Attack()}, folder / "pytorch_model.bin")
    with pytest.raises(BadCheckpoint):
        load("hf_clip", folder)
    assert not marker.exists()
