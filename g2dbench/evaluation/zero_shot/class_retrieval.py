"""Class retrieval: the share of a query's nearest items that are of its class (CheXpert 8x200).

Legend: N images, Q queries, D width.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from g2dbench.data.reports.cleaning import CleaningName
from g2dbench.dataset import Dataset
from g2dbench.errors import BadData, BadResult
from g2dbench.evaluation.prediction_table import labeled_findings, labels
from g2dbench.evaluation.prompts import PromptSet
from g2dbench.evaluation.zero_shot.embeddings import embed_images, embed_texts
from g2dbench.metrics.aggregate import PatientStatistic, mean_over, per_finding
from g2dbench.metrics.bootstrap import mean_of
from g2dbench.metrics.retrieval import class_precisions
from g2dbench.model import Embeds, Model
from g2dbench.sample import PRESENT
from g2dbench.task import Run
from g2dbench.training.batches.pair_loader import find_pairs

KS = (1, 5, 10, 100)
COLUMNS = ("id", "patient", "direction", "finding", *(f"p{k}" for k in KS), "chance")
FROM_IMAGES = ("image_to_image", "image_to_text")
FROM_TEXTS = ("text_to_image",)

_VALUES: Mapping[str, str] = {
    "r1": "p1",
    "p5": "p5",
    "p10": "p10",
    "p100": "p100",
    "chance": "chance",
}
"""Metric -> column."""


@dataclass(frozen=True)
class _Items:
    """Queries or pool items: names, patients and classes (Q,), embeddings (Q, D)."""

    ids: Sequence[str]
    patients: Sequence[str]
    classes: Sequence[str]
    embeddings: Tensor


def predict(
    model: Model, run: Run[Any], per_class: int, prompts: PromptSet, cleaning: CleaningName
) -> pd.DataFrame:
    """One row per query and direction, see `COLUMNS`.

    p1 ... p100: precision, NaN if the pool is smaller than k. chance: share of the pool with the
    query's class. The query itself, and an image's own report, are left out of the pool. A sentence
    is a query with a patient of its own.
    """
    assert isinstance(model, Embeds)
    data, classes = _single_class_images(run, per_class)
    ids = data.table["id"].astype(str).tolist()
    images = _Items(ids, data.table["patient"].tolist(), classes, embed_images(model, data, run))
    tables = [_rows("image_to_image", images, images, np.arange(len(ids)))]
    pairs = find_pairs(data, "all", cleaning)
    if len(pairs) > 1:
        class_of = dict(zip(ids, classes, strict=True))
        embedded = embed_texts(model, pairs.reports, run)
        reports = _Items(pairs.ids, pairs.ids, [class_of[name] for name in pairs.ids], embedded)
        place = {name: at for at, name in enumerate(pairs.ids)}
        own = np.array([place.get(name, -1) for name in ids])
        tables.append(_rows("image_to_text", images, reports, own))
    sentences = _sentences(model, prompts, sorted(set(classes)), run)
    if sentences is not None:
        tables.append(_rows("text_to_image", sentences, images, None))
    run.details["pool"] = {
        "images": len(ids),
        "images_by_class": {name: classes.count(name) for name in sorted(set(classes))},
        "reports": len(pairs),
        "sentences": 0 if sentences is None else len(sentences.ids),
        "prompts": prompts.label,
    }
    return pd.concat(tables, ignore_index=True)


def statistics(rows: pd.DataFrame) -> dict[str, PatientStatistic]:
    """Each direction's metrics, of each class and averaged over classes, `image_to_image_p5:Edema`.

    `r1`, `p5` ... are the means of the directions with image queries. The published sets have as
    many images of each class, so that a mean over queries is the same. BadResult names a query
    whose value is missing or no share.
    """
    found: dict[str, PatientStatistic] = {}
    for directions in (FROM_IMAGES, FROM_TEXTS):
        part = rows[rows["direction"].isin(directions)]
        patients = part["patient"].to_numpy(object)
        for name, column in _VALUES.items():
            whole = []
            for direction in part["direction"].unique():
                full = f"{direction}_{name}"
                found |= _of_direction(full, part, direction, column, patients)
                whole.append(found[full].statistic)
            if directions == FROM_IMAGES and whole:
                found[name] = PatientStatistic(patients, mean_over(whole), part["id"].nunique())
    return found


def _of_direction(
    name: str, part: pd.DataFrame, direction: str, column: str, patients: NDArray[np.object_]
) -> dict[str, PatientStatistic]:
    chosen = (part["direction"] == direction).to_numpy()
    value = part[column].to_numpy(np.float64)
    wrong = part["id"][chosen & ~((value >= 0) & (value <= 1))]
    if len(wrong) and not np.isnan(value[chosen]).all():  # all: the pool is smaller than k
        raise BadResult(f"{column} of the query {wrong.iloc[0]!r} is no share from 0 to 1")
    classes = sorted(part["finding"][chosen].unique())
    of_class = [chosen & (part["finding"] == each).to_numpy() for each in classes]
    values = [np.where(rows, value, np.nan) for rows in of_class]
    means = {each: mean_of(of) for each, of in zip(classes, values, strict=True)}
    return per_finding(name, patients, means, ~np.isnan(np.column_stack(values)))


def _single_class_images(run: Run[Any], per_class: int) -> tuple[Dataset, list[str]]:
    """The images with one present label alone, at most `per_class` of each, and their classes.

    Of more, those with the smallest SHA-256 of their id.
    """
    findings = labeled_findings(run.test)
    present = labels(run.test, findings) == PRESENT
    ids = run.test.table["id"].astype(str).tolist()
    digest = [hashlib.sha256(name.encode()).hexdigest() for name in ids]
    rows: list[int] = []
    for k in range(len(findings)):
        alone = np.flatnonzero(present[:, k] & (present.sum(axis=1) == 1)).tolist()
        if len(alone) > 1:  # a query needs another item of its class
            rows += sorted(alone, key=digest.__getitem__)[:per_class]
    classes = [findings[int(present[row].argmax())] for row in rows]
    if len(set(classes)) < 2:
        raise BadData(
            f"the test images of {run.test.card.name} with one label alone are of "
            f"{len(set(classes))} classes with two images: class retrieval needs two classes"
        )
    return run.test.take(rows), classes


def _sentences(
    embedder: Embeds, prompts: PromptSet, classes: Sequence[str], run: Run[Any]
) -> _Items | None:
    """The prompts of the classes as queries; None if the set has none of these classes."""
    asked = [
        (name, text) for name in classes for text in dict.fromkeys(prompts.prompts(name).positive)
    ]
    if not asked:
        return None
    texts = [text for _, text in asked]
    return _Items(
        [f"text:{name}:{text}" for name, text in asked],
        [f"text:{name}" for name, _ in asked],
        [name for name, _ in asked],
        embed_texts(embedder, texts, run),
    )


def _rows(
    direction: str, query: _Items, pool: _Items, own: NDArray[np.intp] | None
) -> pd.DataFrame:
    """The rows of one direction; own (Q,): the place of the query itself in the pool, or -1."""
    left_out = np.zeros(len(query.ids), bool) if own is None else own >= 0
    size = len(pool.ids) - int(left_out.any())
    ks = [k for k in KS if k <= size]
    found = np.full((len(query.ids), len(KS)), np.nan)
    found[:, : len(ks)] = class_precisions(
        query.embeddings, pool.embeddings, query.classes, pool.classes, ks, own
    )
    same = np.array([pool.classes.count(name) for name in query.classes])
    return pd.DataFrame(
        {
            "id": query.ids,
            "patient": query.patients,
            "direction": direction,
            "finding": query.classes,
            **{f"p{k}": found[:, at] for at, k in enumerate(KS)},
            "chance": (same - left_out) / (len(pool.ids) - left_out),
        }
    )
