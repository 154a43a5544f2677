"""Zero-shot grounding: a text prompt's map compared with the annotated finding.

Source: G2D paper, sections 4.1 and A.4: BioViL's pipeline (hi-ml vlp/inference_engine.py), the map
of a prompt resized to the image, on RSNA and SIIM; recall, IoU and Dice. As in MedKLIP
(Sample_Zero-Shot_Grounding_RSNA/test.py), only findings that are present are prompted. A data set
of phrases (MS-CXR) is asked for each phrase itself.
Thresholds: "model" is a model's published threshold if it has one, else that of "valid": one
threshold for all findings, the quantile of the maps' values with the best Dice on the validation
split. (Quantiles, because models differ in their range of values.) A number is a fixed threshold.
Ground truth: the finding's mask, or the union of its boxes if it has no mask. Scores are computed
in image pixels; pixels outside the model's crop are never predicted.
Differences from the papers: none states how BioViL's map is thresholded. MedKLIP equalizes the
histogram of RSNA's images and scores in 224 x 224 pixels; here are the model's usual preprocessing
and the image's own pixels.

Legend: N images, K findings, R rows (one per image and present finding), S thresholds, B resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from g2dbench.cards import TaskCard
from g2dbench.dataset import Dataset
from g2dbench.errors import BadData, BadResult, Unsupported
from g2dbench.evaluation.prediction_table import check_columns, check_patients
from g2dbench.evaluation.zero_shot.located_maps import (
    COLUMNS,
    Pair,
    Question,
    candidate_thresholds,
    locate_findings,
    read_row,
)
from g2dbench.metrics import grounding, heatmap
from g2dbench.metrics.aggregate import PatientStatistic, mean_over, scores
from g2dbench.metrics.bootstrap import mean_of
from g2dbench.metrics.ratio import ratio
from g2dbench.metrics.segmentation import AREA_SHARES, only_areas
from g2dbench.model import Locates, Matches, Model, missing_capability
from g2dbench.result import Score
from g2dbench.task import Run

CARD = TaskCard(
    name="ground",
    summary="Zero-shot grounding: a prompt's map against the marked finding.",
    needs=("locates",),
    annotations=("boxes", "masks"),
    protocols=("g2d", "biovil", "medklip", "valid", "contrast"),
    metric="dice",
    source="G2D paper, sections 4.1 and A.4; hi-ml vlp/inference_engine.py; MedKLIP grounding",
    fits=False,
    order=50,
)

AT_THRESHOLD = ("dice", "iou", "recall", "precision")
MEASURES = (*AT_THRESHOLD, "miou", *heatmap.MAP_METRICS)
BY_SIZE = ("dice", "iou", "pointing_game")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Settings of prompt and threshold.

    template: the prompt, with `{}` for the finding. negative: a text whose map is subtracted, with
    or without `{}`; "" for none. findings: those to ask for; None for all.
    threshold: see the module's docstring. sweep: number of candidate thresholds, evenly spaced
    quantiles of the maps' values; 99 gives the percentiles. attention: only for models whose maps
    are the attention of a query (MedKLIP, KAD).
    """

    template: str = "{}"
    negative: str = ""
    findings: tuple[str, ...] | None = None
    threshold: float | Literal["model", "valid"] = "model"
    sweep: int = 99
    attention: bool = False
    version: int = 1


PROTOCOLS: Mapping[str, Protocol] = {
    "g2d": Protocol(),
    "biovil": Protocol(template="Findings consistent with {}"),
    "medklip": Protocol(threshold=grounding.MEDKLIP_THRESHOLD, attention=True),
    "valid": Protocol(threshold="valid"),
    "contrast": Protocol(negative="no acute cardiopulmonary abnormality", threshold="valid"),
}


