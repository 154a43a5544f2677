"""Splits by patient for data sets whose owners made none: stratified, and blind to file order.

Patients are ordered so that every stretch of the order holds all strata in proportion; a split is
a stretch. The order depends on the salt, the patients' names and their strata alone.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from g2dbench.errors import BadData
from g2dbench.sample import PRESENT, SPLITS, Record

Stratum = tuple[str, ...]

GOLDEN = 0.6180339887498949


def rank(salt: str, name: str) -> float:
    """A name's uniform number in [0, 1), the same everywhere."""
    mark = hashlib.sha256(f"{salt}\0{name}".encode()).digest()
    return int.from_bytes(mark[:7], "big") / 2**56


def interleave(strata: Mapping[str, Stratum], salt: str) -> list[str]:
    """Patients in an order whose every stretch is stratified.

    strata: patient -> stratum. Within a stratum of n, hash order gives positions (k + u) / n; the
    offsets u of neighbouring strata follow the golden ratio, so that rare strata spread evenly.
    """
    members: dict[Stratum, list[str]] = defaultdict(list)
    for patient, stratum in strata.items():
        members[stratum].append(patient)
    start = rank(salt, "offset")
    placed: list[tuple[float, float, str]] = []
    for order, stratum in enumerate(sorted(members)):
        offset = (start + order * GOLDEN) % 1.0
        ranked = sorted((rank(salt, patient), patient) for patient in members[stratum])
        count = len(ranked)
        placed += [((k + offset) / count, mark, name) for k, (mark, name) in enumerate(ranked)]
    return [patient for _, _, patient in sorted(placed)]


def strata_of(findings: Iterable[tuple[str, Iterable[str]]]) -> dict[str, Stratum]:
    """Patient -> the findings present in any of the patient's images, from (patient, findings)."""
    present: dict[str, set[str]] = defaultdict(set)
    for patient, names in findings:
        present[patient].update(names)
    return {patient: tuple(sorted(names)) for patient, names in present.items()}


def assign(
    records: Sequence[Record], name: str, parts: tuple[float, float, float]
) -> dict[str, str]:
    """Patient -> train, valid or test, in these shares of the patients.

    Records that carry an official split keep it, with all images of their patient; BadData if
    the official splits themselves share a patient.
    """
    official = _official(records, name)
    free = strata_of(
        (record.patient, _present(record)) for record in records if record.patient not in official
    )
    order = interleave(free, f"{name} split")
    ends = [int(share * len(order) + 0.5) for share in accumulate(parts)]
    # Shares that sum to 1 only nearly must not lose the last patient.
    ends[-1] = len(order)
    starts = [0, *ends[:-1]]
    drawn = {
        patient: split
        for split, start, end in zip(SPLITS, starts, ends, strict=True)
        for patient in order[start:end]
    }
    return {**official, **drawn}


def _official(records: Sequence[Record], name: str) -> dict[str, str]:
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


def _present(record: Record) -> list[str]:
    labels = record.labels or {}
    return [finding for finding, value in labels.items() if value == PRESENT]
