"""Classification of corrupted radiographs: how far the AUC falls, and by what.

Test images are corrupted in eight ways at five strengths (evaluation/robustness/corruptions.py).
Nothing is fitted or chosen on corrupted images. Protocols:

    probe     a linear layer is fitted on clean training images: logistic regression on standardized
              features, the penalty chosen on the validation split (needs features)
    zeroshot  the prompts "{}" and "no {}", or the names of findings for a model that matches, as
              the default protocol of `zeroshot` (needs embeds or matches; fits nothing, so that
              fractions and seeds give equal scores)

Source: ours; corruptions and the mean over strengths follow Hendrycks & Dietterich 2019. Unlike
their mCE, no score is divided by that of a reference model.

Legend: N images, K findings, D width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from g2dbench.cards import TaskCard
from g2dbench.dataset import Dataset
from g2dbench.errors import BadData
from g2dbench.evaluation.fitted_task import check_splits
from g2dbench.evaluation.frozen_features import inner_products
from g2dbench.evaluation.label_policy import (
    PAPER_FINDINGS,
    LabelPolicy,
    policy_findings,
    policy_labels,
)
from g2dbench.evaluation.prediction_table import WideTable, labels, long_table, to_wide
from g2dbench.evaluation.prompts import PromptSet
from g2dbench.evaluation.robustness.corrupted_features import ImageEncoder
from g2dbench.evaluation.robustness.corruptions import CORRUPTIONS, STRENGTHS, Condition
from g2dbench.evaluation.robustness.linear_probe import Labeled, fit_probe
from g2dbench.evaluation.zero_shot.prompt_scores import TextEmbedder
from g2dbench.metrics.aggregate import PatientStatistic, per_finding, scores
from g2dbench.metrics.labels import labeled, require_scores
from g2dbench.metrics.ranking import RankedScores
from g2dbench.metrics.ratio import ratio
from g2dbench.metrics.statistic import Combined, Statistic, each_of, mean_over, undefined
from g2dbench.model import Embeds, Features, Matches, Model, missing_capability, require_pixels
from g2dbench.result import Score
from g2dbench.task import Run

CARD = TaskCard(
    name="robustness",
    summary="Classification of images corrupted in eight ways at five strengths.",
    needs=("features", "embeds", "matches"),
    annotations=("labels",),
    protocols=("probe", "zeroshot"),
    metric="auc_corrupted",
    source="ours; corruptions and strengths follow Hendrycks & Dietterich 2019 (ImageNet-C)",
    order=90,
)

CLEAN = "clean"
COLUMNS = {f"{name}_{strength}": (name, strength) for name in CORRUPTIONS for strength in STRENGTHS}
"""The columns of predictions that hold scores of corrupted images."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """corruption_seed: of the corruptions; it is not the cell's, so that features are shared."""

    version: int = 1
    corruption_seed: int = 0
    labels: LabelPolicy = field(default_factory=lambda: LabelPolicy(findings=PAPER_FINDINGS))


@dataclass(frozen=True, kw_only=True)
class Probe(Protocol):
    """penalties: see `evaluation/robustness/linear_probe.py`."""

    penalties: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)


@dataclass(frozen=True, kw_only=True)
class ZeroShot(Protocol):
    """Prompt templates with `{}` for the finding."""

    positive: tuple[str, ...] = ("{}",)
    negative: tuple[str, ...] = ("no {}",)


PROTOCOLS: Mapping[str, Protocol] = {"probe": Probe(), "zeroshot": ZeroShot()}

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Scorer:
    """Features (N, D) of the test images -> scores (N, K) of these findings."""

    encoder: ImageEncoder
    findings: tuple[str, ...]
    scores: Callable[[Tensor], Array]


def predict(model: Model, run: Run[Any]) -> pd.DataFrame:
    """One row per test image and finding: truth, and the score of the image in each condition.

    Columns id, patient, finding, truth, clean, noise_1 ... inversion_5. Scores are log-odds in
    `probe`, the difference of cosines in `zeroshot`, a model's probability if it matches.
    """
    require_pixels(model, "robustness corrupts the images")
    scorer = _probe(model, run) if isinstance(run.protocol, Probe) else _zero_shot(model, run)
    features = scorer.encoder.clean(run.test, "robustness clean")
    columns = {CLEAN: scorer.scores(features)}
    for column, (name, strength) in COLUMNS.items():
        condition = Condition(name, strength, run.protocol.corruption_seed)
        title = f"robustness {name} {strength}"
        found = scorer.encoder.corrupted(features, condition, run.test, title)
        columns[column] = scorer.scores(found)
    run.details["levels"] = {name: list(each.levels) for name, each in CORRUPTIONS.items()}
    truth = labels(run.test, scorer.findings)
    return long_table(run.test, scorer.findings, truth=truth, **columns)


def score(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, Score]:
    """The value and the confidence interval of each of `statistics`."""
    return scores(statistics(predictions, protocol))


