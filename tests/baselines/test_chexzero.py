"""CheXzero: one file and the ensemble are different models; broken sources are refused."""

from pathlib import Path

import pytest
import torch
from support.models.small_baselines import load
from support.originals import chexzero, seeded

from g2dbench.errors import BadCheckpoint
from g2dbench.model import capabilities

pytestmark = pytest.mark.integration


@torch.no_grad()
def test_an_ensemble_averages_the_probabilities_of_its_files(tmp_path: Path) -> None:
    folder = chexzero.write_ensemble(tmp_path)
    ensemble = load("chexzero", folder)
    assert capabilities(ensemble) == ensemble.card.capabilities == ("matches",)
    assert ensemble.identity.label == "chexzero:ensemble-of-2"
    images = ensemble.preprocess.batch(seeded.radiographs())
    members = [load("chexzero", file) for file in sorted(folder.glob("*.pt"))]
    each = [member.probabilities(images, chexzero.FINDINGS) for member in members]
    assert not torch.allclose(each[0], each[1], atol=1e-3)
    found = ensemble.match(images, chexzero.FINDINGS)
    torch.testing.assert_close(found, (each[0] + each[1]) / 2)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["half", "module", "wrapped"])
def test_other_layouts_of_the_same_weights_are_read(tmp_path: Path, kind: str) -> None:
    plain = load("chexzero", chexzero.write(tmp_path / "plain"))
    state = chexzero.state()
    if kind == "half":
        state = {key: value.half() for key, value in state.items()}
    elif kind == "module":
        state = {f"module._orig_mod.{key}": value for key, value in state.items()}
    else:
        state = {f"model.{key}": value for key, value in state.items()}
        state["model.context_length"] = torch.tensor(77)
        state = {key.replace("model.context", "context"): v for key, v in state.items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "other.pt")
    other = load("chexzero", tmp_path / "other.pt")
    images = plain.preprocess.batch(seeded.radiographs())
    tolerance = 2e-3 if kind == "half" else 1e-6
    torch.testing.assert_close(
        plain.embed_images(images), other.embed_images(images), atol=tolerance, rtol=0
    )


def test_a_model_at_320_pixels_is_recognized_by_its_shapes(tmp_path: Path) -> None:
    state = chexzero.state()
    state["visual.conv1.weight"] = seeded.tensor("conv", (128, 3, 16, 16))
    state["visual.positional_embedding"] = seeded.tensor("positions", (401, 128))
    torch.save(state, tmp_path / "vit16.pt")
    model = load("chexzero", tmp_path / "vit16.pt")
    assert (model.preprocess.size, model.strides) == (320, (16,))
    image = seeded.radiograph(320, 320, 0)
    gray = model.preprocess(image)[0] * 83.43944 + 101.48761
    torch.testing.assert_close(gray, torch.from_numpy(image).float(), atol=1e-3, rtol=0)


def test_the_geometry_follows_both_steps(tmp_path: Path) -> None:
    preprocess = load("chexzero", chexzero.write(tmp_path)).preprocess
    geometry = preprocess.geometry(400, 200)
    assert geometry.size == 224
    corners = geometry.boxes_to_input(torch.tensor([[0.0, 0.0, 200.0, 400.0]]).numpy())
    assert corners.tolist() == [[56.0, 0.0, 168.0, 224.0]]
    assert preprocess.stretched(64)(seeded.radiograph(400, 200, 0)).shape == (3, 64, 64)


def test_sources_that_are_no_chexzero_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"contains no \.pt file"):
        load("chexzero", tmp_path)
    torch.save({"conv1.weight": torch.ones(2, 2)}, tmp_path / "other.pt")
    with pytest.raises(BadCheckpoint, match=r"other\.pt is not a CheXzero file"):
        load("chexzero", tmp_path)
    state = chexzero.state()
    del state["ln_final.bias"]
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(BadCheckpoint, match=r"missing 1 \(ln_final\.bias\)"):
        load("chexzero", tmp_path / "other.pt")
