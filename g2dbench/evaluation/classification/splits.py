"""The labeled training and validation splits of a classification task."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from g2dbench.dataset import Dataset
from g2dbench.evaluation.classification.targets import Targets
from g2dbench.evaluation.label_policy import (
    LabelPolicy,
    label_counts,
    policy_findings,
)
from g2dbench.evaluation.prediction_table import labels
from g2dbench.sample import UNCERTAIN
from g2dbench.task import Run


@dataclass(frozen=True)
class LabeledSplits:
    """Two splits with their targets under one label policy."""

    findings: tuple[str, ...]
    train: Dataset
    valid: Dataset
    train_targets: Targets
    valid_targets: Targets

    @property
    def exclusive(self) -> bool:
        """Whether every image has exactly one of the findings."""
        return self.train_targets.exclusive


def labeled_splits(run: Run[Any], policy: LabelPolicy, sort: bool = False) -> LabeledSplits:
    """The run's splits under a label policy.

    The counts of present, absent, uncertain and missing labels go into the result's details.
    sort: order images by id, for a fit whose result must not depend on the order of files.
    """
    findings = policy_findings(policy, run.test)
    run.details["labels"] = {
        "uncertain": policy.uncertain,
        "missing": policy.missing,
        "train": label_counts(run.train, findings),
        "valid": label_counts(run.valid, findings),
    }
    train, valid = (_usable(policy, data, findings) for data in (run.train, run.valid))
    if sort:
        train, valid = by_id(train), by_id(valid)
    return LabeledSplits(
        findings,
        train,
        valid,
        Targets.of(policy, train, findings, "train"),
        Targets.of(policy, valid, findings, "valid"),
    )


def _usable(policy: LabelPolicy, data: Dataset, findings: tuple[str, ...]) -> Dataset:
    """The images that a policy uses: all, or with "drop" those without an uncertain label."""
    if policy.uncertain != "drop":
        return data
    uncertain = (labels(data, findings) == UNCERTAIN).any(axis=1)
    return data.take(np.flatnonzero(~uncertain).tolist())


def by_id(data: Dataset) -> Dataset:
    """The same images, ordered by their ids."""
    order = np.argsort(data.table["id"].astype(str).to_numpy(), kind="stable")
    return data.take(order.tolist())
