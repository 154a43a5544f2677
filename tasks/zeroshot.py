"""Zero-shot classification: a finding's positive prompt against its negative one.

Source: G2D paper, sections 4.1 and A.4, with the prompts of CheXzero. A model that embeds texts
scores softmax over the two cosines, without a temperature, and says "present" where the positive
prompt is nearer. A model that matches findings (MedKLIP, KAD, CARZero) is asked by the finding's
name, and says "present" above one half.

Legend: N images, T findings, D width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from g2dbench.cards import TaskCard
from g2dbench.errors import BadData
from g2dbench.evaluation.frozen_features import Frozen, extract, products
from g2dbench.evaluation.prediction_table import judged_findings, labels, long_table, wide
from g2dbench.evaluation.prompts import embed_prompts, promptable
from g2dbench.metrics.aggregate import Measured, family, scores, undefined
from g2dbench.metrics.bootstrap import Statistic, mean_of
from g2dbench.metrics.classification import correct, judged, weighted_auc, weighted_f1
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
)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Templates, `{}` standing for the finding; several are averaged into one text embedding."""

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
    """One row per test image and finding: truth, score in [0, 1], and whether it is claimed.

    Columns id, patient, finding, truth, score, claim (1 or 0). Findings are those judged in the
    test part, without "No Finding" and "Normal", which no sentence can deny.
    """
    findings = promptable(judged_findings(run.test))
    if not findings:
        raise BadData(f"{run.test.card.name} has no finding that a prompt could name")
    if isinstance(model, Matches):
        value = _matched(model, model, findings, run)
    elif isinstance(model, Embeds):
        value = _compared(model, model, findings, run)
    else:
        raise missing_capability(model, CARD)
    truth = labels(run.test, findings)
    claim = (value > 0.5).astype(np.float64)
    return long_table(run.test, findings, truth=truth, score=value, claim=claim)


def score(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, Score]:
    """`statistics` with their values and intervals."""
    return scores(statistics(predictions, protocol))


def statistics(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, Measured]:
    """AUC, F1 and accuracy of the claims, and the oracle F1, of all findings and of each.

    `oracle_f1` chooses its threshold on the test labels (MedKLIP's published definition): an upper
    bound, never comparable with `f1`. Means are over findings that have both kinds of image.
    """
    table = wide(predictions, ("truth", "score", "claim"))
    families: dict[str, dict[str, Statistic]] = {"auc": {}, "f1": {}, "acc": {}, "oracle_f1": {}}
    for k, finding in enumerate(table.findings):
        columns = (table[name][:, k] for name in ("truth", "score", "claim"))
        for name, statistic in _statistics(*columns).items():
            families[name][finding] = statistic
    known = judged(table["truth"])
    found: dict[str, Measured] = {}
    for name, each in families.items():
        found |= family(name, table.patients, each, known)
    return found


def _statistics(
    truth: NDArray[np.float64], value: NDArray[np.float64], claim: NDArray[np.float64]
) -> dict[str, Statistic]:
    """The scores of one finding, none of them defined with one class."""
    if len(np.unique(truth[judged(truth)])) < 2:
        return dict.fromkeys(("auc", "f1", "acc", "oracle_f1"), undefined)
    return {
        "auc": partial(weighted_auc, truth, value),
        "f1": partial(weighted_f1, truth, claim),
        "acc": mean_of(correct(truth, claim)),
        "oracle_f1": partial(weighted_oracle_f1, truth, value),
    }


def _matched(
    model: Model, matcher: Matches, findings: tuple[str, ...], run: Run[Protocol]
) -> NDArray[np.float64]:
    """(N, T) probabilities as the model itself gives them."""
    frozen = Frozen(model, lambda x: [matcher.match(x, findings)], model.preprocess, run)
    return extract(frozen, run.test, run, "zeroshot match").double().numpy()


def _compared(
    model: Model, embedder: Embeds, findings: tuple[str, ...], run: Run[Protocol]
) -> NDArray[np.float64]:
    """(N, T) softmax over the cosines to the positive and the negative prompt: its first part."""
    frozen = Frozen(model, lambda x: [embedder.embed_images(x)], model.preprocess, run)
    images = extract(frozen, run.test, run, "zeroshot images")
    # Not in mixed precision: few texts decide everything, and encoding them costs nothing.
    positive, negative = (
        embed_prompts(embedder, templates, findings)
        for templates in (run.protocol.positive, run.protocol.negative)
    )
    difference = products(images, positive.double().cpu() - negative.double().cpu())
    return np.asarray(expit(difference))
