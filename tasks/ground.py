"""Zero-shot grounding: a finding's map against where experts marked it.

Source: G2D paper, sections 4.1 and A.4: BioViL's pipeline (hi-ml vlp/inference_engine.py), the map
of a prompt resized to the image, on RSNA and SIIM; recall, IoU and Dice. As in MedKLIP
(Sample_Zero-Shot_Grounding_RSNA/test.py) only findings that are there are asked for. Neither paper
says how a region is cut out of BioViL's map. Here, where a model has no published threshold, it is
chosen on the validation images, one for all findings: of the quantiles of the maps' values, whose
range differs from model to model, the one with the best Dice.

The truth is the finding's mask, the union of its boxes where it has none. All scores are taken in
the image's own pixels; what the model's crop leaves out is never predicted.

Legend: N images, K findings, T texts, R rows (an image and a finding it shows), S thresholds,
B resamples, H W pixels of an image, h w a model's grid.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from g2dbench.cards import TaskCard
from g2dbench.data.annotations import rle
from g2dbench.dataset import Dataset
from g2dbench.errors import BadData, BadResult
from g2dbench.evaluation.frozen_features import FrozenEncoder, encode_in_chunks
from g2dbench.evaluation.prediction_table import KEYS, WideTable, check_columns, to_wide
from g2dbench.evaluation.prompts import phrase
from g2dbench.metrics import grounding
from g2dbench.metrics.aggregate import PatientStatistic, per_finding, scores
from g2dbench.metrics.bootstrap import mean_of
from g2dbench.metrics.ratio import ratio
from g2dbench.model import Locates, Model, lacking
from g2dbench.preprocess import InputGeometry, Resampling
from g2dbench.result import Score
from g2dbench.sample import Sample
from g2dbench.task import Run

CARD = TaskCard(
    name="ground",
    summary="Zero-shot grounding: a prompt's map against the marked finding.",
    needs=("locates",),
    annotations=("boxes", "masks"),
    protocols=("g2d", "biovil"),
    metric="dice",
    source="G2D paper, sections 4.1 and A.4; hi-ml vlp/inference_engine.py; MedKLIP grounding",
    fits=False,
)

GEOMETRY = ("height", "width", "size", "scale_x", "scale_y", "offset_x", "offset_y")
"""The fields of `View`, stored so that a score needs no model."""

MEASURES = ("dice", "iou", "recall", "pointing_game", "cnr")

COLUMNS = (*KEYS, "grid_h", "grid_w", "grid", *GEOMETRY, "resampling", "threshold", "truth")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is asked, and how thresholds are searched.

    template: `{}` stands for the finding. sweep: so many thresholds, at evenly spaced quantiles of
    the maps' values: 99 are the percentiles.
    """

    template: str = "{}"
    sweep: int = 99
    version: int = 1


PROTOCOLS: Mapping[str, Protocol] = {
    "g2d": Protocol(),
    "biovil": Protocol(template="Findings consistent with {}"),
}


