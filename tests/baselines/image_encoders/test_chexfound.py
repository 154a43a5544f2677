"""CheXFound's wrapper beside the original, and beside its stored outputs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.models import golden
from support.models.image_encoders import chexfound
from support.models.small_baselines import load

from g2dbench.errors import BadCheckpoint

pytestmark = pytest.mark.integration

torch.set_num_threads(1)

NOTE = "RPIDIAL/CheXFound a4bac49, DinoVisionTransformer of 4 blocks in 2 chunks, xformers disabled"


@torch.no_grad()
def outputs(model: Any) -> dict[str, torch.Tensor]:
    pooled, patches = model.tokens(golden.seeded_images(64))
    return {"pooled": pooled, "patches": patches}


@pytest.mark.parametrize("prefix", ["module.backbone.", "backbone.", ""])
def test_outputs_are_the_stored_ones_of_the_original(tmp_path: Path, prefix: str) -> None:
    golden.check_golden("chexfound", outputs(load("chexfound", chexfound.write(tmp_path, prefix))))


@torch.no_grad()
def test_outputs_are_those_of_the_original_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XFORMERS_DISABLED", "1")
    with golden.importable(golden.original("CHEXFOUND")):
        from chexfound.models.vision_transformer import DinoVisionTransformer

        network = DinoVisionTransformer(
            img_size=64, patch_size=16, embed_dim=64, depth=4, num_heads=1, init_values=1e-5,
            ffn_layer="swiglufused", block_chunks=2, num_register_tokens=4,
        )  # fmt: skip
        golden.fill(network)
        shapes = {key: tuple(v.shape) for key, v in golden.weights_of(network).items()}
        found = network.forward_features(golden.seeded_images(64))
    theirs = {"pooled": found["x_norm_clstoken"], "patches": found["x_norm_patchtokens"]}
    golden.check_live("chexfound", shapes, theirs, NOTE)
    golden.same(outputs(load("chexfound", chexfound.write(tmp_path))), theirs)


def test_the_grey_levels_of_each_input_run_from_0_to_1(tmp_path: Path) -> None:
    model = load("chexfound", chexfound.write(tmp_path))
    image = np.random.default_rng(0).integers(50, 90, (80, 100), dtype=np.uint8)
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in (model.preprocess.mean, model.preprocess.std)
    )
    levels = model.preprocess(image) * std + mean
    assert levels.amin() == pytest.approx(0, abs=1e-6)
    assert levels.amax() == pytest.approx(1, abs=1e-6)
    assert model.preprocess(np.full((9, 9), 7, np.uint8)).isfinite().all()


def test_another_file_is_refused(tmp_path: Path) -> None:
    torch.save({"teacher": {"cls_token": torch.zeros(1, 1, 4)}}, tmp_path / "o.pth")
    with pytest.raises(BadCheckpoint, match=r"is not CheXFound: it has no blocks\.0\.mlp\.w12"):
        load("chexfound", tmp_path / "o.pth")
