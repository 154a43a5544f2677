"""Where the pseudo masks of a trained G2D are: on findings of their own image, or elsewhere.

Shapes: N images, S side, H heads, h w grid.
"""

from typing import Any

import torch
from torch import Tensor

from benchmarks import attention
from g2dbench.dataset import Dataset
from g2dbench.method import Batch
from g2dbench.methods.g2d.model import G2D
from g2dbench.methods.g2d.pseudo_mask import PseudoMask
from g2dbench.methods.g2d.settings import MaskSettings
from g2dbench.model import Model
from g2dbench.training.batches.collate import LoaderSettings
from g2dbench.training.batches.pair_loader import PairLoader, find_pairs

THRESHOLDS = {
    "85": MaskSettings(percentile=85),
    "95": MaskSettings(percentile=95),
    "batch 92": MaskSettings(percentile=92, threshold="batch"),
}
_BATCH = 50


@torch.no_grad()
def mask_precision(model: Model, data: Dataset) -> list[dict[str, Any]]:
    """One row per source of masks and threshold, on the images with a finding.

    own: fraction of a mask's pixels on a finding of its own image; other: on a finding of another
    patient; chance: fraction of the pixels with a finding; pooled: `own` of all pixels together;
    recall: fraction of the findings' pixels in a mask; area: of the mask; iou: of two masks.
    """
    towers: Any = model
    g2d: G2D = towers.towers
    pairs = find_pairs(data, "frontal")
    settings = LoaderSettings(
        preprocess=g2d.preprocess, tokenize=g2d.tokenize,
        batch_size=_BATCH, seed=0, device=torch.device("cpu"),
    )  # fmt: skip
    masks: dict[tuple[str, str], list[Tensor]] = {}
    for batch in PairLoader(pairs, settings).unaugmented():
        for source, scores in sources(g2d, batch).items():
            for name, threshold in THRESHOLDS.items():
                found = PseudoMask(threshold, g2d.preprocess)(scores, batch.images) > 0.5
                masks.setdefault((source, name), []).append(found[:, 0])
    truth = torch.cat(list(attention.findings(pairs.dataset, g2d.preprocess.size)))
    shown = truth.flatten(1).any(1)
    return [
        {"source": source, "threshold": name, **values(torch.cat(parts)[shown], truth[shown])}
        for (source, name), parts in masks.items()
    ]


def sources(g2d: G2D, batch: Batch) -> dict[str, Tensor]:
    """Source -> map (B, H, h, w): those of `benchmarks/attention.py`, gradient, share."""
    report = g2d.text(batch.tokens, batch.attention)
    pixels = g2d.projected(g2d.pyramid(batch.images))
    shares = torch.einsum("bdhw,bd->bhw", g2d.pool.shares(pixels), report.float())
    return {
        **attention.sources(g2d, batch),
        "gradient": g2d.relevance(pixels, report),
        "share": shares[:, None],
    }


def values(masks: Tensor, truth: Tensor) -> dict[str, float]:
    """(N, S, S) bool each -> the columns of `mask_precision`."""
    own, other, chance, iou = attention.precisions(masks, truth)
    both, size = float((masks & truth).sum()), float(masks.sum())
    return {
        "own": own,
        "other": other,
        "chance": chance,
        "pooled": both / max(size, 1),
        "recall": both / max(float(truth.sum()), 1),
        "area": float(masks.float().mean()),
        "iou": iou,
    }
