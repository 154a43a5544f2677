"""EVA-X's wrapper beside the original, and beside its stored outputs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.models import golden
from support.models.image_encoders import eva_x
from support.models.small_baselines import load

from g2dbench.errors import BadCheckpoint

pytestmark = pytest.mark.integration

torch.set_num_threads(1)

NOTE = "hustvl/EVA-X dc4f32a, eva_x.py on timm 1.0.31: EVA_X with smaller sizes, its own filter"
SIZES = {
    "tiny": {"embed_dim": 64, "depth": 2, "num_heads": 1},
    "base": {
        "embed_dim": 128, "depth": 2, "num_heads": 2, "qkv_fused": False, "scale_mlp": True,
    },
}  # fmt: skip


@torch.no_grad()
def outputs(model: Any) -> dict[str, torch.Tensor]:
    pooled, patches = model.tokens(golden.seeded_images(224))
    return {"pooled": pooled, "patches": patches}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("wrap", ["", "nested", "module."])
def test_outputs_are_the_stored_ones_of_the_original(tmp_path: Path, size: str, wrap: str) -> None:
    golden.check_golden(f"eva_x_{size}", outputs(load("eva-x", eva_x.write(tmp_path, size, wrap))))


def official_layout(network: Any) -> dict[str, tuple[int, ...]]:
    """timm's names -> those of the released file, with the parts of masked image modelling."""
    names: dict[str, tuple[int, ...]] = {}
    for key, value in golden.weights_of(network).items():
        if "rope" in key or key.startswith("head."):
            continue
        for new, old in (
            ("fc_norm.", "norm."), ("mlp.norm", "mlp.ffn_ln"), ("attn.norm", "attn.inner_attn_ln"),
            ("mlp.fc1_g", "mlp.w1"), ("mlp.fc1_x", "mlp.w2"), ("mlp.fc1", "mlp.w12"),
            ("mlp.fc2", "mlp.w3"), ("q_proj.bias", "q_bias"), ("v_proj.bias", "v_bias"),
        ):  # fmt: skip
            key = key.replace(new, old)
        names[key] = tuple(value.shape)
    width = names["cls_token"][-1]
    return names | {"mask_token": (1, 1, width), "lm_head.weight": (9, width), "lm_head.bias": (9,)}


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES)
def test_outputs_are_those_of_the_original_code(tmp_path: Path, size: str) -> None:
    with golden.importable(golden.original("EVA_X")):
        import eva_x as code

        network = code.EVA_X(
            img_size=224, patch_size=16, mlp_ratio=4 * 2 / 3, swiglu_mlp=True,
            use_rot_pos_emb=True, ref_feat_shape=(14, 14), **SIZES[size],
        ).eval()  # fmt: skip
        shapes = official_layout(network)
        state = code.checkpoint_filter_fn(golden.seeded_state(shapes), network)
        missing, unexpected = network.load_state_dict(state, strict=False)
        assert not unexpected
        assert all(key.startswith("head.") or "rope" in key for key in missing)
        images = golden.seeded_images(224)
        tokens = network.forward_features(images)
        theirs = {
            "pooled": network.forward_head(tokens, pre_logits=True),
            "patches": network.fc_norm(tokens[:, 1:]),
        }
    golden.check_live(f"eva_x_{size}", shapes, theirs, NOTE)
    golden.same(outputs(load("eva-x", eva_x.write(tmp_path, size))), theirs)


def test_half_precision_is_read_and_other_files_are_refused(tmp_path: Path) -> None:
    state = torch.load(eva_x.write(tmp_path))
    torch.save({key: value.half() for key, value in state.items()}, tmp_path / "h.pt")
    assert load("eva-x", tmp_path / "h.pt").identity.label == "eva-x:h.pt"
    del state["blocks.1.mlp.w3.weight"]
    torch.save(state, tmp_path / "cut.pt")
    with pytest.raises(BadCheckpoint, match=r"missing 1 \(blocks\.1\.mlp\.fc2\.weight\)"):
        load("eva-x", tmp_path / "cut.pt")
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "o.pt")
    with pytest.raises(BadCheckpoint, match="is not EVA-X"):
        load("eva-x", tmp_path / "o.pt")
