"""Zero-shot classification: text prompts that affirm or deny each finding.

Source: G2D paper, sections 4.1 and A.4, with the prompts of CheXzero.
Score: a model that embeds texts gets the softmax over the cosines of the image with the positive
and the negative prompt, without a temperature; (1 + cosine) / 2 if a prompt set denies nothing. A
model that matches findings (MedKLIP, KAD, CARZero) gets the finding's name and returns a
probability. Classes that exclude each other (COVIDx): softmax over the prompts of all classes.
Findings: CheXpert is scored on the five of the paper, other sets on all labeled findings.
Decision, for `f1`, `acc` and `mcc`: score > 0.5 (threshold "fixed"), or score >= the threshold with
the best F1 or Matthews correlation on the validation split ("valid_f1", "valid_mcc").

Each protocol is a prompt set (evaluation/prompt_sets/) and a threshold rule. Differences from the
published code:
  - chexzero: CheXzero averages several checkpoints; a model here is one.
  - gloria: only the global similarity is used. Scaling each class over all images is left out: it
    changes no metric of a single finding, and would make a score depend on other images.
  - medclip: all prompt combinations instead of 10 of each class at random.
  - kad, medklip: F1 and accuracy as published are `oracle_f1_kad`, `oracle_acc_kad`, `oracle_f1`
    and `oracle_acc_medklip`: their thresholds are chosen on the test labels. `f1`, `acc` and `mcc`
    use the same rule on the validation split. KAD drops the last, incomplete test batch.

Legend: N images, K findings, D width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from g2dbench.cards import DatasetCard, TaskCard
from g2dbench.dataset import Dataset
from g2dbench.errors import BadData
from g2dbench.evaluation.frozen_features import FrozenEncoder, encode_dataset
from g2dbench.evaluation.imported.score_file import read_scores
from g2dbench.evaluation.label_policy import PAPER_FINDINGS, LabelPolicy, policy_findings
from g2dbench.evaluation.prediction_table import labels, long_table
from g2dbench.evaluation.prompts import (
    NOT_FINDINGS,
    SENSITIVITY,
    PromptSet,
    load_prompts,
    phrase,
)
from g2dbench.evaluation.zero_shot import classification, sensitivity
from g2dbench.evaluation.zero_shot.embeddings import embed_images
from g2dbench.evaluation.zero_shot.prompt_scores import TextEmbedder, prompt_scores
from g2dbench.metrics import aggregate
from g2dbench.metrics.aggregate import PatientStatistic
from g2dbench.metrics.threshold import f1_threshold, mcc_threshold
from g2dbench.model import Embeds, Matches, Model, ProjectsTexts, missing_capability
from g2dbench.result import Score
from g2dbench.task import Run

CARD = TaskCard(
    name="zeroshot",
    summary="Zero-shot classification by text prompts that affirm or deny each finding.",
    needs=("embeds", "matches"),
    annotations=("labels",),
    protocols=(
        "g2d", "biovil", "chexzero", "gloria", "mgca", "kad", "medklip", "medclip", "ours",
    ),
    metric="auc",
    source="G2D paper, sections 4.1 and A.4; prompts: evaluation/prompt_sets/",
    fits=False,
    order=20,
)  # fmt: skip

Threshold = Literal["fixed", "valid_f1", "valid_mcc"]
Array = NDArray[np.float64]

FIXED = 0.5


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Prompts, the rule that turns scores into decisions, and the findings of each data set."""

    prompts: PromptSet
    threshold: Threshold = "fixed"
    labels: LabelPolicy = field(default_factory=lambda: LabelPolicy(findings=PAPER_FINDINGS))
    version: int = 2


PROTOCOLS: Mapping[str, Protocol] = {
    "g2d": Protocol(prompts=load_prompts("g2d")),
    "biovil": Protocol(prompts=load_prompts("biovil")),
    "chexzero": Protocol(prompts=load_prompts("chexzero"), threshold="valid_mcc", version=1),
    "gloria": Protocol(prompts=load_prompts("gloria"), threshold="valid_f1", version=1),
    "mgca": Protocol(prompts=load_prompts("mgca"), threshold="valid_f1", version=1),
    "kad": Protocol(prompts=load_prompts("kad"), threshold="valid_mcc", version=1),
    "medklip": Protocol(prompts=load_prompts("medklip"), threshold="valid_f1", version=1),
    "medclip": Protocol(prompts=load_prompts("medclip"), threshold="valid_f1", version=1),
    "ours": Protocol(prompts=load_prompts("ours"), threshold="valid_mcc", version=1),
}

main_metric: Callable[[DatasetCard], str] = classification.main_metric


def predict(model: Model, run: Run[Protocol]) -> pd.DataFrame:
    """One row per test image and finding: truth, score in [0, 1], and the decision.

    Columns id, patient, finding, truth, score, claim (the decision: 1 present, 0 absent, NaN
    without a threshold), threshold, exclusive. Findings without prompts are left out and listed in
    the result's details, like "No Finding" and "Normal", which no prompt denies.
    """
    if not isinstance(model, Matches | Embeds):
        raise missing_capability(model, CARD)
    exclusive = classification.is_exclusive(run.test)
    findings = _findings(model, run, exclusive)
    scores_of = partial(_scores, model, run, findings, exclusive)
    value = scores_of(run.test, "test")
    threshold = np.full(len(findings), np.nan)
    if not exclusive:
        threshold = _thresholds(model, run, findings, scores_of)
    _describe(model, run, findings, exclusive)
    return long_table(
        run.test,
        findings,
        truth=labels(run.test, findings),
        score=value,
        claim=_decisions(value, threshold, run.protocol.threshold),
        threshold=threshold,
        exclusive=np.array(exclusive),
    )


