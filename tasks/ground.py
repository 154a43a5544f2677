"""Zero-shot grounding: a text prompt's map compared with the annotated finding.

Source: G2D paper, sections 4.1 and A.4: BioViL's pipeline (hi-ml vlp/inference_engine.py), the map
of a prompt resized to the image, on RSNA and SIIM; recall, IoU and Dice. As in MedKLIP
(Sample_Zero-Shot_Grounding_RSNA/test.py), only findings that are present are prompted.
Settings: a model's published threshold if it has one, else one threshold for all findings: the
quantile of the maps' values with the best Dice on the validation split. (Quantiles, because models
differ in their range of values.)
Difference from the papers: neither states how BioViL's map is thresholded.
Ground truth: the finding's mask, or the union of its boxes if it has no mask. Scores are computed
in image pixels; pixels outside the model's crop are never predicted.

Legend: N images, K findings, T texts, R rows (one per image and present finding), S thresholds,
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
from g2dbench.model import Locates, Model, missing_capability
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
    order=50,
)

GEOMETRY = ("height", "width", "size", "scale_x", "scale_y", "offset_x", "offset_y")
"""The fields of `InputGeometry`, stored so that scoring needs no model."""

MEASURES = ("dice", "iou", "recall", "pointing_game", "cnr")

COLUMNS = (*KEYS, "grid_h", "grid_w", "grid", *GEOMETRY, "resampling", "threshold", "truth")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Settings of prompt and threshold search.

    template: the prompt, with `{}` for the finding. sweep: number of candidate thresholds, evenly
    spaced quantiles of the maps' values; 99 gives the percentiles.
    """

    template: str = "{}"
    sweep: int = 99
    version: int = 1


PROTOCOLS: Mapping[str, Protocol] = {
    "g2d": Protocol(),
    "biovil": Protocol(template="Findings consistent with {}"),
}


