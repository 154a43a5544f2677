"""Retrieval over the full pool: images to reports and back, and images of the same class.

Protocol `full`: every test image that has a report, and the report of each. The pool is the whole
test split, never a batch. Items that share the study or have the same report, word for word, are
hits; `strict_` counts the query's own partner alone, and its copies as wrong answers. Reports of
healthy patients are often identical, so that the two differ much.
Protocol `class`: CheXpert 5x200 and 8x200 (GLoRIA, ConVIRT): images with one present label alone,
at most 200 of each, and the share of the k nearest items of the same class. Queries are images,
against the other images (ConVIRT) and against the reports of others (GLoRIA), and one sentence for
each class against the images.
Differences from the published code: BenchX retrieves within one batch, so that its Hit@k depends on
the batch size. GLoRIA keeps the query's own report in the pool; here it is left out, since `full`
asks for it. ConVIRT has 10 image queries and 5 text queries of each class, written by
radiologists, and is silent about them; here every image is a query, and MGCA's sentences are used.
The 200 images of a class are those with the smallest SHA-256 of their id.

Legend: N pairs or images, D width, Q queries.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from g2dbench.cards import TaskCard
from g2dbench.data.reports.cleaning import DEFAULT, CleaningName
from g2dbench.errors import BadData, BadResult, Unsupported
from g2dbench.evaluation.prediction_table import check_columns, check_patients
from g2dbench.evaluation.prompts import PromptSet, load_prompts
from g2dbench.evaluation.zero_shot import class_retrieval
from g2dbench.evaluation.zero_shot.embeddings import embed_images, embed_texts
from g2dbench.metrics import retrieval
from g2dbench.metrics.aggregate import PatientStatistic, mean_over, scores
from g2dbench.model import Embeds, Model, missing_capability
from g2dbench.result import Score
from g2dbench.sample import ViewFilter
from g2dbench.task import Run
from g2dbench.training.batches.pair_loader import find_pairs

CARD = TaskCard(
    name="retrieval",
    summary="Retrieval of reports and images over the full pool.",
    needs=("embeds",),
    annotations=("reports", "labels"),
    protocols=("full", "class"),
    metric="r1",
    source="Hodosh et al. 2013; ConVIRT and GLoRIA for `class`; MGCA mgca/constants.py",
    fits=False,
    order=60,
)

PAIR_COLUMNS = ("id", "patient", "direction", "rank", "strict_rank", "hits", "pool")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """cleaning, views: of the reports and images. per_class, prompts: of class retrieval."""

    kind: Literal["full", "class"] = "full"
    cleaning: CleaningName = DEFAULT
    views: ViewFilter = "frontal"
    per_class: int = 200
    prompts: PromptSet = field(default_factory=lambda: load_prompts("mgca"))
    version: int = 1


PROTOCOLS: Mapping[str, Protocol] = {"full": Protocol(), "class": Protocol(kind="class")}


def predict(model: Model, run: Run[Protocol]) -> pd.DataFrame:
    """One row per query and direction; never a matrix of all pairs.

    `full`: id, patient, direction, rank (of the best hit, from 1), strict_rank (of the query's own
    partner), hits (items in the pool that count as hits), pool (its size).
    `class`: id, patient, direction, finding, p1, p5, p10, p100 (NaN if the pool is smaller), chance
    (share of the pool with the query's class). A sentence is its own patient.
    """
    if not isinstance(model, Embeds):
        raise missing_capability(model, CARD)
    needed = "reports" if run.protocol.kind == "full" else "labels"
    if needed not in run.test.card.offers:
        raise Unsupported(
            f"retrieval:{run.protocol.kind} needs {needed}; "
            f"{run.test.card.name} offers {', '.join(run.test.card.offers)}"
        )
    if run.protocol.kind == "full":
        return _full(model, model, run)
    settings = run.protocol
    return class_retrieval.predict(
        model, run, settings.per_class, settings.prompts, settings.cleaning
    )


def score(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, Score]:
    """The value and the confidence interval of each of `statistics`."""
    return scores(statistics(predictions, protocol))


def statistics(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, PatientStatistic]:
    """Metrics of each direction, `image_to_text_r5`, and their means over both, `r5`.

    `full`: r1, r5, r10 (recall at k), mrr (mean reciprocal rank), median_rank (low is good), each
    also with the prefix `strict_`. `class`: p5, p10, p100 (precision at k), r1 (the same as
    precision at 1), chance (what a random order scores), of each class and averaged over classes;
    without a direction, over those with image queries. Resamples repeat queries; the pool stays the
    same. n: queries.
    """
    columns = PAIR_COLUMNS if protocol.kind == "full" else class_retrieval.COLUMNS
    check_columns(predictions, columns)
    check_patients(predictions)
    keys = ["direction", "id"]
    twice = predictions[predictions.duplicated(keys)]
    if len(twice):
        raise BadResult(f"the predictions hold the query {twice['id'].iloc[0]!r} twice")
    rows = predictions.sort_values(keys, ignore_index=True)
    return _of_pairs(rows) if protocol.kind == "full" else class_retrieval.statistics(rows)


def _full(model: Model, embedder: Embeds, run: Run[Protocol]) -> pd.DataFrame:
    pairs = find_pairs(run.test, run.protocol.views, run.protocol.cleaning)
    if len(pairs) < 2:
        raise BadData(
            f"{len(pairs)} of the {len(run.test)} test images of {run.test.card.name} have a "
            "report: retrieval needs two at least"
        )
    images = embed_images(model, pairs.dataset, run)
    texts = embed_texts(embedder, pairs.reports, run)
    hits = _same_group(pairs.groups)
    run.details["pool"] = {
        "pairs": len(pairs),
        "studies": len(set(pairs.groups[:, 0])),
        "different_reports": len(set(pairs.reports)),
        "queries_with_copies": int((hits > 1).sum()),
    }
    ids = np.array(pairs.ids, object)
    patients = pairs.dataset.table["patient"].to_numpy(object)
    directions = {"image_to_text": (images, texts), "text_to_image": (texts, images)}
    tables = [
        pd.DataFrame(
            {
                "id": ids,
                "patient": patients,
                "direction": name,
                "rank": retrieval.ranks(query, pool, pairs.groups, pairs.groups),
                "strict_rank": retrieval.strict_ranks(query, pool),
                "hits": hits,
                "pool": len(pairs),
            }
        )
        for name, (query, pool) in directions.items()
    ]
    return pd.concat(tables, ignore_index=True)


def _same_group(groups: NDArray[np.object_]) -> NDArray[np.int64]:
    """(N,) how many items share the study or the report with each item, itself included."""
    study, report = (pd.Series(column) for column in groups.T)
    both = pd.Series(list(zip(study, report, strict=True)))
    counts = [each.map(each.value_counts()) for each in (study, report, both)]
    return np.asarray((counts[0] + counts[1] - counts[2]).to_numpy(), np.int64)


def _of_pairs(rows: pd.DataFrame) -> dict[str, PatientStatistic]:
    found: dict[str, PatientStatistic] = {}
    for prefix, column in (("", "rank"), ("strict_", "strict_rank")):
        _check_ranks(rows, column)
        both: dict[str, list[PatientStatistic]] = {}
        for direction, part in rows.groupby("direction"):
            patients = part["patient"].to_numpy(object)
            each = retrieval.retrieval_statistics(part[column].to_numpy(np.int64))
            for name, statistic in each.items():
                metric = PatientStatistic(patients, statistic, len(part))
                found[f"{prefix}{direction}_{name}"] = metric
                both.setdefault(name, []).append(metric)
        for name, metrics in both.items():
            mean = mean_over([metric.statistic for metric in metrics])
            found[f"{prefix}{name}"] = PatientStatistic(metrics[0].patients, mean, metrics[0].n)
    return found


def _check_ranks(rows: pd.DataFrame, column: str) -> None:
    """BadResult for a rank that is no whole number in the pool, or directions that differ."""
    rank = pd.to_numeric(rows[column], errors="coerce").fillna(0)
    wrong = rows["id"][~((rank >= 1) & (rank <= rows["pool"]) & (rank % 1 == 0))]
    if len(wrong):
        raise BadResult(f"the {column} of query {wrong.iloc[0]!r} is no place in its pool")
    parts = [part["id"].tolist() for _, part in rows.groupby("direction")]
    if len(parts) != 2 or parts[0] != parts[1]:
        raise BadResult("the predictions of the two directions are of different queries")
