"""CheXFound: a DINOv2 ViT-L/16 at 512 pixels on a million chest X-rays (Yang et al., 2025).

Shapes: B batch, S input side (512), N = (S / 16)^2 patches, C = 1024. Source: RPIDIAL/CheXFound at
a4bac49. SOURCE is `teacher_checkpoint.pth`; sizes are read from its keys.

Each image's own smallest and largest grey level become 0 and 1 after resizing and cropping; the
original divides by zero for a constant image, here such an image becomes zero.
"""

import math
from pathlib import Path
from typing import Any

from timm.layers import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.model import Identity, Model
from g2dbench.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from g2dbench.pretrained.image.patch_encoder import PatchEncoder
from g2dbench.pretrained.layouts import layers_in, part_of, renamed, unwrapped
from g2dbench.pretrained.weights import State, digest, find_state, load_state, read_weights

CARD = ModelCard(
    name="chexfound",
    summary="CheXFound: a DINOv2 ViT-L/16 at 512 pixels on chest X-rays, without texts",
    paper="Yang et al., Chest X-ray Foundation Model with Global and Local Representations "
    "Integration, IEEE TMI 2025",
    source="github.com/RPIDIAL/CheXFound (Google Drive)",
    licence="none given",
    capabilities=("features",),
    trained_on=("mimic_cxr", "chexpert", "padchest"),
    files=("teacher_checkpoint.pth",),
    input_size=512,
    tested_with=("timm 1.0.31", "torch 2.14"),
    openness="weights and code public; no licence",
    notes=(
        "BRAX is among its training sets as well.",
        "Its published figures use the GLoRI head; here the features are class token and patches.",
        "A constant image, which gives NaN in the original, is zero here.",
    ),
)

PATCH = 16
UNUSED_KEYS = (r"^(dino_head|ibot_head)\.", r"^mask_token$")


class CheXFound(PatchEncoder):
    """The teacher's backbone: class token and patches after the final norm."""

    card = CARD

    def __init__(self, trunk: Any, side: int) -> None:
        super().__init__(
            Preprocess(
                size=side,
                fit="crop",
                mean=IMAGENET_MEAN,
                std=IMAGENET_STD,
                resampling="bicubic",
                intensity="minmax_input",
            )
        )
        self.trunk = trunk
        self.measure()

    def tokens(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> class token (B, C) and patches (B, N, C)."""
        states: Tensor = self.trunk.forward_features(images)
        return states[:, 0], states[:, self.trunk.num_prefix_tokens :]


def load(source: str | None, seed: int) -> Model:
    """CheXFound from its checkpoint; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint for weights that do not fit.
    """
    if source is None:
        raise Misuse(f"chexfound needs its weights: --model chexfound:FILE, {CARD.files[0]}")
    file = Path(source).expanduser()
    state = unwrapped(find_state(read_weights(file), file, ("teacher", "model", "state_dict")))
    if any(key.startswith("backbone.") for key in state):
        state = part_of(state, "backbone.")
    state = renamed(state, [(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.")])
    missing = {"cls_token", "pos_embed", "blocks.0.mlp.w12.weight"} - state.keys()
    if missing:
        raise BadCheckpoint(f"{file} is not CheXFound: it has no {', '.join(sorted(missing))}")
    trunk, side = _build(state)
    load_state(trunk, _to_timm(state), file, UNUSED_KEYS)
    model = CheXFound(trunk, side)
    model.identity = Identity(f"{CARD.name}:{file.name}", digest(model))
    return model.eval()


def _build(state: State) -> tuple[Any, int]:
    """The network of the file's sizes, and its input side."""
    width = state["cls_token"].shape[-1]
    side = PATCH * math.isqrt(state["pos_embed"].shape[1] - 1)
    registers = state["register_tokens"].shape[1] if "register_tokens" in state else 0
    trunk = VisionTransformer(
        img_size=side, patch_size=PATCH, num_classes=0, embed_dim=width,
        depth=layers_in(state, r"blocks\.(\d+)\."), num_heads=max(1, width // 64),
        mlp_ratio=state["blocks.0.mlp.w12.weight"].shape[0] / width, init_values=1e-5,
        mlp_layer=SwiGLUPacked, act_layer=nn.SiLU, reg_tokens=registers, no_embed_class=True,
        global_pool="token",
    )  # fmt: skip
    return trunk.eval(), side


def _to_timm(state: State) -> State:
    """timm adds no position to the class token, so the file's one becomes part of that token."""
    found = dict(state)
    found["cls_token"] = state["cls_token"] + state["pos_embed"][:, :1]
    found["pos_embed"] = state["pos_embed"][:, 1:]
    rules = [(r"mlp\.w12", "mlp.fc1"), (r"mlp\.w3", "mlp.fc2"), (r"^register_tokens$", "reg_token")]
    return renamed(found, rules)