def statistics(predictions: pd.DataFrame, protocol: Protocol) -> dict[str, PatientStatistic]:
    """AUC of clean and of corrupted images, averaged over findings, and the relative drop.

    `auc_corrupted`: mean over corruptions, each of which is the mean over its strengths
    (`auc@noise`; one strength is `auc@noise_3`). `relative_drop`: the share of the clean AUC that
    is lost; `relative_drop@noise` by corruption. A lower drop is better, but only beside the clean
    AUC: a model at chance loses nothing.
    """
    table = to_wide(predictions, ("truth", CLEAN, *COLUMNS))
    ids = np.sort(predictions["id"].unique().astype(object))
    for column in (CLEAN, *COLUMNS):
        require_scores(ids, table.findings, table["truth"], table[column])
    by_column = {column: _aucs(table, column) for column in (CLEAN, *COLUMNS)}
    corrupted = {
        finding: mean_over([by_column[column][finding] for column in COLUMNS])
        for finding in table.findings
    }
    known = labeled(table["truth"])
    found = {
        **per_finding("auc_corrupted", table.patients, corrupted, known),
        **per_finding("auc_clean", table.patients, by_column[CLEAN], known),
    }
    clean = found["auc_clean"]
    for key, mean in _corruption_means(by_column).items():
        found[f"auc@{key}"] = replace(clean, statistic=mean)
    for suffix in ("_corrupted", *(f"@{name}" for name in CORRUPTIONS)):
        both = clean.statistic, found[f"auc{suffix}"].statistic
        name = f"relative_drop{suffix.removeprefix('_corrupted')}"
        found[name] = replace(clean, statistic=Combined(both, _relative_drop))
    return found


def _aucs(table: WideTable, column: str) -> dict[str, Statistic]:
    """The AUC of each finding, from the scores in one column."""
    return {
        finding: _auc(table["truth"][:, k], table[column][:, k])
        for k, finding in enumerate(table.findings)
    }


def _corruption_means(by_column: Mapping[str, Mapping[str, Statistic]]) -> dict[str, Statistic]:
    """The mean AUC over findings at each strength, by column, and over strengths, by corruption."""
    means: dict[str, Statistic] = {}
    for name in CORRUPTIONS:
        columns = [f"{name}_{strength}" for strength in STRENGTHS]
        of_strengths = {column: _over_findings(by_column[column]) for column in columns}
        means |= {name: mean_over(list(of_strengths.values())), **of_strengths}
    return means


def _auc(truth: Array, value: Array) -> Statistic:
    ranked = RankedScores(truth, value)
    return undefined if ranked.one_class else each_of(ranked, ("auc",))["auc"]


def _over_findings(by_finding: Mapping[str, Statistic]) -> Statistic:
    """The mean over findings with both classes."""
    return mean_over([each for each in by_finding.values() if each is not undefined])


def _relative_drop(values: Array) -> Array:
    """(2, B) clean and corrupted AUC -> (B,)."""
    clean, corrupted = values
    return np.asarray(ratio(clean - corrupted, clean))


def _probe(model: Model, run: Run[Probe]) -> _Scorer:
    if not isinstance(model, Features):
        raise missing_capability(model, replace(CARD, needs=("features",)))
    check_splits(run)
    findings = policy_findings(run.protocol.labels, run.test)
    pool = model.pooled
    encoder = ImageEncoder(model, lambda images: [pool(images)], "pooled", run)

    def split(data: Dataset, name: str) -> Labeled:
        features = encoder.clean(data, f"robustness {name}")
        return Labeled(features, policy_labels(run.protocol.labels, data, findings))

    train, valid = split(run.train, "train"), split(run.valid, "valid")
    probe = fit_probe(train, valid, findings, run.protocol.penalties, run.details)
    return _Scorer(encoder, probe.findings, probe)


def _zero_shot(model: Model, run: Run[ZeroShot]) -> _Scorer:
    asked = run.protocol
    prompts = PromptSet(name="robustness", positive=asked.positive, negative=asked.negative)
    findings = prompts.promptable(policy_findings(asked.labels, run.test))
    if not findings:
        raise BadData(f"{run.test.card.name} has no finding that a prompt can name")
    if isinstance(model, Matches):
        match, name = model.match, f"match {findings}"
        encoder = ImageEncoder(model, lambda images: [match(images, findings)], name, run)
        return _Scorer(encoder, findings, lambda found: found.double().numpy())
    if not isinstance(model, Embeds):
        raise missing_capability(model, replace(CARD, needs=("embeds", "matches")))
    embed = model.embed_images
    encoder = ImageEncoder(model, lambda images: [embed(images)], "embed_images", run)
    texts = TextEmbedder(model.to(run.device))
    pairs = [prompts.prompts(finding) for finding in findings]
    positive = torch.stack([_mean_vector(texts, pair.positive) for pair in pairs])
    negative = torch.stack([_mean_vector(texts, pair.negative) for pair in pairs])
    return _Scorer(encoder, findings, lambda found: inner_products(found, positive - negative))


def _mean_vector(embed: TextEmbedder, texts: tuple[str, ...]) -> Tensor:
    """(D,) in double precision: the mean of the texts' unit vectors, scaled to length 1."""
    return F.normalize(embed(texts).double().mean(dim=0), dim=0)
