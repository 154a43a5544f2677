"""Label fractions: the patients of a training set on which a task is trained.

Each subset seed defines one order of the patients; a fraction consists of the first patients in
this order. Therefore 1 % is a subset of 10 %, every subset is stratified by findings, and all
images of a patient are in the same subset.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from g2dbench.data.splits.stratified import interleave, strata_of
from g2dbench.dataset import LABEL_PREFIX, Dataset
from g2dbench.errors import BadData, Misuse
from g2dbench.sample import PRESENT


@dataclass(frozen=True)
class Subset:
    """A subset of a training set: positions in it, ids of its images, and SHA-256 of the ids."""

    indices: tuple[int, ...]
    ids: tuple[str, ...]
    digest: str


def select_subset(
    train: Dataset, fraction: float, subset_seed: int = 0, findings: Sequence[str] = ()
) -> Subset:
    """Select the images of the first `fraction` of the patients, in store order.

    The number of patients is max(1, round(fraction * patients)): 160 for 1 % of RSNA's 16,010.
    findings: the findings that the task evaluates. The subset is stratified by them, or by all
    labels if none is given. For each finding with a positive patient, one such patient comes first
    in the order, so that every fraction contains a positive and fractions remain nested. A small
    subset can therefore have a few patients more.

    Raises:
        Misuse: the fraction is not within (0, 1], or the data set does not have a finding.
        BadData: the training set is empty, or its images are labeled and none shows `findings`.
    """
    if not (math.isfinite(fraction) and 0 < fraction <= 1):
        raise Misuse(f"a fraction must lie above 0 and up to 1, not {fraction}")
    if len(train) == 0:
        raise BadData(f"the training split of {train.card.name!r} is empty: it has no fractions")
    order, leading = _order_patients(train, subset_seed, findings)
    count = max(1, int(fraction * len(order) + 0.5), leading)
    patients = set(order[:count])
    indices = np.flatnonzero(train.table["patient"].isin(patients).to_numpy())
    ids = tuple(train.table["id"].iloc[indices])
    digest = hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()
    return Subset(tuple(indices.tolist()), ids, digest)


def _order_patients(
    train: Dataset, subset_seed: int, findings: Sequence[str]
) -> tuple[list[str], int]:
    """Order all patients; also return how many come first as the positive of a finding."""
    columns = _label_columns(train, findings)
    present = train.table[columns].to_numpy(dtype=float) == PRESENT
    names = [column.removeprefix(LABEL_PREFIX) for column in columns]
    strata = strata_of(
        (patient, (name for name, is_present in zip(names, row, strict=True) if is_present))
        for patient, row in zip(train.table["patient"], present, strict=True)
    )
    if findings and not present.any() and _is_labeled(train.table, columns):
        raise BadData(
            f"no training image of {train.card.name!r} shows {' or '.join(findings)}: "
            "a task cannot be trained on them; prepare more of the data set"
        )
    order = interleave(strata, f"{train.card.name} fraction {subset_seed}")
    leaders: list[str] = []
    for finding in findings:
        if not any(finding in strata[patient] for patient in leaders):
            leaders += [patient for patient in order if finding in strata[patient]][:1]
    leading = set(leaders)
    return [*leaders, *(patient for patient in order if patient not in leading)], len(leaders)


def _label_columns(train: Dataset, findings: Sequence[str]) -> list[str]:
    """The label columns of the findings, or all label columns; Misuse if one does not exist."""
    known = [name for name in train.table.columns if name.startswith(LABEL_PREFIX)]
    wanted = [LABEL_PREFIX + finding for finding in findings]
    unknown = [name.removeprefix(LABEL_PREFIX) for name in wanted if name not in known]
    if unknown:
        names = ", ".join(name.removeprefix(LABEL_PREFIX) for name in known)
        raise Misuse(f"{train.card.name!r} has no finding {unknown}; it has: {names or 'none'}")
    return wanted or known


def _is_labeled(table: pd.DataFrame, columns: Sequence[str]) -> bool:
    """Whether any image is labeled for these findings; False if there are only masks or boxes."""
    return bool(table[list(columns)].notna().to_numpy().any())
