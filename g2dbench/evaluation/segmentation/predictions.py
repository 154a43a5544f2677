"""Predictions of a fitted decoder as rows. Legend: K findings, S input side, H W image pixels."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from g2dbench.data.annotations import rle
from g2dbench.evaluation.frozen_features import encode_in_chunks
from g2dbench.evaluation.heads.network import frozen_encoder
from g2dbench.evaluation.heads.saved_head import SavedHead
from g2dbench.evaluation.segmentation.masks import mask_of, present_findings
from g2dbench.model import Model
from g2dbench.sample import Sample
from g2dbench.task import Run


def mask_rows(
    model: Model, module: nn.Module, head: SavedHead, run: Run[Any], cached: bool
) -> Iterator[dict[str, object]]:
    """Yield a row for each test image and finding; unfitted findings of the test are absent."""
    fitted, frozen = list(head.facts["findings"]), frozen_encoder(model, run, cached=cached)
    present = frozenset().union(*present_findings(run.test, head.facts["only"]))
    findings = sorted(present.union(fitted))
    for samples, maps in encode_in_chunks(frozen, run.test, run, "seg test"):
        with torch.no_grad():
            probability = torch.sigmoid(module([level.float() for level in maps])).cpu().numpy()
        for sample, grids in zip(samples, probability, strict=True):
            geometry = frozen.preprocess.geometry(*sample.image.shape)
            by_finding = dict(zip(fitted, grids, strict=True))
            for finding in findings:
                mask = np.zeros(sample.image.shape, dtype=bool)
                if finding in by_finding:
                    grid = geometry.map_to_image(by_finding[finding])
                    mask = grid > head.facts["threshold"]
                yield _row(sample, finding, rle.encode(mask))


def _row(sample: Sample, finding: str, predicted: str) -> dict[str, object]:
    height, width = sample.image.shape
    truth = None if sample.masks is None else rle.encode(mask_of(sample, finding))
    return {
        "id": sample.id,
        "patient": sample.patient,
        "finding": finding,
        "height": height,
        "width": width,
        "truth": truth,
        "predicted": predicted,
    }