class Pair(NamedTuple):
    """A finding that an image shows: where it is, and the model's map of it.

    truth: run lengths of (H, W); grid (h, w) over the input; `view` leads from one to the other.
    """

    id: str
    patient: str
    finding: str
    truth: str
    grid: NDArray[np.float32]
    geometry: InputGeometry
    resampling: Resampling

    def maps(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(H, W) relevance, NaN where the model saw nothing, and (H, W) truth.

        BadResult for run lengths that are not of this image.
        """
        # The truth first: it refuses a size that would not fit into memory.
        truth = rle.decode(self.truth, (self.geometry.height, self.geometry.width))
        return self.geometry.map_to_image(self.grid, self.resampling), truth


def predict(model: Model, run: Run[Protocol]) -> pd.DataFrame:
    """One row per test image and finding that it shows: map, geometry, threshold, truth.

    Columns id, patient, finding; grid (h x w numbers, row by row), grid_h, grid_w; the fields of
    `View`; resampling; threshold (predicted is what is greater); truth (run lengths).
    BadData where no test image shows a finding, or a threshold is needed and no validation image
    does.
    """
    if not isinstance(model, Locates):
        raise lacking(model, CARD)
    pairs = list(_pairs(model, model, run.test, run, "ground test"))
    if not pairs:
        raise BadData(
            f"none of the {len(run.test)} test images of {run.test.card.name} has a finding that "
            "is marked with a box or a mask: there is nothing to ground"
        )
    threshold = model.grounding.threshold
    if threshold is None:
        threshold = _chosen(list(_pairs(model, model, run.valid, run, "ground valid")), run)
    return pd.DataFrame([_row(pair, threshold) for pair in pairs], columns=COLUMNS)


def score(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, Score]:
    """`statistics` with their values and intervals."""
    return scores(statistics(predictions, protocol))


def statistics(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, PatientStatistic]:
    """Agreement of region and truth: means over images, then over findings; and of each finding.

    `dice`, `iou`, `recall` (of pixels), `pointing_game` and `cnr` as in metrics/grounding.py; a
    `cnr` that is infinite or has only one side is left out. `oracle_dice` and `oracle_iou` choose
    one threshold for all findings on the test truth, again in every resample: upper bounds, never
    comparable with the others. n counts the images.
    """
    check_columns(predictions, COLUMNS)
    rows = predictions.sort_values(["id", "finding"], ignore_index=True)
    pairs = [_stored(row) for row in rows.to_dict("records")]
    thresholds = rows["threshold"].to_numpy(np.float64)
    cuts = np.union1d(_sweep(pairs, protocol.sweep), thresholds)
    at = np.searchsorted(cuts, thresholds)
    measured = [_measured(pair, int(own), cuts) for pair, own in zip(pairs, at, strict=True)]
    singles = pd.DataFrame([single for single, _ in measured])
    table = to_wide(pd.concat([rows[[*KEYS]], singles], axis=1), MEASURES)
    found: dict[str, PatientStatistic] = {}
    for name in MEASURES:
        means = {f: mean_of(table[name][:, k]) for k, f in enumerate(table.findings)}
        found |= per_finding(name, table.patients, means, ~np.isnan(table[name]))
    for name in ("dice", "iou"):
        values = np.array([sweep[name] for _, sweep in measured])
        found[f"oracle_{name}"] = _oracle(values, rows, table)
    return found


def _measured(
    pair: Pair, own: int, cuts: NDArray[np.float64]
) -> tuple[dict[str, float], dict[str, NDArray[np.float64]]]:
    """One row's scores at its own threshold, `cuts[own]`, and its (S,) Dice and IoU at all."""
    relevance, truth = pair.maps()
    overlap = grounding.overlap_at(relevance, truth, cuts.tolist())
    sweep = {"dice": grounding.dice(overlap), "iou": grounding.iou(overlap)}
    contrast = grounding.cnr(relevance, truth)
    single = {
        "dice": float(sweep["dice"][own]),
        "iou": float(sweep["iou"][own]),
        "recall": float(grounding.recall(overlap)[own]),
        "pointing_game": grounding.pointing_game(relevance, truth),
        "cnr": contrast if np.isfinite(contrast) else float("nan"),
    }
    return single, sweep


def _oracle(
    values: NDArray[np.float64], predictions: pd.DataFrame, table: WideTable
) -> PatientStatistic:
    """The best mean over findings of the means over images, values (R, S), at one threshold."""
    images = {image: n for n, image in enumerate(sorted(predictions["id"].unique()))}
    place = predictions["id"].map(images).to_numpy(np.intp)
    parts = [(predictions["finding"] == finding).to_numpy() for finding in table.findings]

    def statistic(weights: NDArray[np.int64]) -> NDArray[np.float64]:
        drawn = [weights[:, place[part]] for part in parts]
        means = [
            ratio(times @ values[part], times.sum(axis=1)[:, None])
            for times, part in zip(drawn, parts, strict=True)
        ]
        return np.asarray(np.mean(means, axis=0).max(axis=1))

    return PatientStatistic(table.patients, statistic, len(images))


def _pairs(
    model: Model, locator: Locates, data: Dataset, run: Run[Protocol], title: str
) -> Iterator[Pair]:
    """What the data set's images show, in its order; BadData for a map that is not finite."""
    shown = _showing(data)
    findings = sorted({finding for sample in shown for finding in _truths(sample)})
    texts = [run.protocol.template.format(phrase(finding)) for finding in findings]
    frozen = FrozenEncoder(model, lambda x: [locator.locate(x, texts)], model.preprocess, run)
    for samples, (maps,) in encode_in_chunks(frozen, shown, run, title):
        grids = maps.float().cpu()
        for sample, finite in zip(samples, torch.isfinite(grids).flatten(1).all(1), strict=True):
            if not finite:
                raise BadData(
                    f"the map of image {sample.id} of {data.card.name} is not finite: "
                    "check the weights, or use --precision fp32"
                )
        for sample, by_finding in zip(samples, grids.numpy(), strict=True):
            geometry = model.preprocess.geometry(*sample.image.shape)
            for finding, truth in sorted(_truths(sample).items()):
                grid = by_finding[findings.index(finding)]
                names = (sample.id, sample.patient, finding)
                truth_runs = rle.encode(truth)
                yield Pair(*names, truth_runs, grid, geometry, locator.grounding.resampling)


def _showing(data: Dataset) -> Dataset:
    """The images on which something is marked."""
    marked = (data.table["has_boxes"] | data.table["has_masks"]).to_numpy(bool)
    rows = [int(row) for row in np.flatnonzero(marked) if _truths(data[int(row)])]
    return data.take(rows)


def _truths(sample: Sample) -> dict[str, NDArray[np.bool_]]:
    """finding -> (H, W): its mask, or the union of its boxes; without those that have no pixel."""
    masks = dict(sample.masks or {})
    boxes = [box for box in sample.boxes or () if box.finding not in masks]
    for finding in {box.finding for box in boxes}:
        own = [(box.x0, box.y0, box.x1, box.y1) for box in boxes if box.finding == finding]
        masks[finding] = grounding.box_mask(own, sample.image.shape)
    return {finding: mask for finding, mask in masks.items() if mask.any()}


def _chosen(pairs: Sequence[Pair], run: Run[Protocol]) -> float:
    """The threshold with the best Dice on these, of equal ones the lowest; mean as in `score`."""
    if not pairs:
        raise BadData(
            f"the model publishes no threshold, and none of the {len(run.valid)} validation images "
            f"of {run.valid.card.name} has a marked finding to choose one on: choose a data set "
            "whose validation part has some"
        )
    cuts = _sweep(pairs, run.protocol.sweep)
    dice = pd.DataFrame(
        grounding.dice(grounding.overlap_at(*pair.maps(), cuts.tolist())) for pair in pairs
    )
    means = dice.groupby([pair.finding for pair in pairs]).mean().mean()
    return float(cuts[int(means.to_numpy().argmax())])


def _sweep(pairs: Sequence[Pair], count: int) -> NDArray[np.float64]:
    """(S,) rising thresholds at evenly spaced quantiles of all grids' values; S <= count."""
    values = np.concatenate([pair.grid.ravel() for pair in pairs]).astype(np.float64)
    return np.unique(np.quantile(values, np.arange(1, count + 1) / (count + 1)))


def _row(pair: Pair, threshold: float) -> dict[str, object]:
    """A pair as it is stored."""
    grid_h, grid_w = pair.grid.shape
    return {
        "id": pair.id,
        "patient": pair.patient,
        "finding": pair.finding,
        "grid_h": grid_h,
        "grid_w": grid_w,
        "grid": pair.grid.ravel(),
        **asdict(pair.geometry),
        "resampling": pair.resampling,
        "threshold": threshold,
        "truth": pair.truth,
    }


def _stored(row: dict[Hashable, Any]) -> Pair:
    """A stored row as a pair; BadResult for what cannot have been written."""
    try:
        grid = np.array(row["grid"], np.float32).reshape(int(row["grid_h"]), int(row["grid_w"]))
        numbers = [row["threshold"], *(row[name] for name in GEOMETRY)]
        broken = grid.size == 0 or not (np.isfinite(grid).all() and np.isfinite(numbers).all())
    except (ValueError, TypeError, OverflowError):
        broken = True
    if broken or row["resampling"] not in get_args(Resampling):
        raise BadResult(
            f"the map of {row['finding']!r} on image {row['id']!r} cannot be scored: its grid, "
            "geometry, threshold or resampling is broken"
        )
    geometry = InputGeometry(**{name: row[name] for name in GEOMETRY})
    names = (row["id"], row["patient"], row["finding"])
    return Pair(*names, row["truth"], grid, geometry, row["resampling"])