def read_predictions(path: Path, run: Run[Protocol]) -> pd.DataFrame:
    """The table of `predict` from a CSV, see `evaluation/imported/score_file.py`.

    Without the column claim, a finding is present if its score is above 0.5.
    """
    exclusive = classification.is_exclusive(run.test)
    findings = policy_findings(run.protocol.labels, run.test)
    if not exclusive:
        findings = run.protocol.prompts.promptable(findings)
    given = read_scores(path, run.test, findings)
    decision = np.where(np.isnan(given.claim), given.score > 0.5, given.claim)
    return long_table(
        run.test,
        findings,
        truth=labels(run.test, findings),
        score=given.score,
        claim=decision,
        threshold=np.full(len(findings), np.nan),
        exclusive=np.array(exclusive),
    )


def score(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, Score]:
    """The value and the confidence interval of each of `statistics`."""
    return aggregate.scores(statistics(predictions, protocol))


def statistics(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, PatientStatistic]:
    """The metrics that `zero_shot/classification.py` lists, of each finding and averaged."""
    return classification.statistics(predictions)


def _findings(model: Model, run: Run[Protocol], exclusive: bool) -> tuple[str, ...]:
    """The labeled findings that can be asked; others go into the result's details."""
    wanted = policy_findings(run.protocol.labels, run.test)
    prompts = run.protocol.prompts
    if exclusive:
        found = tuple(name for name in wanted if prompts.prompts(name).positive)
    elif isinstance(model, Matches):
        found = tuple(name for name in wanted if phrase(name) not in NOT_FINDINGS)
    else:
        found = prompts.promptable(wanted)
    run.details["findings_left_out"] = [name for name in wanted if name not in found]
    if not found or (exclusive and len(found) < len(wanted)):
        raise BadData(
            f"{run.test.card.name} has "
            + ("a class" if exclusive else "no finding")
            + f" that a prompt can name{' not' if exclusive else ''}: the prompt set "
            f"{prompts.name!r} has none for {', '.join(run.details['findings_left_out'])}; choose "
            "another --protocol or --prompts"
        )
    return found


def _scores(
    model: Model,
    run: Run[Protocol],
    findings: tuple[str, ...],
    exclusive: bool,
    data: Dataset,
    split: str,
) -> Array:
    """(N, K) scores of a split's images."""
    prompts = run.protocol.prompts
    if isinstance(model, Matches):
        match, queries = model.match, tuple(prompts.query(finding) for finding in findings)
        frozen = FrozenEncoder(
            model, lambda x: [match(x, queries)], model.preprocess, run, f"match {queries}"
        )
        found = encode_dataset(frozen, data, run, f"zeroshot {split}")
        return np.asarray(found.double().numpy())
    assert isinstance(model, Embeds)
    each = [prompts.prompts(finding) for finding in findings]
    images = embed_images(model, data, run, f"zeroshot {split}")
    return prompt_scores(TextEmbedder(model), images, each, prompts.ensemble, exclusive)


def _thresholds(
    model: Model,
    run: Run[Protocol],
    findings: tuple[str, ...],
    scores_of: Callable[[Dataset, str], Array],
) -> Array:
    """(K,) by the protocol's rule; NaN for a finding without one.

    A fixed threshold needs a probability: a model that matches, or a negative prompt. One that is
    chosen needs a positive validation image.
    """
    rule = run.protocol.threshold
    if rule == "fixed":
        denied = [bool(run.protocol.prompts.prompts(finding).negative) for finding in findings]
        return np.where(np.array(denied) | isinstance(model, Matches), FIXED, np.nan)
    choose = f1_threshold if rule == "valid_f1" else mcc_threshold
    truth, value = labels(run.valid, findings), scores_of(run.valid, "valid")
    return np.array([choose(t, v) for t, v in zip(truth.T, value.T, strict=True)])


def _decisions(value: Array, threshold: Array, rule: Threshold) -> Array:
    """(N, K) 1 present, 0 absent, NaN without a threshold; a fixed one must be passed."""
    reached = value > threshold if rule == "fixed" else value >= threshold
    return np.where(np.isnan(threshold), np.nan, reached)


def _describe(model: Model, run: Run[Protocol], findings: tuple[str, ...], exclusive: bool) -> None:
    """Write into the result's details what was asked, and the spread if that is wanted."""
    prompts = run.protocol.prompts
    run.details["prompts"] = {
        "set": prompts.label,
        "source": prompts.source,
        "asked_by": "name" if isinstance(model, Matches) else "prompts",
        "ensemble": _ensemble(model, prompts),
    }
    if run.prompt_sensitivity:
        run.details[SENSITIVITY] = _sensitivity(model, run, findings, exclusive)


def _ensemble(model: Model, prompts: PromptSet) -> str:
    """How prompts are combined, in words for the result's details."""
    if prompts.ensemble == "raw" and not isinstance(model, ProjectsTexts):
        return "normalized (the model has no embeddings before normalization)"
    return prompts.ensemble


def _sensitivity(
    model: Model, run: Run[Protocol], findings: tuple[str, ...], exclusive: bool
) -> dict[str, Any]:
    """The spread of the main metric over paraphrases, see `zero_shot/sensitivity.py`."""
    if isinstance(model, Matches) or not isinstance(model, Embeds):
        return {"paraphrases": [], "note": "the model is asked by the finding's name alone"}
    images = embed_images(model, run.test, run, "zeroshot test")
    truth = labels(run.test, findings)
    return sensitivity.spread(
        TextEmbedder(model), images, truth, run.protocol.prompts, findings, exclusive
    )
