"""REFERS, ECAMP and PTUnifier beside the originals, and beside their stored outputs.

The originals' folders: G2DBENCH_ORIGINAL_REFERS, G2DBENCH_ORIGINAL_ECAMP and
G2DBENCH_ORIGINAL_PTUNIFIER.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support.models import golden
from support.models.encoder_releases import make_vit_release, write_state
from support.models.small_baselines import load
from support.originals import seeded, vit_encoders
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from g2dbench.errors import BadCheckpoint
from g2dbench.preprocess import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD

pytestmark = pytest.mark.integration

torch.set_num_threads(1)

SIDES = {"refers": 224, "ecamp": 224, "ptunifier": 384}
NOTES = {
    "refers": "funnyzhou/REFERS df7e83e, Fine-tune/NIH_ChestX-ray, smaller",
    "ecamp": "ToniChopp/ECAMP d02d16d, fine-tuning and pre-training classes, smaller",
    "ptunifier": "zhjohnchan/PTUnifier eee60eb, clip_model.py, smaller, positions of 288 pixels",
}
INPUTS: dict[str, tuple[InterpolationMode, Any, Any]] = {
    "refers": (InterpolationMode.BILINEAR, IMAGENET_MEAN, IMAGENET_STD),
    "ecamp": (InterpolationMode.BILINEAR, [0.4722], [0.3028]),
    "ptunifier": (InterpolationMode.BICUBIC, CLIP_MEAN, CLIP_STD),
}
"""As in utils/data_utils.py of REFERS and ECAMP, and clip_transform of PTUnifier."""


@torch.no_grad()
def outputs(name: str, model: Any) -> dict[str, torch.Tensor]:
    images = golden.seeded_images(SIDES[name])
    return {
        "pooled": model.pooled(images),
        "patches": model.features(images)[0].flatten(2).transpose(1, 2),
    }


@pytest.mark.parametrize("name", SIDES)
def test_outputs_are_the_stored_ones_of_the_original(name: str, tmp_path: Path) -> None:
    golden.check_golden(name, outputs(name, load(name, make_vit_release(name, tmp_path))))


@torch.no_grad()
@pytest.mark.parametrize("name", SIDES)
def test_the_original_beside_it_agrees(name: str, tmp_path: Path) -> None:
    original = getattr(vit_encoders, name)
    shapes, theirs = original(golden.original(name.upper()), golden.seeded_images(SIDES[name]))
    golden.check_live(name, shapes, theirs, NOTES[name])
    golden.same(outputs(name, load(name, make_vit_release(name, tmp_path))), theirs)


@pytest.mark.parametrize("name", SIDES)
def test_inputs_are_those_of_the_original(name: str, tmp_path: Path) -> None:
    model = load(name, make_vit_release(name, tmp_path))
    resampling, mean, std = INPUTS[name]
    prepare = transforms.Compose(
        [
            transforms.Resize(SIDES[name], interpolation=resampling),
            transforms.CenterCrop(SIDES[name]),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    for image in seeded.radiographs():
        wanted = prepare(Image.fromarray(image).convert("RGB"))
        assert torch.allclose(model.preprocess(image), wanted, atol=1e-5)


@pytest.mark.parametrize("name", SIDES)
def test_prefixes_halves_and_cut_files(name: str, tmp_path: Path) -> None:
    model = load(name, make_vit_release(name, tmp_path))
    state = golden.seeded_state(golden.read(name)["shapes"])
    wrapped = {f"model._orig_mod.{key}": value for key, value in state.items()}
    again = load(name, write_state(tmp_path / "w.pth", wrapped, "state_dict"))
    assert again.identity.digest == model.identity.digest
    half = {key: value.half() for key, value in state.items()}
    load(name, write_state(tmp_path / "h.pth", half, ""))
    unused = ("decoder", "bert", "super_res", "vision_encoder.ln_final")
    del state[next(k for k in reversed(state) if k.endswith("bias") and not k.startswith(unused))]
    with pytest.raises(BadCheckpoint, match="missing 1 "):
        load(name, write_state(tmp_path / "c.pth", state, ""))
    with pytest.raises(BadCheckpoint, match=r"no key that ends in|no vision transformer"):
        load(name, write_state(tmp_path / "o.pth", {"fc.weight": torch.ones(2)}, ""))


def test_refers_of_a_pre_training_checkpoint_is_the_same_model(tmp_path: Path) -> None:
    state = golden.seeded_state(golden.read("refers")["shapes"])
    nested = {f"visual.vit.{key}": value for key, value in state.items()}
    text = {"textual.embedding.words.weight": torch.ones(3, 3)}
    whole = load("refers", write_state(tmp_path / "p.pth", nested | text, "model"))
    plain = load("refers", make_vit_release("refers", tmp_path))
    assert whole.identity.digest == plain.identity.digest
    del nested["visual.vit.transformer.encoder.layer.1.attn.key.weight"]
    with pytest.raises(BadCheckpoint, match=r"missing 1 \(blocks\.1\.attn\.qkv\.weight\)"):
        load("refers", write_state(tmp_path / "c.pth", nested, "model"))