class Pair(NamedTuple):
    """A finding that is present in an image: its ground truth and the model's map.

    truth: run lengths of (H, W). grid: the map, (h, w) over the input; `geometry` maps it to image
    pixels.
    """

    id: str
    patient: str
    finding: str
    truth: str
    grid: NDArray[np.float32]
    geometry: InputGeometry
    resampling: Resampling

    def maps(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(H, W) relevance map, NaN outside the crop, and (H, W) ground truth.

        BadResult for run lengths that do not fit the image.
        """
        # The ground truth first: decoding refuses a size that does not fit into memory.
        truth = rle.decode(self.truth, (self.geometry.height, self.geometry.width))
        return self.geometry.map_to_image(self.grid, self.resampling), truth


def predict(model: Model, run: Run[Protocol]) -> pd.DataFrame:
    """One row per test image and present finding: map, geometry, threshold, ground truth.

    Columns id, patient, finding; grid (h x w numbers, row by row), grid_h, grid_w; the fields of
    `InputGeometry`; resampling; threshold (pixels above it are predicted); truth (run lengths).
    BadData if no test image has a finding, or if a threshold is needed and no validation image
    has one.
    """
    if not isinstance(model, Locates):
        raise missing_capability(model, CARD)
    pairs = list(_pairs(model, model, run.test, run, "ground test"))
    if not pairs:
        raise BadData(
            f"none of the {len(run.test)} test images of {run.test.card.name} has a finding that "
            "is annotated with a box or a mask: there is nothing to ground"
        )
    threshold = model.grounding.threshold
    if threshold is None:
        threshold = _best_threshold(list(_pairs(model, model, run.valid, run, "ground valid")), run)
    return pd.DataFrame([_row(pair, threshold) for pair in pairs], columns=COLUMNS)


def score(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, Score]:
    """The value and the confidence interval of each of `statistics`."""
    return scores(statistics(predictions, protocol))


def statistics(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, PatientStatistic]:
    """Scores per image, averaged over images, then over findings.

    `dice`, `iou`, `recall` (of pixels), `pointing_game` and `cnr` as in metrics/grounding.py; an
    infinite or undefined `cnr` is excluded. `oracle_dice` and `oracle_iou` choose one threshold for
    all findings on the test ground truth, again in each resample: upper bounds, not comparable with
    the others. n: images.
    """
    check_columns(predictions, COLUMNS)
    rows = predictions.sort_values(["id", "finding"], ignore_index=True)
    pairs = [_read_row(row) for row in rows.to_dict("records")]
    thresholds = rows["threshold"].to_numpy(np.float64)
    candidates = np.union1d(_candidates(pairs, protocol.sweep), thresholds)
    own = np.searchsorted(candidates, thresholds)
    measured = [_measure(pair, int(k), candidates) for pair, k in zip(pairs, own, strict=True)]
    row_scores = pd.DataFrame([scores for scores, _ in measured])
    table = to_wide(pd.concat([rows[[*KEYS]], row_scores], axis=1), MEASURES)
    found: dict[str, PatientStatistic] = {}
    for name in MEASURES:
        means = {f: mean_of(table[name][:, k]) for k, f in enumerate(table.findings)}
        found |= per_finding(name, table.patients, means, ~np.isnan(table[name]))
    for name in ("dice", "iou"):
        values = np.array([curves[name] for _, curves in measured])
        found[f"oracle_{name}"] = _oracle(values, rows, table)
    return found


def _measure(
    pair: Pair, own: int, candidates: NDArray[np.float64]
) -> tuple[dict[str, float], dict[str, NDArray[np.float64]]]:
    """A row's scores at its threshold, `candidates[own]`; its Dice and IoU at all of them, (S,)."""
    relevance, truth = pair.maps()
    overlap = grounding.overlap_at(relevance, truth, candidates.tolist())
    curves = {"dice": grounding.dice(overlap), "iou": grounding.iou(overlap)}
    contrast = grounding.cnr(relevance, truth)
    scores_of_row = {
        "dice": float(curves["dice"][own]),
        "iou": float(curves["iou"][own]),
        "recall": float(grounding.recall(overlap)[own]),
        "pointing_game": grounding.pointing_game(relevance, truth),
        "cnr": contrast if np.isfinite(contrast) else float("nan"),
    }
    return scores_of_row, curves


def _oracle(
    values: NDArray[np.float64], predictions: pd.DataFrame, table: WideTable
) -> PatientStatistic:
    """The best mean, over images and then findings, at one threshold; values (R, S)."""
    image_index = {image: n for n, image in enumerate(sorted(predictions["id"].unique()))}
    image_of_row = predictions["id"].map(image_index).to_numpy(np.intp)
    rows_of = [(predictions["finding"] == finding).to_numpy() for finding in table.findings]

    def statistic(weights: NDArray[np.int64]) -> NDArray[np.float64]:
        counts = [weights[:, image_of_row[rows]] for rows in rows_of]
        means = [
            ratio(count @ values[rows], count.sum(axis=1)[:, None])
            for count, rows in zip(counts, rows_of, strict=True)
        ]
        return np.asarray(np.mean(means, axis=0).max(axis=1))

    return PatientStatistic(table.patients, statistic, len(image_index))


def _pairs(
    model: Model, locator: Locates, data: Dataset, run: Run[Protocol], title: str
) -> Iterator[Pair]:
    """Yield each image's present findings with maps, in order; BadData if a map is not finite."""
    images = _images_with_findings(data)
    findings = sorted({finding for sample in images for finding in _truths(sample)})
    texts = [run.protocol.template.format(phrase(finding)) for finding in findings]
    frozen = FrozenEncoder(
        model, lambda x: [locator.locate(x, texts)], model.preprocess, run, f"locate {texts}"
    )
    for samples, (maps,) in encode_in_chunks(frozen, images, run, title):
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


def _images_with_findings(data: Dataset) -> Dataset:
    """The images with a box or a mask that is not empty."""
    annotated = (data.table["has_boxes"] | data.table["has_masks"]).to_numpy(bool)
    rows = [int(row) for row in np.flatnonzero(annotated) if _truths(data[int(row)])]
    return data.take(rows)


def _truths(sample: Sample) -> dict[str, NDArray[np.bool_]]:
    """finding -> (H, W) mask, or union of its boxes if it has no mask; without empty ones."""
    masks = dict(sample.masks or {})
    boxes = [box for box in sample.boxes or () if box.finding not in masks]
    for finding in {box.finding for box in boxes}:
        corners = [(box.x0, box.y0, box.x1, box.y1) for box in boxes if box.finding == finding]
        masks[finding] = grounding.box_mask(corners, sample.image.shape)
    return {finding: mask for finding, mask in masks.items() if mask.any()}


def _best_threshold(pairs: Sequence[Pair], run: Run[Protocol]) -> float:
    """The (lowest) threshold with the best Dice on these pairs, averaged as in `statistics`."""
    if not pairs:
        raise BadData(
            f"the model publishes no threshold, and none of the {len(run.valid)} validation images "
            f"of {run.valid.card.name} has an annotated finding to choose one: choose a data set "
            "whose validation split has some"
        )
    candidates = _candidates(pairs, run.protocol.sweep)
    dice = pd.DataFrame(
        grounding.dice(grounding.overlap_at(*pair.maps(), candidates.tolist())) for pair in pairs
    )
    means = dice.groupby([pair.finding for pair in pairs]).mean().mean()
    return float(candidates[int(means.to_numpy().argmax())])


def _candidates(pairs: Sequence[Pair], count: int) -> NDArray[np.float64]:
    """(S,) increasing thresholds at evenly spaced quantiles of all maps' values; S <= count."""
    values = np.concatenate([pair.grid.ravel() for pair in pairs]).astype(np.float64)
    return np.unique(np.quantile(values, np.arange(1, count + 1) / (count + 1)))


def _row(pair: Pair, threshold: float) -> dict[str, object]:
    """The stored row of a pair."""
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


def _read_row(row: dict[Hashable, Any]) -> Pair:
    """The pair of a stored row; BadResult if the row is broken."""
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
