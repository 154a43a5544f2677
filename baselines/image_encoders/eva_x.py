"""EVA-X: EVA-02 ViTs by masked image modelling on chest X-rays (Yao et al., 2025).

Shapes: B batch, S = 224, N = 196 patches, C width (192, 384 or 768). Source: hustvl/EVA-X at
dc4f32a, eva_x.py. SOURCE is a file of huggingface.co/MapleF/eva_x; the size is read from its keys.

A file of masked image modelling names the norm of patch tokens `norm`; the original uses it as
`fc_norm`, after the mean over patches. The map therefore is that norm of each patch.
"""

from pathlib import Path
from typing import Any

from timm.models.eva import Eva
from torch import Tensor

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.model import Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.image.patch_encoder import PatchEncoder
from g2dbench.pretrained.layouts import layers_in, renamed, unwrapped
from g2dbench.pretrained.weights import State, digest, find_state, load_state, read_weights

CARD = ModelCard(
    name="eva-x",
    summary="EVA-X: an EVA-02 ViT (Ti, S or B) by masked image modelling on chest X-rays",
    paper="Yao et al., EVA-X: A Foundation Model for General Chest X-ray Analysis with "
    "Self-supervised Learning, npj Digital Medicine 2025",
    source="huggingface.co/MapleF/eva_x; github.com/hustvl/EVA-X",
    licence="MIT by the badge of its README; there is no licence file",
    capabilities=("features",),
    trained_on=("nih_cxr14", "chexpert", "mimic_cxr"),
    files=(
        "eva_x_tiny_patch16_merged520k_mim.pt",
        "eva_x_small_patch16_merged520k_mim.pt",
        "eva_x_base_patch16_merged520k_mim.pt",
    ),
    input_size=224,
    tested_with=("timm 1.0.31", "torch 2.14"),
    openness="weights and code public; licence unclear",
    notes=(
        "Its targets come from MGCA's ViT, so MIMIC-CXR reports enter indirectly.",
        "RSNA and SIIM images are images of ChestX-ray14, which it saw.",
    ),
)

PREPROCESS = Preprocess(
    size=224, resize=256, fit="crop", mean=(0.49185243,) * 3, std=(0.28509309,) * 3,
    resampling="bicubic",
)  # fmt: skip
NESTED = ("model_ema", "model", "module", "state_dict")
UNUSED_KEYS = (r"(^|\.)rope", r"^mask_token$", r"^lm_head\.", r"^head\.")
_RULES = (
    (r"mlp\.ffn_ln", "mlp.norm"),
    (r"attn\.inner_attn_ln", "attn.norm"),
    (r"mlp\.w12", "mlp.fc1"),
    (r"mlp\.w1\b", "mlp.fc1_g"),
    (r"mlp\.w2\b", "mlp.fc1_x"),
    (r"mlp\.w3", "mlp.fc2"),
)
_SEPARATE = "blocks.0.attn.q_proj.weight"
"""A key of the base size alone, whose queries, keys and values are separate layers."""


class EvaX(PatchEncoder):
    """EVA-X without its head."""

    card = CARD

    def __init__(self, trunk: Any) -> None:
        super().__init__(PREPROCESS)
        self.trunk = trunk
        self.measure()

    def tokens(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> norm of the mean patch (B, C), and norm of each patch (B, N, C)."""
        patches = self.trunk.forward_features(images)[:, self.trunk.num_prefix_tokens :]
        return self.trunk.fc_norm(patches.mean(dim=1)), self.trunk.fc_norm(patches)


def load(source: str | None, seed: int) -> Model:
    """EVA-X from a weights file; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint for weights that do not fit.
    """
    if source is None:
        raise Misuse(f"eva-x needs its weights: --model eva-x:FILE, such as {CARD.files[0]}")
    file = Path(source).expanduser()
    state = _renamed(unwrapped(find_state(read_weights(file), file, NESTED)))
    trunk = _build(state, file)
    load_state(trunk, state, file, UNUSED_KEYS)
    model = EvaX(trunk)
    model.identity = Identity(f"{CARD.name}:{file.name}", digest(model))
    return model.eval()


def _renamed(state: State) -> State:
    """The names of timm, as in the original's `checkpoint_filter_fn`."""
    rules = list(_RULES)
    if _SEPARATE in state:
        rules.append((r"attn\.([qv])_bias$", r"attn.\1_proj.bias"))
    if "mask_token" in state:
        rules.append((r"^norm\.", "fc_norm."))
    return renamed(state, rules)


def _build(state: State, file: Path) -> Any:
    """The network of this file's size: width, depth, and the kind of its layers."""
    if "cls_token" not in state or "patch_embed.proj.weight" not in state:
        raise BadCheckpoint(f"{file} is not EVA-X: it has no cls_token and patch embedding")
    width = state["cls_token"].shape[-1]
    is_base = _SEPARATE in state
    return Eva(
        img_size=224,
        patch_size=16,
        num_classes=0,
        embed_dim=width,
        depth=layers_in(state, r"blocks\.(\d+)\."),
        num_heads=max(1, width // 64),
        mlp_ratio=4 * 2 / 3,
        swiglu_mlp=True,
        qkv_fused=not is_base,
        scale_mlp=is_base,
        use_rot_pos_emb=True,
        ref_feat_shape=(14, 14),
    ).eval()
