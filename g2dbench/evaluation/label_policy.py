"""Which findings a classification protocol scores, and what uncertain and missing labels mean.

Both move the AUC by more than many methods differ, so they are settings of the protocol, and their
counts are in the result.

Legend: N images, K findings.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from g2dbench.dataset import LABEL_PREFIX, Dataset
from g2dbench.errors import BadData
from g2dbench.evaluation.prediction_table import labeled_findings
from g2dbench.sample import ABSENT, PRESENT, UNCERTAIN

Uncertain = Literal["ignore", "zeros", "ones", "mgca", "drop"]
"""What an uncertain label (-1) counts as in training and validation.

ignore: no label. zeros, ones: absent, present. mgca: by `MGCA_UNCERTAIN`, no label for other
findings. drop: an image with an uncertain label is not used at all.
"""

Missing = Literal["ignore", "zeros"]
"""What a label that is not given counts as in training and validation: no label, or absent."""

MGCA_UNCERTAIN: Mapping[str, int] = {
    "Atelectasis": PRESENT,
    "Cardiomegaly": ABSENT,
    "Consolidation": ABSENT,
    "Edema": PRESENT,
    "Pleural Effusion": PRESENT,
}
"""Source: MGCA mgca/datasets/classification_dataset.py, CheXpertImageDataset."""

PAPER_FINDINGS: Mapping[str, tuple[str, ...]] = {"chexpert": tuple(MGCA_UNCERTAIN)}
"""Data set -> findings that the G2D paper and MGCA average over; other sets: all their findings.

Of CheXpert's 14 labels they score the five competition tasks.
"""


@dataclass(frozen=True, kw_only=True)
class LabelPolicy:
    """The findings of each data set (all labeled ones if it is not named), and label rules."""

    findings: Mapping[str, tuple[str, ...]]
    uncertain: Uncertain = "ignore"
    missing: Missing = "ignore"


def policy_findings(policy: LabelPolicy, test: Dataset) -> tuple[str, ...]:
    """The findings to score: those of the policy that have a label 1 or 0 in the test split.

    BadData if there is none.
    """
    labeled = labeled_findings(test)
    wanted = policy.findings.get(test.card.name, labeled)
    found = tuple(finding for finding in wanted if finding in labeled)
    if not found:
        raise BadData(
            f"the protocol scores {', '.join(wanted)} on {test.card.name}, but none of these has a "
            f"label in the test split; it has labels of {', '.join(labeled)}"
        )
    return found


def policy_labels(
    policy: LabelPolicy, data: Dataset, findings: tuple[str, ...]
) -> NDArray[np.float64]:
    """(N, K) labels for training or validation: 1, 0, or NaN for no label."""
    given = _given(data, findings)
    uncertain, missing = given == UNCERTAIN, np.isnan(given)
    labels = np.where(uncertain, np.nan, given)
    for column, finding in enumerate(findings):
        labels[uncertain[:, column], column] = _uncertain_value(policy.uncertain, finding)
    if policy.missing == "zeros":
        labels[missing] = ABSENT
    if policy.uncertain == "drop":
        labels[uncertain.any(axis=1)] = np.nan
    return labels


def label_counts(data: Dataset, findings: tuple[str, ...]) -> dict[str, Any]:
    """For each finding the number of present, absent, uncertain and missing labels."""
    given = _given(data, findings)
    kinds = {
        "present": given == PRESENT,
        "absent": given == ABSENT,
        "uncertain": given == UNCERTAIN,
        "missing": np.isnan(given),
    }
    return {
        finding: {name: int(found[:, column].sum()) for name, found in kinds.items()}
        for column, finding in enumerate(findings)
    }


def _given(data: Dataset, findings: tuple[str, ...]) -> NDArray[np.float64]:
    columns = [LABEL_PREFIX + finding for finding in findings]
    return data.table.reindex(columns=columns).to_numpy(np.float64)


def _uncertain_value(rule: Uncertain, finding: str) -> float:
    values: dict[str, float] = {"zeros": ABSENT, "ones": PRESENT}
    if rule == "mgca":
        return MGCA_UNCERTAIN.get(finding, np.nan)
    return values.get(rule, np.nan)
