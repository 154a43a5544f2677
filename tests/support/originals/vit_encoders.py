"""Image encoders of REFERS, ECAMP and PTUnifier by their own classes, with fewer layers.

Each function takes the checkout and the images, and gives names and shapes of the released file,
and the original's outputs for seeded weights.

Patched: ml_collections (a dict with attributes), ipdb (imported, unused), `np.float` and the text
decoder of ECAMP (not built). PTUnifier's `build_model` is not called, because it downloads OpenAI's
weights: its class CLIP gets the sizes.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from support.models import golden
from support.originals.imports import ConfigDict, imported

WIDTH, DEPTH = 64, 2
Shapes = Mapping[str, tuple[int, ...]]
Outputs = dict[str, Tensor]


def shapes_of(module: nn.Module, prefix: str = "") -> dict[str, tuple[int, ...]]:
    return {prefix + k: tuple(v.shape) for k, v in golden.weights_of(module).items()}


def refers(checkout: Path, images: Tensor) -> tuple[Shapes, Outputs]:
    """funnyzhou/REFERS: Fine-tune/NIH_ChestX-ray/models/modeling.py."""
    given = {"ml_collections": {"ConfigDict": ConfigDict}}
    with imported([checkout / "Fine-tune" / "NIH_ChestX-ray"], (), given) as load:
        module = load("models.modeling")
        config = module.CONFIGS["testing"]
        config.hidden_size = WIDTH
        config.transformer.update(mlp_dim=4 * WIDTH, num_heads=1, num_layers=DEPTH)
        network = module.VisionTransformer(config, 224, zero_head=True, num_classes=1).eval()
        shapes = shapes_of(network.transformer, "transformer.")
        network.load_state_dict(golden.seeded_state(shapes), strict=False)
        tokens = network.transformer(images)[0]
    return shapes, {"pooled": tokens[:, 0], "patches": tokens[:, 1:]}


def ecamp(checkout: Path, images: Tensor) -> tuple[Shapes, Outputs]:
    """ToniChopp/ECAMP: pooled by the fine-tuning class, patches by pre-training's, unmasked."""
    sizes = {
        "patch_size": 16, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": 1, "mlp_ratio": 4,
        "norm_layer": partial(nn.LayerNorm, eps=1e-6),
    }  # fmt: skip
    decoder = {"decoder_embed_dim": 32, "decoder_depth": 1, "decoder_num_heads": 1}
    given = {"ml_collections": {}, "module.bert_encoder": {"MultiModalBertEncoder": nn.Identity}}
    roots = [checkout / "ECAMP" / "Pre-training", checkout / "ECAMP/Fine-tuning/Classification"]
    with imported(roots, ("ipdb",), given) as load:
        with mock.patch.object(np, "float", float, create=True):
            whole = load("module.model_ecamp").ECAMP(**sizes, **decoder).eval()
        shapes = shapes_of(whole)
        state = golden.seeded_state(shapes)
        whole.load_state_dict(state)
        shuffled, _, order, _ = whole.image_encoder(images, 0.0)
        patches = torch.gather(shuffled[:, 1:], 1, order[..., None].expand(-1, -1, WIDTH))
        tuned = load("models_vit").VisionTransformer(**sizes, qkv_bias=True, global_pool=True)
        missing = tuned.load_state_dict(state, strict=False).missing_keys
        assert set(missing) <= {"head.weight", "head.bias", "fc_norm.weight", "fc_norm.bias"}
        pooled = tuned.eval().forward_features(images)
    return shapes, {"pooled": pooled, "patches": patches}


def ptunifier(checkout: Path, images: Tensor) -> tuple[Shapes, Outputs]:
    """zhjohnchan/PTUnifier: clip_model.py, trained at 288 pixels, used at those of the images."""
    with imported([checkout / "ptunifier/models/vision_encoders"], ("tqdm",)) as load:
        module = load("clip_model")
        # Embedding, input side, blocks + 1, width, patch; context, words, width, heads, layers.
        sizes = (8, 224, DEPTH + 1, WIDTH, 16, 4, 9, 8, 1, 1)
        shapes = shapes_of(module.CLIP(*sizes, resolution_after=288), "vision_encoder.")
        state = golden.seeded_state(shapes)
        side = images.shape[-1]
        state = module.adapt_position_encoding(state, after=side, patch_size=16)
        network = module.CLIP(*sizes, resolution_after=side).eval()
        network.load_state_dict({k.removeprefix("vision_encoder."): v for k, v in state.items()})
        tokens = network(images)
    return shapes, {"pooled": tokens[:, 0], "patches": tokens[:, 1:]}
