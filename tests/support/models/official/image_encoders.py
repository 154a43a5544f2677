"""Image encoders at their published sizes."""

from pathlib import Path
from typing import Any

import torch
import torchvision
from timm.models.swin_transformer import SwinTransformer
from transformers import BitImageProcessor, ViTImageProcessor

from support.models.encoder_releases import make_benchx, make_vit_release
from support.models.growth import State, deepened, grown, random_state, rewrite, save
from support.models.image_encoders import chexfound as small_chexfound
from support.models.image_encoders import eva_x as small_eva_x
from support.models.image_encoders import torchxrayvision as small_xrv
from support.models.small_encoders import make_vision
from support.originals import mrm as small_mrm

BASE: dict[str, Any] = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
VIT_BASE = {64: 768, 192: 2304, 256: 3072}
"""Sides of the small ViT of a golden file -> those of ViT-B."""


def ark(folder: Path) -> Path:
    swin = SwinTransformer(
        img_size=768, window_size=12, num_classes=0, embed_dim=192, depths=(2, 2, 18, 2),
        num_heads=(6, 12, 24, 48),
    )  # fmt: skip
    state = random_state(swin) | {"projector.weight": torch.randn(1376, 1536) * 0.02}
    state |= {"projector.bias": torch.zeros(1376)}
    for number, findings in enumerate((14, 14, 14, 3, 6, 1)):
        state[f"omni_heads.{number}.weight"] = torch.randn(findings, 1376) * 0.02
        state[f"omni_heads.{number}.bias"] = torch.zeros(findings)
    return save({"teacher": state}, folder / "ark.pth.tar")


def chexfound(folder: Path) -> Path:
    sides = {64: 1024, 192: 3072, 352: 5472, 176: 2736, 17: 1025}
    file = small_chexfound.write(folder, prefix="")
    return rewrite(
        file, lambda s: deepened(grown(s, sides), r"^blocks\.0\.(\d+)\.", 24), key="teacher"
    )


def eva_x(folder: Path) -> Path:
    file = small_eva_x.write(folder, "base")
    return rewrite(file, lambda s: deepened(grown(s, {128: 768, 341: 2048}), r"^blocks\.(\d+)", 12))


def torchxrayvision(folder: Path) -> Path:
    net = torchvision.models.densenet121(num_classes=18)
    net.features.conv0 = torch.nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    return save(net, folder / small_xrv.ALL)


def dinov2(folder: Path) -> Path:
    """The encoder of RAD-DINO and of XrayDINO, with the image processor of the latter."""
    make_vision(folder, "dinov2", image_size=518, **BASE)
    crop = {"height": 224, "width": 224}
    BitImageProcessor(size={"shortest_edge": 224}, crop_size=crop).save_pretrained(folder)
    return folder


def hf_vit(folder: Path) -> Path:
    make_vision(folder, "vit", image_size=224, intermediate_size=3072, **BASE)
    ViTImageProcessor(size={"height": 224, "width": 224}).save_pretrained(folder)
    return folder


def mrm(folder: Path) -> Path:
    sides = {128: 768, 384: 2304, 512: 3072}
    encoder = ("cls_token", "pos_embed", "patch_embed.", "blocks.", "norm.")
    return rewrite(
        small_mrm.write(folder),
        lambda s: deepened(
            grown({k: v for k, v in s.items() if k.startswith(encoder)}, sides),
            r"^blocks\.(\d+)", 12,
        ),
        key="model",
    )  # fmt: skip


def benchx(folder: Path) -> Path:
    return make_benchx(folder, "convirt")


def refers(folder: Path) -> Path:
    file = make_vit_release("refers", folder)
    return rewrite(file, lambda s: _vit_base(s, r"encoder\.layer\.(\d+)\."))


def ecamp(folder: Path) -> Path:
    encoder = ("cls_token", "pos_embed", "patch_embed.", "blocks.", "norm.", "bert_mlp.")

    def change(state: State) -> State:
        large = _vit_base(
            {k: v for k, v in state.items() if k.startswith(encoder)}, r"^blocks\.(\d+)"
        )
        return state | large

    return rewrite(make_vit_release("ecamp", folder), change, key="model")


def ptunifier(folder: Path) -> Path:
    """Of CLIP's twelve blocks the file holds eleven."""
    file = make_vit_release("ptunifier", folder)
    return rewrite(file, lambda s: _vit_base(s, r"resblocks\.(\d+)\.", 11), key="state_dict")


def _vit_base(state: State, pattern: str, depth: int = 12) -> State:
    return deepened(grown(state, VIT_BASE), pattern, depth)
