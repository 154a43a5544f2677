"""Label fractions: which patients of a training set a task may learn from.

Patients are ordered once per subset seed; a fraction takes the first of them. So 1 % lies inside
10 % inside 100 %, every part is stratified by findings, and no patient is cut in half.
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
    """A drawn part of a training set: positions in it, the images' ids, and their digest."""

    indices: tuple[int, ...]
    ids: tuple[str, ...]
    digest: str


def draw(
    train: Dataset, fraction: float, subset_seed: int = 0, findings: Sequence[str] = ()
) -> Subset:
    """The images of the first `fraction` of the patients, in store order.

    The number of patients is max(1, round(fraction * patients)): 160 at 1 % of RSNA's 16,010.
    findings: what the task evaluates. The draw is stratified on them (on every label if none is
    given), and each that has a positive patient keeps at least one, at any fraction; they lead
    the order, so that nesting holds. The draw can then be a few patients larger.

    Raises:
        Misuse: the fraction is not within (0, 1], or a finding is not one of the data set's.
        BadData: the set is empty, or its images were judged and none shows any of `findings`.
    """
    if not (math.isfinite(fraction) and 0 < fraction <= 1):
        raise Misuse(f"a fraction must lie above 0 and up to 1, not {fraction}")
    if len(train) == 0:
        raise BadData(f"the training part of {train.card.name!r} is empty: no fraction to draw")
    order, leading = _order(train, subset_seed, findings)
    count = max(1, int(fraction * len(order) + 0.5), leading)
    kept = set(order[:count])
    chosen = np.flatnonzero(train.table["patient"].isin(kept).to_numpy())
    ids = tuple(train.table["id"].iloc[chosen])
    digest = hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()
    return Subset(tuple(chosen.tolist()), ids, digest)


def _order(train: Dataset, subset_seed: int, findings: Sequence[str]) -> tuple[list[str], int]:
    """All patients, first to be taken first, and how many of them lead for their findings."""
    columns = _columns(train, findings)
    present = train.table[columns].to_numpy(dtype=float) == PRESENT
    names = [column.removeprefix(LABEL_PREFIX) for column in columns]
    strata = strata_of(
        (patient, (name for name, shown in zip(names, row, strict=True) if shown))
        for patient, row in zip(train.table["patient"], present, strict=True)
    )
    if findings and not present.any() and _judged(train.table, columns):
        raise BadData(
            f"no training image of {train.card.name!r} shows {' or '.join(findings)}: "
            "a task cannot learn it from these; prepare more of the data set"
        )
    order = interleave(strata, f"{train.card.name} fraction {subset_seed}")
    leaders: list[str] = []
    for finding in findings:
        if not any(finding in strata[patient] for patient in leaders):
            leaders += [patient for patient in order if finding in strata[patient]][:1]
    led = set(leaders)
    return [*leaders, *(patient for patient in order if patient not in led)], len(leaders)


def _columns(train: Dataset, findings: Sequence[str]) -> list[str]:
    known = [name for name in train.table.columns if name.startswith(LABEL_PREFIX)]
    wanted = [LABEL_PREFIX + finding for finding in findings]
    unknown = [name.removeprefix(LABEL_PREFIX) for name in wanted if name not in known]
    if unknown:
        names = ", ".join(name.removeprefix(LABEL_PREFIX) for name in known)
        raise Misuse(f"{train.card.name!r} has no finding {unknown}; it has: {names or 'none'}")
    return wanted or known


def _judged(table: pd.DataFrame, columns: Sequence[str]) -> bool:
    """Whether anybody judged these findings; where masks or boxes are all there is, nobody did."""
    return bool(table[list(columns)].notna().to_numpy().any())
