"""Ark's wrapper beside the original, and beside its stored outputs."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from support.models import golden
from support.models.image_encoders import ark
from support.models.small_baselines import load
from torch import Tensor

from g2dbench.errors import BadCheckpoint, Unsupported
from g2dbench.model import capabilities

pytestmark = pytest.mark.integration

torch.set_num_threads(1)

NOTE = (
    "jlianglab/Ark cba3fad, Ark_MICCAI2023/models.py on timm 1.0.31; forward_features averages "
    "over locations, as timm 0.5.4 did"
)
SWIN = {"img_size": ark.SIDE, "patch_size": 4, "window_size": 4, "embed_dim": 16,
        "depths": (2, 1), "num_heads": (1, 2)}  # fmt: skip
SIZES = {"ark_plus": ([14, 14, 14, 3, 6, 1], False), "ark_six": ([14, 14, 1], True)}
ASKED = ["Edema", "Effusion", "Tuberculosis", "Normal"]


@torch.no_grad()
def outputs(model: Any) -> dict[str, Tensor]:
    images = golden.seeded_images(ark.SIDE)
    found = {"pooled": model.pooled(images), "map": model.features(images)[-1]}
    if hasattr(model, "match"):
        found["match"] = model.match(images, ASKED)
    return found


@pytest.mark.parametrize("case", SIZES)
def test_outputs_are_the_stored_ones_of_the_original(tmp_path: Path, case: str) -> None:
    model = load("ark", ark.write(tmp_path, case))
    golden.check_golden(case, outputs(model))
    assert model.preprocess.size == ark.SIDE
    assert capabilities(model) == model.card.capabilities
    assert ("matches" in model.card.capabilities) == (case == "ark_plus")


def old_layout(network: Any) -> dict[str, tuple[int, ...]]:
    """The names of timm 0.5.4: a stage ends with its downsampling."""
    return {
        re.sub(r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", key):
        tuple(value.shape)
        for key, value in golden.weights_of(network).items()
        if not key.startswith("head.") and "attn_mask" not in key
    }  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("case", SIZES)
def test_outputs_are_those_of_the_original_code(tmp_path: Path, case: str) -> None:
    sizes, mlp = SIZES[case]
    with golden.importable(golden.original("ARK") / "Ark_MICCAI2023"):
        import models

        class Pooled(models.ArkSwinTransformer):
            def forward_features(self, x: Tensor) -> Tensor:
                self.map = super().forward_features(x)
                return self.map.mean(dim=(1, 2))

        network = Pooled(sizes, 24, mlp, **SWIN).eval()
        shapes = old_layout(network)
        state = golden.seeded_state(shapes)
        own = {key.replace("0.downsample", "1.downsample"): v for key, v in state.items()}
        missing, unexpected = network.load_state_dict(own, strict=False)
        assert not unexpected
        assert all("attn_mask" in key or key.startswith("head.") for key in missing)
        images = golden.seeded_images(ark.SIDE)
        heads = torch.cat([out.sigmoid() for out in network(images)], dim=1)
        theirs = {
            "pooled": network.generate_embeddings(images)
            if hasattr(network, "generate_embeddings")
            else network.projector(network.forward_features(images)),
            "map": network.map.permute(0, 3, 1, 2),
        }
    if case == "ark_plus":
        columns = [[5, 19, 37], [10, 24, 30, 45], [48, 51], [43]]
        theirs["match"] = torch.stack([heads[:, own].mean(1) for own in columns], dim=1)
    golden.check_live(case, shapes, theirs, NOTE)
    golden.same(outputs(load("ark", ark.write(tmp_path, case))), theirs)


def test_a_finding_without_a_head_and_another_file_are_refused(tmp_path: Path) -> None:
    model: Any = load("ark", ark.write(tmp_path))
    with pytest.raises(Unsupported, match="no head for 'COVID-19'"):
        model.match(golden.seeded_images(ark.SIDE), ["COVID-19"])
    torch.save({"teacher": {"patch_embed.proj.weight": torch.zeros(2, 3, 4, 4)}}, tmp_path / "o")
    with pytest.raises(BadCheckpoint, match="is not Ark: it has no Swin"):
        load("ark", tmp_path / "o")
