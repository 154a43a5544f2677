"""How well a model's attention maps and pseudo masks cover the annotated findings.

Maps in [0, 1] that the model shows (`Shows.panels`), such as G2D's attention, each step to its
pseudo mask, and its decoder's output, are compared with the mask of a present finding, or the union
of its boxes, in image pixels. Our analysis; no publication has it. Protocols: `g2d` shows maps of
the image alone; `prompt` gives the finding's name as the report, for masks that depend on it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from g2dbench.cards import TaskCard
from g2dbench.dataset import Dataset
from g2dbench.errors import BadData, BadResult, Unsupported
from g2dbench.evaluation.frozen_features import FrozenEncoder, encode_in_chunks
from g2dbench.evaluation.prediction_table import check_columns, to_wide
from g2dbench.evaluation.prompts import phrase
from g2dbench.evaluation.zero_shot.located_maps import images_with_findings, true_regions
from g2dbench.metrics import grounding, heatmap
from g2dbench.metrics.aggregate import PatientStatistic, per_finding, scores
from g2dbench.metrics.bootstrap import mean_of
from g2dbench.model import Model, Shows
from g2dbench.result import Score
from g2dbench.task import Run

CARD = TaskCard(
    name="attention",
    summary="Attention maps and pseudo masks against the marked findings.",
    needs=("features",),
    annotations=("boxes", "masks"),
    protocols=("g2d", "prompt"),
    metric="pixel_auc",
    source="ours: metrics/heatmap.py, metrics/grounding.py",
    fits=False,
    order=70,
)
MEASURES = (*heatmap.MAP_METRICS, "iou", "dice", "recall", "coverage", "entropy")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """asks: whether the finding's name is the report. threshold: for IoU, Dice, coverage."""

    asks: bool = False
    threshold: float = 0.5
    version: int = 1


PROTOCOLS: Mapping[str, Protocol] = {"g2d": Protocol(), "prompt": Protocol(asks=True)}


def predict(model: Model, run: Run[Protocol]) -> pd.DataFrame:
    """One row per test image, present finding and map; `map` is "0 NAME" for the first shown."""
    if not isinstance(model, Shows):
        raise Unsupported(f"attention needs maps; {model.identity.label} does not show any")
    images = images_with_findings(run.test)
    present = [sorted(true_regions(sample)) for sample in images]
    findings = sorted({name for each in present for name in each})
    if not findings:
        raise BadData(f"no test image of {run.test.card.name} has a finding with a box or a mask")
    chosen = {f: images.take([i for i, e in enumerate(present) if f in e]) for f in findings}
    return pd.DataFrame([row for f in findings for row in _rows(model, f, chosen[f], run)])


def _rows(model: Model, finding: str, images: Dataset, run: Run[Protocol]) -> Iterator[dict]:
    assert isinstance(model, Shows)
    panels, names = model.panels, list[str]()

    def show(x: torch.Tensor) -> list[torch.Tensor]:
        maps = panels(x, [phrase(finding)] * len(x) if run.protocol.asks else None)
        names[:] = [f"{place} {name}" for place, name in enumerate(maps)]
        return [each.float() for each in maps.values()]

    frozen = FrozenEncoder(model, show, model.preprocess, run)
    for samples, maps in encode_in_chunks(frozen, images, run, f"attention {finding}"):
        for at, sample in enumerate(samples):
            geometry = model.preprocess.geometry(*sample.image.shape)
            if not all(torch.isfinite(grid[at]).all() for grid in maps):
                raise BadData(f"a map of image {sample.id} is not finite: check the weights")
            keys = {"id": sample.id, "patient": sample.patient, "finding": finding}
            for name, grid in zip(names, maps, strict=True):
                shown = geometry.map_to_image(grid[at].cpu().numpy())
                values = _measure(shown, true_regions(sample)[finding], run.protocol.threshold)
                yield {**keys, "map": name, **values}


def _measure(shown: NDArray[np.float32], truth: NDArray[np.bool_], cut: float) -> dict[str, float]:
    """`MEASURES` of one map, NaN outside the model's crop; shown and truth (H, W) in pixels."""
    overlap = grounding.overlap_at(shown, truth, [cut])
    found = heatmap.map_values(shown, truth)
    found |= {name: getattr(grounding, name)(overlap)[0] for name in ("iou", "dice", "recall")}
    found["coverage"] = float(heatmap.coverage(overlap, truth.size)[0])
    return found | {"entropy": heatmap.normalized_entropy(shown)}


def score(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, Score]:
    """The value and the confidence interval of each of `statistics`."""
    return scores(statistics(predictions, protocol))


def statistics(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, PatientStatistic]:
    """Means over images, then over findings: `iou@<map>` of each map, `iou` of the first."""
    check_columns(predictions, ("map", *MEASURES))
    if len(broken := predictions["id"][~np.isfinite(predictions["coverage"].to_numpy(float))]):
        raise BadResult(f"the maps of image {broken.iloc[0]!r} cover no finite share of it")
    found: dict[str, PatientStatistic] = {}
    for name, rows in predictions.groupby("map"):
        wide, (place, _, title) = to_wide(rows, MEASURES), str(name).partition(" ")
        for measure in MEASURES:
            means = {f: mean_of(wide[measure][:, k]) for k, f in enumerate(wide.findings)}
            for full in [measure, f"{measure}@{title}"] if place == "0" else [f"{measure}@{title}"]:
                found |= per_finding(full, wide.patients, means, ~np.isnan(wide[measure]))
    return found
