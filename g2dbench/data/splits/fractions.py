"""Subsets of a training set: which patients a task may learn from.

Patients are ordered once per subset seed; a fraction takes the first of them, so that 1 % lies
inside 10 % inside 100 %. A patient is never divided. Three policies order the patients:

    random      by a hash of the patient's name: every patient has the same chance
    stratified  every part of the order has the findings in proportion
    covering    stratified, and each finding with a positive patient has one in every subset; such
                patients come first. In a very small subset rare findings are then more frequent
                than in the whole set: `prevalence` says by how much.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from g2dbench.data.splits.stratified import Stratum, interleave, strata_of, uniform_hash
from g2dbench.dataset import LABEL_PREFIX, Dataset
from g2dbench.errors import BadData, Misuse
from g2dbench.sample import PRESENT

Draw = Literal["covering", "stratified", "random"]


@dataclass(frozen=True)
class Subset:
    """A subset of a training set: row numbers, image ids, and a digest of the sorted ids."""

    indices: tuple[int, ...]
    ids: tuple[str, ...]
    digest: str


def sample_fraction(
    train: Dataset,
    fraction: float,
    subset_seed: int = 0,
    findings: Sequence[str] = (),
    policy: Draw = "covering",
) -> Subset:
    """The images of the first `fraction` of the patients, in store order.

    The number of patients is max(1, round(fraction * patients)): 160 at 1 % of RSNA's 16,010; with
    the policy "covering" it can be a few more. findings: what the task evaluates, for stratifying
    and covering; all labels if none is given.

    Raises:
        Misuse: the fraction is outside (0, 1], or a finding is unknown to the data set.
        BadData: the set is empty, or its images are labeled and none has any of `findings`.
    """
    if not (math.isfinite(fraction) and 0 < fraction <= 1):
        raise Misuse(f"a fraction must be above 0 and at most 1, not {fraction}")
    strata = _strata(train, findings)
    order = _order(train, strata, subset_seed, policy)
    count = max(1, int(fraction * len(order) + 0.5))
    if policy == "covering":
        first = _one_each(order, strata, findings)
        order = [*first, *(patient for patient in order if patient not in set(first))]
        count = max(count, len(first))
    return _subset(train, order[:count])


def sample_shots(
    train: Dataset,
    shots: int,
    subset_seed: int = 0,
    findings: Sequence[str] = (),
    policy: Draw = "covering",
) -> Subset:
    """K-shot: `shots` positive patients of each finding, and `shots` patients with none of them.

    A patient with two of the findings counts for both. Patients are taken in the order of the
    policy. If a finding has fewer positive patients, all of them are taken. Raises as
    `sample_fraction`.
    """
    if shots < 1:
        raise Misuse(f"the number of shots must be at least 1, not {shots}")
    strata = _strata(train, findings)
    needed = dict.fromkeys([*findings, _NONE], shots)
    chosen = []
    for patient in _order(train, strata, subset_seed, policy):
        classes = [name for name in strata[patient] if name in needed] or [_NONE]
        if any(needed[name] > 0 for name in classes):
            chosen.append(patient)
            for name in classes:
                needed[name] -= 1
    return _subset(train, chosen)


def prevalence(table: pd.DataFrame, findings: Iterable[str]) -> dict[str, float]:
    """For each finding the share of positive images among its labeled ones; NaN if none is."""
    shares = {}
    for finding in findings:
        labels = table[LABEL_PREFIX + finding].to_numpy(float)
        labeled = (labels == 0) | (labels == PRESENT)
        shares[finding] = float((labels == PRESENT)[labeled].mean()) if labeled.any() else math.nan
    return shares


_NONE = ""
"""The class of patients with none of the findings."""


def _strata(train: Dataset, findings: Sequence[str]) -> dict[str, Stratum]:
    """Patient -> findings present in any image of the patient."""
    if len(train) == 0:
        raise BadData(f"the training split of {train.card.name!r} is empty: nothing to sample")
    columns = _columns(train, findings)
    present = train.table[columns].to_numpy(dtype=float) == PRESENT
    if findings and not present.any() and train.table[columns].notna().to_numpy().any():
        raise BadData(
            f"no training image of {train.card.name!r} has {' or '.join(findings)}: "
            "a task cannot learn it from these; prepare more of the data set"
        )
    names = [column.removeprefix(LABEL_PREFIX) for column in columns]
    return strata_of(
        (patient, (name for name, shown in zip(names, row, strict=True) if shown))
        for patient, row in zip(train.table["patient"], present, strict=True)
    )


def _order(train: Dataset, strata: dict[str, Stratum], subset_seed: int, policy: Draw) -> list[str]:
    """All patients, the first to be taken first."""
    salt = f"{train.card.name} fraction {subset_seed}"
    if policy == "random":
        return sorted(strata, key=lambda patient: (uniform_hash(salt, patient), patient))
    return interleave(strata, salt)


def _one_each(
    order: Sequence[str], strata: dict[str, Stratum], findings: Sequence[str]
) -> list[str]:
    """The first patients in the order that together have every finding."""
    chosen: list[str] = []
    for finding in findings:
        if not any(finding in strata[patient] for patient in chosen):
            chosen += [patient for patient in order if finding in strata[patient]][:1]
    return chosen


def _subset(train: Dataset, patients: Sequence[str]) -> Subset:
    rows = np.flatnonzero(train.table["patient"].isin(set(patients)).to_numpy())
    ids = tuple(train.table["id"].iloc[rows])
    digest = hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()
    return Subset(tuple(rows.tolist()), ids, digest)


def _columns(train: Dataset, findings: Sequence[str]) -> list[str]:
    known = [name for name in train.table.columns if name.startswith(LABEL_PREFIX)]
    wanted = [LABEL_PREFIX + finding for finding in findings]
    unknown = [name.removeprefix(LABEL_PREFIX) for name in wanted if name not in known]
    if unknown:
        names = ", ".join(name.removeprefix(LABEL_PREFIX) for name in known)
        raise Misuse(f"{train.card.name!r} has no finding {unknown}; it has: {names or 'none'}")
    return wanted or known
