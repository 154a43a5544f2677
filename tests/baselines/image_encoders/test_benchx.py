"""BenchX's checkpoints beside its own encoders (G2DBENCH_ORIGINAL_BENCHX), and stored outputs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.models import golden
from support.models.encoder_releases import BENCHX, benchx_state, make_benchx, write_state
from support.models.small_baselines import load
from support.originals import benchx

from g2dbench.errors import BadCheckpoint

pytestmark = pytest.mark.integration

torch.set_num_threads(1)

NOTE = (
    f"{benchx.COMMIT}, VisualEncoder and REFERSViT with smaller transformers, pooled as by "
    "ImageClassifier; tests/support/originals/benchx.py tells what is patched"
)

FAST = ("medclip-swin", "mgca-vit", "mrm", "refers", "ptunifier")
"""Methods whose encoder is small here; a ResNet-50 has one size."""


@torch.no_grad()
def outputs(model: Any, name: str) -> dict[str, torch.Tensor]:
    images = golden.seeded_images(benchx.SIDES.get(name, 224))
    return {"pooled": model.pooled(images)}


@pytest.mark.parametrize("method", BENCHX)
def test_outputs_are_the_stored_ones_of_the_original(tmp_path: Path, method: str) -> None:
    name = BENCHX[method][0]
    model = load("benchx", make_benchx(tmp_path, method))
    assert model.identity.label == f"benchx-{method}"
    assert ("chexpert" in model.card.trained_on) == method.startswith("medclip")
    golden.check_golden(f"benchx_{name}", outputs(model, name))


@pytest.mark.parametrize("method", ["medklip", *FAST])
def test_prefixes_of_training_scripts_do_not_matter(tmp_path: Path, method: str) -> None:
    state = benchx_state(method)
    plain = load("benchx", write_state(tmp_path / "a.pth", state, ""))
    wrapped = {f"_orig_mod.model.{key}": value for key, value in state.items()}
    again = load("benchx", write_state(tmp_path / "b.pth", wrapped, "state_dict"))
    assert plain.identity == again.identity


@pytest.mark.parametrize("method", ["mflag", *FAST])
def test_a_part_of_an_encoder_is_refused(tmp_path: Path, method: str) -> None:
    state = benchx_state(method)
    prefix = BENCHX[method][1] + ("visual." if method == "ptunifier" else "")
    del state[next(key for key in reversed(state) if key.startswith(prefix) and "bias" in key)]
    with pytest.raises(BadCheckpoint, match=r"missing 1|missing or malformed"):
        load("benchx", write_state(tmp_path / "cut.pth", state, ""))


def test_a_file_for_another_input_is_refused(tmp_path: Path) -> None:
    """The authors' PTUnifier has positions of 288 pixels."""
    state = benchx_state("ptunifier")
    key = "vision_encoder.visual.positional_embedding"
    state[key] = torch.ones(1 + 18 * 18, state[key].shape[1])
    with pytest.raises(BadCheckpoint, match="is for images of 288 pixels, not of 224"):
        load("benchx", write_state(tmp_path / "p.pth", state, "state_dict"))


def test_a_whole_resnet_is_not_taken_for_medklips(tmp_path: Path) -> None:
    state = benchx_state("medklip")
    state["module.res_features.7.0.conv1.weight"] = torch.ones(1)
    with pytest.raises(BadCheckpoint, match=r"unexpected 1 \(layer4\.0\.conv1\.weight\)"):
        load("benchx", write_state(tmp_path / "kad.pth", state, "model"))
    with pytest.raises(BadCheckpoint, match="is no file of BenchX"):
        load("benchx", write_state(tmp_path / "o.pth", {"fc.weight": torch.ones(1)}, ""))


@torch.no_grad()
@pytest.mark.parametrize("name", sorted({name for name, *_ in BENCHX.values()}))
def test_the_original_beside_it_agrees(name: str, tmp_path: Path) -> None:
    shapes, pooled = benchx.pooled(golden.original("BENCHX"), name, tmp_path)
    golden.check_live(f"benchx_{name}", shapes, {"pooled": pooled}, NOTE)
    method = next(m for m, (which, *_) in BENCHX.items() if which == name)
    model = load("benchx", make_benchx(tmp_path, method))
    golden.same(outputs(model, name), {"pooled": pooled})
