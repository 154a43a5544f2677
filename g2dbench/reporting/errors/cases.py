"""Cases of a result: single images and findings, sorted into hits, false positives and misses.

A case comes from one row of stored predictions. What the row contains decides how it is judged:

    truth, score, and claim, threshold or exclusive   a decision (classification)
    truth, predicted, height, width                   a mask (segmentation)
    boxes, scores, truth                              boxes (detection)
    grid, truth, threshold                            a map (grounding)

No task is known by name, so that a task of your own with one of these forms has cases too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from g2dbench.data.annotations import rle
from g2dbench.errors import BadResult
from g2dbench.evaluation.prediction_table import KEYS
from g2dbench.metrics.classification import labeled
from g2dbench.metrics.grounding import overlap_at
from g2dbench.preprocess import InputGeometry, Resampling
from g2dbench.reporting.stored_results import stored_values
from g2dbench.sample import PRESENT

Kind = Literal["true positive", "false positive", "miss"]
KINDS: tuple[Kind, ...] = ("true positive", "false positive", "miss")

MATCH_IOU = 0.5
"""IoU from which a detected box counts as a hit."""

HIT_DICE = 0.5
"""Dice from which a predicted mask counts as a hit; below it, the finding is missed."""


@dataclass(frozen=True)
class Case:
    """One image and finding.

    strength: how clear the case is, in the unit of `measure`: sorted by it in decreasing order, the
    surest hits, the worst false positives and the worst misses come first. value: what is shown:
    the score, the Dice or the confidence. row: the position in the table of predictions.
    """

    id: str
    patient: str
    finding: str
    kind: Kind
    value: float
    strength: float
    measure: str
    row: int


def find_cases(table: pd.DataFrame) -> list[Case]:
    """The cases of a table of predictions, the clearest first; true negatives are none.

    BadResult if the table has none of the known forms, or broken masks or boxes.
    """
    columns = set(table.columns)
    for needed, judge in _FORMS:
        if needed <= columns:
            with stored_values("these predictions"):
                found = judge(table.reset_index(drop=True))
            return sorted(found, key=lambda case: (-case.strength, case.id, case.finding))
    raise BadResult(
        "these predictions have no cases to show: they contain neither decisions, masks, boxes nor "
        f"maps, but the columns {', '.join(map(str, table.columns))}"
    )


def _decisions(table: pd.DataFrame) -> list[Case]:
    truth = table["truth"].to_numpy(np.float64)
    score = table["score"].to_numpy(np.float64)
    claimed = _claims(table, score)
    known = labeled(truth) & np.isfinite(score)
    present = truth == PRESENT
    found = []
    for row in np.flatnonzero(known & (claimed | present)):
        kind: Kind = "false positive" if not present[row] else "miss"
        if claimed[row] and present[row]:
            kind = "true positive"
        strength = -score[row] if kind == "miss" else score[row]
        found.append(_case(table, int(row), kind, score[row], strength, "score"))
    return found


def _claims(table: pd.DataFrame, score: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each row says "present": as stored, by the threshold, or as the image's best."""
    if "claim" in table:
        return np.asarray(table["claim"].to_numpy(np.float64) == PRESENT)
    exclusive = (
        table["exclusive"].to_numpy(bool) if "exclusive" in table else np.zeros(len(table), bool)
    )
    best = score == table.groupby("id")["score"].transform("max").to_numpy(np.float64)
    by_threshold = score >= table["threshold"].to_numpy(np.float64)
    return np.asarray(np.where(exclusive, best, by_threshold), bool)


def _masks(table: pd.DataFrame) -> list[Case]:
    found = []
    for row, (truth, predicted, height, width) in enumerate(
        zip(*(table[name] for name in ("truth", "predicted", "height", "width")), strict=True)
    ):
        if not isinstance(truth, str):
            continue  # not annotated
        both = rle.overlap(truth, predicted, (int(height), int(width)))
        if both.first == 0 and both.second == 0:
            continue
        if both.first == 0:
            share = both.second / (int(height) * int(width))
            found.append(_case(table, row, "false positive", share, share, "share of the image"))
            continue
        dice = 2 * both.intersection / (both.first + both.second)
        found.append(_overlap_case(table, row, dice))
    return found


