"""Vision transformers inside published checkpoints, built from the shapes of their weights.

Their keys have timm's names; `vit_names` gives these names to other layouts.

Shapes: B images, S input side, N patches, D width, h w grid (N = h * w).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from torch import Tensor

from g2dbench.errors import BadCheckpoint
from g2dbench.pretrained.image.feature_maps import to_grid
from g2dbench.pretrained.weights import select_prefix

_HEAD_WIDTH = 64
"""Width of an attention head in ViT-S, -B and -L."""


def make_vit(
    state: Mapping[str, Tensor],
    prefix: str,
    file: Path | str,
    side: int | None = None,
    **options: Any,
) -> Any:
    """timm's vision transformer with the sizes of the weights under `prefix`, without a classifier.

    side: the input that the wrapper prepares. options: further arguments of timm's class. Raises
    BadCheckpoint where the file contains no vision transformer there, or one for another input.
    """
    part = select_prefix(state, prefix)
    try:
        width, _, patch, _ = part["patch_embed.proj.weight"].shape
        grid = round((part["pos_embed"].shape[1] - 1) ** 0.5)
        depth = len({key.split(".")[1] for key in part if key.startswith("blocks.")})
        trunk = timm.models.VisionTransformer(
            img_size=patch * grid,
            patch_size=patch,
            embed_dim=width,
            depth=depth,
            num_heads=width // _HEAD_WIDTH,
            num_classes=0,
            global_pool="token",
            **options,
        )
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise BadCheckpoint(
            f"{file} contains no vision transformer under {prefix!r} (missing or malformed: "
            f"{error})"
        ) from error
    if side not in (None, patch * grid):
        raise BadCheckpoint(
            f"{file} is for images of {patch * grid} pixels, not of {side}: its positions are a "
            f"grid of {grid} by {grid}; give the file of the published model"
        )
    return trunk


def patch_grid(trunk: Any, images: Tensor) -> Tensor:
    """(B, 3, S, S) -> (B, D, h, w): the patch tokens after the final norm."""
    tokens: Tensor = trunk.forward_features(images)
    return to_grid(tokens[:, 1:])


def mean_patch(trunk: Any, images: Tensor) -> Tensor:
    """(B, 3, S, S) -> (B, D): mean of the last block's patch tokens, before the final norm."""
    tokens: Tensor = trunk.forward_intermediates(
        images, indices=1, norm=False, output_fmt="NLC", intermediates_only=True
    )[0]
    return tokens.mean(dim=1)
