"""Stratified splits by patient, for data sets that have no official split.

Patients are ordered so that every contiguous part of the order contains all strata in proportion; a
split is such a part. The order depends only on the salt, the names of the patients and their
strata, not on the order of files.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from g2dbench.errors import BadData
from g2dbench.sample import PRESENT, SPLITS, Record

Stratum = tuple[str, ...]

GOLDEN = 0.6180339887498949


def uniform_hash(salt: str, name: str) -> float:
    """Return a hash of a name as a number in [0, 1), the same on every machine."""
    value = hashlib.sha256(f"{salt}\0{name}".encode()).digest()
    return int.from_bytes(value[:7], "big") / 2**56


def interleave(strata: Mapping[str, Stratum], salt: str) -> list[str]:
    """Order patients so that every contiguous part of the order is stratified.

    strata: the stratum of each patient. The k-th of n patients of a stratum, in hash order, gets
    the position (k + u) / n. The offsets u of successive strata follow the golden ratio, so that
    rare strata are spread evenly.
    """
    members: dict[Stratum, list[str]] = defaultdict(list)
    for patient, stratum in strata.items():
        members[stratum].append(patient)
    start = uniform_hash(salt, "offset")
    placed: list[tuple[float, float, str]] = []
    for order, stratum in enumerate(sorted(members)):
        offset = (start + order * GOLDEN) % 1.0
        ranked = sorted((uniform_hash(salt, patient), patient) for patient in members[stratum])
        count = len(ranked)
        placed += [((k + offset) / count, value, name) for k, (value, name) in enumerate(ranked)]
    return [patient for _, _, patient in sorted(placed)]


def strata_of(findings: Iterable[tuple[str, Iterable[str]]]) -> dict[str, Stratum]:
    """Map each patient to the findings of all of the patient's images.

    findings: (patient, present findings) of each image.
    """
    present: dict[str, set[str]] = defaultdict(set)
    for patient, names in findings:
        present[patient].update(names)
    return {patient: tuple(sorted(names)) for patient, names in present.items()}


def assign(
    records: Sequence[Record], name: str, shares: tuple[float, float, float]
) -> dict[str, str]:
    """Assign each patient to train, valid or test, in these shares of the patients.

    Patients with an official split keep it for all of their images. BadData if two official splits
    share a patient.
    """
    official = _official_splits(records, name)
    free = strata_of(
        (record.patient, _present_findings(record))
        for record in records
        if record.patient not in official
    )
    order = interleave(free, f"{name} split")
    ends = [int(share * len(order) + 0.5) for share in accumulate(shares)]
    # A rounding error in the sum of the shares must not drop the last patient.
    ends[-1] = len(order)
    starts = [0, *ends[:-1]]
    assigned = {
        patient: split
        for split, start, end in zip(SPLITS, starts, ends, strict=True)
        for patient in order[start:end]
    }
    return {**official, **assigned}


def _official_splits(records: Sequence[Record], name: str) -> dict[str, str]:
    """The official split of each patient that has one."""
    official: dict[str, str] = {}
    for record in records:
        if record.split is None:
            continue
        before = official.setdefault(record.patient, record.split)
        if before != record.split:
            raise BadData(
                f"the official splits of {name} share patient {record.patient!r}: "
                f"{before} and {record.split} (image {record.id!r})"
            )
    return official


def _present_findings(record: Record) -> list[str]:
    labels = record.labels or {}
    return [finding for finding, value in labels.items() if value == PRESENT]
