"""G2D: pre-training of global and dense representations (NeurIPS 2024)."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from g2dbench.cards import MethodCard
from g2dbench.methods.g2d.model import G2D
from g2dbench.methods.g2d.settings import G2DSettings
from g2dbench.methods.g2d.studies import STUDIES
from g2dbench.methods.shared.settings import read_settings
from g2dbench.system.seeded_init import seeded

__all__ = ["CARD", "STUDIES", "VARIANTS", "build"]

CARD = MethodCard(
    name="g2d",
    summary="contrastive alignment plus a U-Net decoder trained on masks from its own attention",
    paper="Liu et al., G2D: From Global to Dense Radiography Representation Learning via "
    "Vision-Language Pre-training, NeurIPS 2024, arXiv 2312.01522",
    capabilities=("embeds", "features", "locates", "decodes"),
)

VARIANTS = {
    "encoder only": {"pixel": {"target": "none"}},
    "encoder + decoder": {"pixel": {"target": "mask", "start": 0}},
}
"""Variants that `g2dbench profile` measures: name -> changes of the `[model]` table."""


def build(config: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast, seed: int) -> G2D:
    """G2D from a recipe's `[model]` table (`G2DSettings`); the seed initializes its weights."""
    settings = read_settings(G2DSettings, config)
    return seeded(lambda: G2D(settings, tokenizer), torch.Generator().manual_seed(seed))
