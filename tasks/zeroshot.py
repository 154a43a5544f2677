"""Zero-shot classification: a positive and a negative text prompt for each finding.

Source: G2D paper, sections 4.1 and A.4, with the prompts of CheXzero.
Score: a model that embeds texts gives the softmax over the cosines of the image with the two
prompts, without a temperature. A model that matches findings (MedKLIP, KAD, CARZero) gets the
finding's name and returns a probability.
Decision: "present" if the score is above 0.5.
Protocols: `g2d` has the prompts "{}" and "no {}"; `biovil` averages BioViL's prompts.

Legend: N images, T findings, D width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from g2dbench.cards import TaskCard
from g2dbench.errors import BadData
from g2dbench.evaluation.frozen_features import FrozenEncoder, encode_dataset, inner_products
from g2dbench.evaluation.imported.score_file import read_scores
from g2dbench.evaluation.prediction_table import labeled_findings, labels, long_table, to_wide
from g2dbench.evaluation.prompts import embed_prompts, promptable
from g2dbench.metrics.aggregate import PatientStatistic, per_finding, scores, undefined
from g2dbench.metrics.bootstrap import Statistic, mean_of
from g2dbench.metrics.classification import correct, labeled, weighted_auc, weighted_f1
from g2dbench.metrics.threshold import weighted_oracle_f1
from g2dbench.model import Embeds, Matches, Model, missing_capability
from g2dbench.result import Score
from g2dbench.task import Run

CARD = TaskCard(
    name="zeroshot",
    summary="Zero-shot classification by a positive and a negative prompt for each finding.",
    needs=("embeds", "matches"),
    annotations=("labels",),
    protocols=("g2d", "biovil"),
    metric="auc",
    source="G2D paper, sections 4.1 and A.4; CheXzero zero_shot.py; hi-ml vlp tests for `biovil`",
    fits=False,
    order=20,
)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Prompt templates with `{}` for the finding; several are averaged to one text embedding."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    version: int = 1


PROTOCOLS: Mapping[str, Protocol] = {
    "g2d": Protocol(positive=("{}",), negative=("no {}",)),
    "biovil": Protocol(
        positive=(
            "Findings consistent with {}",
            "Findings suggesting {}",
            "Findings are most compatible with {}",
        ),
        negative=("There is no {}", "No evidence of {}", "No signs of {}"),
    ),
}


def predict(model: Model, run: Run[Protocol]) -> pd.DataFrame:
    """One row per test image and finding: truth, score in [0, 1], and the decision.

    Columns id, patient, finding, truth, score, claim (the decision: 1 present, 0 absent). Findings:
    those labeled in the test split, but not "No Finding" and "Normal": no prompt denies them.
    """
    findings = promptable(labeled_findings(run.test))
    if not findings:
        raise BadData(f"{run.test.card.name} has no finding that a prompt can name")
    if isinstance(model, Matches):
        value = _match_probabilities(model, model, findings, run)
    elif isinstance(model, Embeds):
        value = _prompt_scores(model, model, findings, run)
    else:
        raise missing_capability(model, CARD)
    truth = labels(run.test, findings)
    decision = (value > 0.5).astype(np.float64)
    return long_table(run.test, findings, truth=truth, score=value, claim=decision)


def read_predictions(path: Path, run: Run[Protocol]) -> pd.DataFrame:
    """The table of `predict` from a CSV, see `evaluation/imported/score_file.py`.

    Without the column claim, a finding is present if its score is above 0.5.
    """
    findings = promptable(labeled_findings(run.test))
    given = read_scores(path, run.test, findings)
    decision = np.where(np.isnan(given.claim), given.score > 0.5, given.claim)
    truth = labels(run.test, findings)
    return long_table(run.test, findings, truth=truth, score=given.score, claim=decision)


def score(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, Score]:
    """The value and the confidence interval of each of `statistics`."""
    return scores(statistics(predictions, protocol))


def statistics(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, PatientStatistic]:
    """AUC, F1, accuracy and oracle F1 of each finding and averaged over findings.

    `oracle_f1` chooses its threshold on the test labels, as MedKLIP publishes: an upper bound, not
    comparable with `f1`. Means are over the findings with positive and negative images.
    """
    table = to_wide(predictions, ("truth", "score", "claim"))
    by_metric: dict[str, dict[str, Statistic]] = {"auc": {}, "f1": {}, "acc": {}, "oracle_f1": {}}
    for k, finding in enumerate(table.findings):
        columns = (table[name][:, k] for name in ("truth", "score", "claim"))
        for name, statistic in _statistics(*columns).items():
            by_metric[name][finding] = statistic
    known = labeled(table["truth"])
    found: dict[str, PatientStatistic] = {}
    for name, by_finding in by_metric.items():
        found |= per_finding(name, table.patients, by_finding, known)
    return found


def _statistics(
    truth: NDArray[np.float64], value: NDArray[np.float64], decision: NDArray[np.float64]
) -> dict[str, Statistic]:
    """The statistics of one finding; all are undefined with one class."""
    if len(np.unique(truth[labeled(truth)])) < 2:
        return dict.fromkeys(("auc", "f1", "acc", "oracle_f1"), undefined)
    return {
        "auc": partial(weighted_auc, truth, value),
        "f1": partial(weighted_f1, truth, decision),
        "acc": mean_of(correct(truth, decision)),
        "oracle_f1": partial(weighted_oracle_f1, truth, value),
    }


def _match_probabilities(
    model: Model, matcher: Matches, findings: tuple[str, ...], run: Run[Protocol]
) -> NDArray[np.float64]:
    """(N, T) probabilities of the model."""
    frozen = FrozenEncoder(
        model, lambda x: [matcher.match(x, findings)], model.preprocess, run, f"match {findings}"
    )
    return encode_dataset(frozen, run.test, run, "zeroshot match").double().numpy()


def _prompt_scores(
    model: Model, embedder: Embeds, findings: tuple[str, ...], run: Run[Protocol]
) -> NDArray[np.float64]:
    """(N, T) softmax over the two cosines, for the positive prompt: sigmoid of their difference."""
    frozen = FrozenEncoder(
        model, lambda x: [embedder.embed_images(x)], model.preprocess, run, "embed_images"
    )
    images = encode_dataset(frozen, run.test, run, "zeroshot images")
    # Not in mixed precision: every score depends on these few texts, and they cost little.
    positive, negative = (
        embed_prompts(embedder, templates, findings)
        for templates in (run.protocol.positive, run.protocol.negative)
    )
    difference = inner_products(images, positive.double().cpu() - negative.double().cpu())
    return np.asarray(expit(difference))
