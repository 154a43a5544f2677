"""MRM: RL4M/MRM-pytorch at 3730ba4; model_mrm.py and NIH_ChestX-ray/models_vit.py."""

from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from support.originals import seeded
from support.originals.imports import imported

CARD, CHECKOUT, COMMIT = "mrm", "RL4M/MRM-pytorch", "3730ba4"
WIDTH, DEPTH, DECODER = 128, 2, 64
SIZES = {
    "patch_size": 16, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": WIDTH // 64, "mlp_ratio": 4,
    "norm_layer": partial(nn.LayerNorm, eps=1e-6),
}  # fmt: skip


def block(prefix: str, width: int, heads: int) -> dict[str, Tensor]:
    layer = timm.models.vision_transformer.Block(width, heads, 4.0, qkv_bias=True)
    return seeded.placed(prefix, layer)


def state() -> dict[str, Tensor]:
    """The layout of MRM.pth: encoder, decoder of pixels, decoder of reports (a part of it)."""
    blocks = {}
    for i in range(DEPTH):
        blocks |= block(f"blocks.{i}.", WIDTH, WIDTH // 64)
    return seeded.fill(
        {
            "cls_token": torch.empty(1, 1, WIDTH),
            "pos_embed": torch.empty(1, 197, WIDTH),
            "mask_token": torch.empty(1, 1, DECODER),
            "decoder_pos_embed": torch.empty(1, 197, DECODER),
            **seeded.placed("patch_embed.proj.", nn.Conv2d(3, WIDTH, 16)),
            **blocks,
            **seeded.placed("norm.", nn.LayerNorm(WIDTH)),
            **seeded.placed("decoder_embed.", nn.Linear(WIDTH, DECODER)),
            **block("decoder_blocks.0.", DECODER, 1),
            **seeded.placed("decoder_norm.", nn.LayerNorm(DECODER)),
            **seeded.placed("decoder_pred.", nn.Linear(DECODER, 32 * 32 * 3)),
            **seeded.placed("bert_mlp.", nn.Linear(WIDTH, 384)),
        }
    )


def write(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    decoder = {"bert_encoder.model.cls.predictions.bias": torch.zeros(9)}
    content = {
        "model": state() | decoder,
        "optimizer": {},
        "args": Namespace(lr=1e-4),
        "epoch": 199,
    }
    torch.save(content, folder / "MRM.pth")
    return folder / "MRM.pth"


def ours(model: Any) -> dict[str, Tensor]:
    images = model.preprocess.batch(seeded.radiographs())
    return {
        "input": images,
        "pooled": model.pooled(images),
        "patches": model.features(images)[0].flatten(2).transpose(1, 2),
    }


def original(checkout: Path) -> dict[str, Tensor]:
    """Patches by the pre-training class without masking, pooled features by the fine-tuning class.

    Patched: `Block` without `qk_scale`, gone from timm 1 (its value is None), `np.float`, the
    decoder of reports (not built: old transformers), and ml_collections (imported, unused here).
    """
    plain = timm.models.vision_transformer.Block

    class Block(plain):
        def __init__(self, *sizes: Any, qk_scale: None, **options: Any) -> None:
            super().__init__(*sizes, **options)

    heads = {"decoder_embed_dim": DECODER, "decoder_depth": 1, "decoder_num_heads": 1}
    given = {"bert": {}, "bert.bert_encoder": {"BertEncoder": nn.Identity}, "ml_collections": {}}
    images = torch.stack([prepare(picture) for picture in seeded.radiographs()])
    with imported([checkout, checkout / "NIH_ChestX-ray"], (), given) as load:
        with (
            mock.patch.object(timm.models.vision_transformer, "Block", Block),
            mock.patch.object(np, "float", float, create=True),
        ):
            whole = load("model_mrm").MRM(**SIZES, **heads).eval()
        whole.load_state_dict(state())
        shuffled, _, order = whole.forward_encoder(images, 0.0)
        index = order[..., None].expand(-1, -1, WIDTH)
        tuned = (
            load("models_vit").VisionTransformer(**SIZES, qkv_bias=True, global_pool=True).eval()
        )
        missing = tuned.load_state_dict(state(), strict=False).missing_keys
        assert set(missing) <= {"head.weight", "head.bias", "fc_norm.weight", "fc_norm.bias"}
        pooled = tuned.forward_features(images)
    return {
        "input": images,
        "pooled": pooled,
        "patches": torch.gather(shuffled[:, 1:], 1, index),
    }


def prepare(picture: Any) -> Tensor:
    """As the test transform of NIH_ChestX-ray/utils/data_utils.py."""
    steps = [transforms.Resize(224), transforms.CenterCrop((224, 224))]
    steps.append(transforms.ToTensor())
    gray = transforms.Compose(steps)(Image.fromarray(picture))
    normalize = transforms.Normalize(mean=[0.4978], std=[0.2449])
    values: Tensor = normalize(gray.expand(3, -1, -1).clone())
    return values


def thinned(results: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        "input": results["input"][:, 0, ::31, ::31],
        "pooled": results["pooled"][:, ::4],
        "patches": results["patches"][:, ::13, ::16],
    }