def _overlap_case(table: pd.DataFrame, row: int, dice: float) -> Case:
    kind: Kind = "true positive" if dice >= HIT_DICE else "miss"
    return _case(table, row, kind, dice, dice if kind == "true positive" else -dice, "Dice")


def _boxes(table: pd.DataFrame) -> list[Case]:
    found = []
    for row, stored in enumerate(
        zip(*(table[name] for name in ("boxes", "scores", "truth")), strict=True)
    ):
        boxes, scores, truth = boxes_of(*stored)
        overlap = _iou(boxes, truth)
        hit = overlap.max(axis=1, initial=0.0) >= MATCH_IOU
        if hit.any():
            best = float(scores[hit].max())
            found.append(_case(table, row, "true positive", best, best, "confidence"))
        if (~hit).any():
            worst = float(scores[~hit].max())
            found.append(_case(table, row, "false positive", worst, worst, "confidence"))
        if len(truth) and (overlap.max(axis=0, initial=0.0) < MATCH_IOU).any():
            nearest = float(overlap.max(axis=0, initial=0.0).min())
            found.append(_case(table, row, "miss", nearest, -nearest, "IoU"))
    return found


def boxes_of(
    boxes: Any, scores: Any, truth: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Boxes (D, 4), their scores (D,) and ground truth (T, 4) of a row; BadResult if broken."""
    try:
        detected, confidence, true = (
            np.asarray([] if each is None else each, np.float64) for each in (boxes, scores, truth)
        )
        detected, true = detected.reshape(-1, 4), true.reshape(-1, 4)
    except (ValueError, TypeError) as error:
        raise BadResult(f"stored boxes cannot be read: {error}") from error
    if len(detected) != confidence.size:
        raise BadResult(f"{len(detected)} boxes are stored with {confidence.size} scores")
    return detected, confidence, true


def _iou(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """(D, 4), (T, 4) xyxy -> (D, T)."""
    corner = np.maximum(one[:, None, :2], other[None, :, :2])
    end = np.minimum(one[:, None, 2:], other[None, :, 2:])
    both = np.prod(np.clip(end - corner, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1][None] - both
    return np.asarray(np.divide(both, union, out=np.zeros_like(both), where=union > 0))


def _maps(table: pd.DataFrame) -> list[Case]:
    found = []
    for row, record in enumerate(table.to_dict("records")):
        relevance, truth = map_of(record)
        overlap = overlap_at(relevance, truth, [float(record["threshold"])])
        total = float(overlap.predicted[0]) + overlap.truth
        dice = 2 * float(overlap.intersection[0]) / total if total else 0.0
        found.append(_overlap_case(table, row, dice))
    return found


def map_of(record: dict[Any, Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(H, W) map, NaN outside the model's crop, and (H, W) ground truth; BadResult if broken."""
    names = ("height", "width", "size", "scale_x", "scale_y", "offset_x", "offset_y")
    try:
        whole = [int(record[name]) for name in names[:3]]
        geometry = InputGeometry(*whole, *(float(record[name]) for name in names[3:]))
        truth = rle.decode(record["truth"], (geometry.height, geometry.width))
        shape = int(record["grid_h"]), int(record["grid_w"])
        grid = np.array(record["grid"], np.float32).reshape(shape)
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise BadResult(f"a stored map cannot be read: {error}") from error
    if (name := record.get("resampling")) not in get_args(Resampling):
        raise BadResult(f"a stored map cannot be read: its resampling is {name!r}")
    return geometry.map_to_image(grid, cast(Resampling, name)), truth


def _case(
    table: pd.DataFrame, row: int, kind: Kind, value: float, strength: float, measure: str
) -> Case:
    image, patient, finding = (str(table[key].iat[row]) for key in KEYS)
    return Case(image, patient, finding, kind, float(value), float(strength), measure, row)


_FORMS: tuple[tuple[frozenset[str], Callable[[pd.DataFrame], list[Case]]], ...] = (
    (frozenset({"grid", "grid_h", "grid_w", "truth", "threshold"}), _maps),
    (frozenset({"boxes", "scores", "truth", "finding"}), _boxes),
    (frozenset({"predicted", "truth", "height", "width", "finding"}), _masks),
    (frozenset({"truth", "score", "claim", "finding"}), _decisions),
    (frozenset({"truth", "score", "threshold", "finding"}), _decisions),
)
