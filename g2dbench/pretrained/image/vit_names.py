"""Key layouts of vision transformers, renamed to timm's.

Values are only reshaped or concatenated, so that a timm network computes what the original did.
Keys of other parts keep their names, so that loading reports them.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from timm.layers.activations import QuickGELU
from torch import Tensor, nn

from g2dbench.pretrained.layouts import renamed
from g2dbench.pretrained.weights import State

CLIP_OPTIONS: dict[str, Any] = {
    "pre_norm": True,
    "norm_layer": nn.LayerNorm,
    "act_layer": QuickGELU,
}
"""What `make_vit` needs beside the shapes for a vision tower of OpenAI's CLIP."""

_VIT_PYTORCH = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.", "patch_embed.proj."),
    (r"^encoder\.encoder_norm\.", "norm."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention_norm\.", ".norm1."),
    (r"\.ffn_norm\.", ".norm2."),
    (r"\.ffn\.", ".mlp."),
    (r"\.attn\.out\.", ".attn.proj."),
)
_CLIP = (
    (r"^class_embedding$", "cls_token"),
    (r"^positional_embedding$", "pos_embed"),
    (r"^conv1\.", "patch_embed.proj."),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
    (r"^transformer\.resblocks\.", "blocks."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
)
_QUERY, _OTHERS = re.compile(r"\.attn\.query\."), (".attn.key.", ".attn.value.")


def from_vit_pytorch(state: Mapping[str, Tensor]) -> State:
    """Keys of jeonsworld/ViT-pytorch below `transformer.` (REFERS) -> timm's.

    Its queries, keys and values are three layers, timm's are one.
    """
    named = renamed(state, _VIT_PYTORCH)
    joined: State = {}
    for key, value in named.items():
        others = [named.get(_QUERY.sub(other, key)) for other in _OTHERS]
        parts = [value, *(part for part in others if part is not None)]
        if _QUERY.search(key) and len(parts) == 1 + len(_OTHERS):
            joined[_QUERY.sub(".attn.qkv.", key)] = torch.cat(parts)
        elif not any(other in key for other in _OTHERS):
            joined[key] = value
    return joined


def from_openai_clip(state: Mapping[str, Tensor]) -> State:
    """Keys of the vision transformer of OpenAI's CLIP, below `visual.` -> timm's."""
    named = renamed(state, _CLIP)
    for key, dims in (("cls_token", 1), ("pos_embed", 2)):
        if key in named and named[key].ndim == dims:
            named[key] = named[key].reshape(1, -1, named[key].shape[-1])
    return named