def predict(model: Model, run: Run[Protocol]) -> pd.DataFrame:
    """One row per test image and present finding: map, geometry, threshold, ground truth.

    Columns id, patient, finding, group; grid (h x w numbers, row by row), grid_h, grid_w; the
    fields of `InputGeometry`; resampling; threshold (pixels above it are predicted); truth (run
    lengths). BadData if no test image has a finding, or if a threshold is needed and no validation
    image has one.
    """
    if not isinstance(model, Locates):
        raise missing_capability(model, CARD)
    if run.protocol.attention and not isinstance(model, Matches):
        raise Unsupported(
            f"this protocol's threshold, {run.protocol.threshold:g}, is for attention weights of a "
            f"model that matches findings; the maps of {model.identity.label} are cosines: "
            "choose another --protocol"
        )
    pairs = _located(model, model, run, run.test, "ground test")
    if not pairs:
        asked = ", ".join(run.protocol.findings or ("a finding",))
        raise BadData(
            f"none of the {len(run.test)} test images of {run.test.card.name} has {asked} "
            "annotated with a box or a mask: there is nothing to ground"
        )
    threshold = _threshold(model, model, run)
    rows = [pair.row(threshold) for pair in pairs]
    return pd.DataFrame(rows, columns=[*COLUMNS[:3], "group", *COLUMNS[3:]])


def score(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, Score]:
    """The value and the confidence interval of each of `statistics`."""
    return scores(statistics(predictions, protocol))


def statistics(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, PatientStatistic]:
    """Scores per image, averaged over images, then over findings; phrases are one group.

    dice, iou, recall, precision  of pixels, at the threshold; `_small`, `_medium`, `_large`: of
                                  findings of this size (`segmentation.AREA_SHARES`)
    miou                          mean IoU at the thresholds .1, .2, .3, .4 and .5 (BioViL)
    pointing_game, cnr, signed_cnr, pixel_auc, pixel_ap, aupro, share_inside
                                  of the map, without a threshold (metrics/heatmap.py); an infinite
                                  or undefined value is excluded
    aupro_pooled                  AUPRO over the regions and pixels of all images, as published
    oracle_dice, oracle_iou       one threshold for all findings, chosen on the test ground truth,
                                  again in each resample: upper bounds, not comparable with others

    n: images. BadResult names the image if a row is broken.
    """
    rows = _sorted_rows(predictions)
    pairs = [read_row(row) for row in rows.to_dict("records")]
    thresholds = rows["threshold"].to_numpy(np.float64)
    candidates = np.union1d(candidate_thresholds(pairs, protocol.sweep), thresholds)
    own = np.searchsorted(candidates, thresholds)
    measured = [_measure(pair, int(k), candidates) for pair, k in zip(pairs, own, strict=True)]
    table = _Rows(rows, [pair.group for pair in pairs])
    values = pd.DataFrame([each.values for each in measured])
    found: dict[str, PatientStatistic] = {}
    for name in MEASURES:
        found |= table.means(name, values[name].to_numpy(np.float64))
    for size, limits in AREA_SHARES.items():
        for name in BY_SIZE:
            of_size = only_areas(values[name], values["area"], limits)
            found[f"{name}_{size}"] = table.means(f"{name}_{size}", of_size)[f"{name}_{size}"]
    pooled = heatmap.PooledAupro([each.regions for each in measured])
    found["aupro_pooled"] = PatientStatistic(table.patients, pooled, table.images(None))
    for name in ("dice", "iou"):
        found[f"oracle_{name}"] = table.oracle(np.array([each.curves[name] for each in measured]))
    return found


def _sorted_rows(predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows by image and finding; BadResult if one occurs twice or has no patient."""
    check_columns(predictions, COLUMNS)
    check_patients(predictions)
    twice = predictions[predictions.duplicated(["id", "finding"])]
    if len(twice):
        row = twice.iloc[0]
        raise BadResult(f"the predictions hold {row['finding']!r} of image {row['id']!r} twice")
    return predictions.sort_values(["id", "finding"], ignore_index=True)


@dataclass(frozen=True)
class _Measured:
    """One row: its values by name, Dice and IoU at all candidate thresholds, its regions."""

    values: dict[str, float]
    curves: dict[str, NDArray[np.float64]]
    regions: heatmap.RegionOverlap


def _measure(pair: Pair, own: int, candidates: NDArray[np.float64]) -> _Measured:
    """A row's scores at its threshold, `candidates[own]`, and those without a threshold."""
    relevance, truth = pair.maps()
    overlap = grounding.overlap_at(relevance, truth, candidates.tolist())
    curves = {name: getattr(grounding, name)(overlap) for name in AT_THRESHOLD}
    cosine = grounding.iou(grounding.overlap_at(relevance, truth, grounding.COSINE_THRESHOLDS))
    values = {
        **{name: float(curve[own]) for name, curve in curves.items()},
        **heatmap.map_values(relevance, truth),
        "miou": float(cosine.mean()),
        "area": float(truth.mean()),
    }
    regions = heatmap.region_overlap_at(relevance, truth, candidates.tolist())
    return _Measured(values, curves, regions)


class _Rows:
    """The rows of a table, sorted, with the group of findings of each."""

    def __init__(self, rows: pd.DataFrame, groups: Sequence[str]) -> None:
        self.patients = rows["patient"].to_numpy(object)
        self._ids = rows["id"].to_numpy(object)
        of_row = np.array(groups, object)
        self._groups = {name: of_row == name for name in sorted(set(groups))}

    def images(self, chosen: NDArray[np.bool_] | None) -> int:
        """The number of images of these rows, None for all."""
        return len(set(self._ids if chosen is None else self._ids[chosen]))

    def means(self, name: str, values: NDArray[np.float64]) -> dict[str, PatientStatistic]:
        """`name:<group>` and `name`, the mean over the groups with a value; values (R,)."""
        each, defined = {}, ~np.isnan(values)
        for group, chosen in self._groups.items():
            of_group = mean_of(np.where(chosen, values, np.nan))
            count = self.images(chosen & defined)
            each[f"{name}:{group}"] = PatientStatistic(self.patients, of_group, count)
        known = [metric.statistic for metric in each.values() if metric.n]
        whole = PatientStatistic(self.patients, mean_over(known), self.images(defined))
        return {name: whole, **each}

    def oracle(self, values: NDArray[np.float64]) -> PatientStatistic:
        """The best mean, over rows and then groups, at one threshold; values (R, S)."""
        groups = list(self._groups.values())

        def statistic(weights: NDArray[np.int64]) -> NDArray[np.float64]:
            counts = [weights[:, rows] for rows in groups]
            means = [
                ratio(count @ values[rows], count.sum(axis=1)[:, None])
                for count, rows in zip(counts, groups, strict=True)
            ]
            return np.asarray(np.mean(means, axis=0).max(axis=1))

        return PatientStatistic(self.patients, statistic, self.images(None))


def _located(
    model: Model, locator: Locates, run: Run[Protocol], images: Dataset, title: str
) -> list[Pair]:
    protocol = run.protocol
    return list(
        locate_findings(
            model,
            locator,
            images,
            run,
            title,
            Question(protocol.template, protocol.negative),
            protocol.findings,
        )
    )


def _threshold(model: Model, locator: Locates, run: Run[Protocol]) -> float:
    """The protocol's threshold; where it is from goes into the result's details."""
    wanted, published = run.protocol.threshold, locator.grounding.threshold
    if not isinstance(wanted, str):
        value, origin = float(wanted), "protocol"
    elif wanted == "model" and published is not None:
        value, origin = published, "model"
    else:
        pairs = _located(model, locator, run, run.valid, "ground valid")
        value, origin = _best_threshold(pairs, run), "validation"
    run.details["threshold"] = {"value": value, "from": origin}
    return value


def _best_threshold(pairs: Sequence[Pair], run: Run[Protocol]) -> float:
    """The (lowest) threshold with the best Dice on these pairs, averaged as in `statistics`."""
    if not pairs:
        raise BadData(
            f"a threshold must be chosen, and none of the {len(run.valid)} validation images "
            f"of {run.valid.card.name} has an annotated finding to choose one: choose a data set "
            "whose validation split has some"
        )
    candidates = candidate_thresholds(pairs, run.protocol.sweep)
    dice = pd.DataFrame(
        grounding.dice(grounding.overlap_at(*pair.maps(), candidates.tolist())) for pair in pairs
    )
    means = dice.groupby([pair.group for pair in pairs]).mean().mean()
    return float(candidates[int(means.to_numpy().argmax())])
