"""The usable records of a reader in id order, each with its split, and the losses."""

import hashlib
import os
import pickle
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from g2dbench.data.splits import published, stratified
from g2dbench.data.store.request import Request
from g2dbench.data.tables.records import Missing, Note, Rejected
from g2dbench.sample import Record

if TYPE_CHECKING:
    from g2dbench.progress import Progress

SPLIT = (0.8, 0.1, 0.1)
"""Default shares of train, valid and test, for readers that define none."""

_FIELDS = tuple(item.name for item in fields(Record) if item.name != "masks")


@dataclass
class Losses:
    """Images that are not stored: damaged, missing, or left out by the split (`unlisted`).

    notes: sentences about other content of the tables that is not stored. leaks: sentences about
    patients or images in two splits.
    """

    rejected: list[Rejected] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unlisted: int = 0
    leaks: tuple[str, ...] = ()


class RecordList:
    """The records of a data set, ready to be decoded from any position."""

    def __init__(self, asked: Request, root: Path, progress: "Progress") -> None:
        """Read the tables of a data set; BadData if one is missing or damaged."""
        self.losses = Losses()
        usable = _usable_records(asked, progress, self.losses)
        records = list(_unique_records(usable, self.losses))
        found = _assign_splits(asked, root, records, self.losses)
        self._splits, self.losses.leaks = found.splits, found.warnings
        self._records = [record for record in records if record.id in found.splits]
        self.losses.unlisted = len(records) - len(self._records)
        self.losses.notes += _summarize_notes(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def records(self, start: int, stop: int | None = None) -> Iterator[Record]:
        """The records from position `start` to `stop`, with their splits."""
        for at in range(*slice(start, stop).indices(len(self))):
            record = self._records[at]
            yield replace(record, split=self._splits[record.id])


def records_digest(records: Iterable[Record]) -> str:
    """Return the SHA-256 of the fields of records, and of the sizes and times of their files.

    Images are not opened. For images within another file, the repr of their `Readable` counts.
    Equal digests mean equal records. Equal records may have different digests, for example in
    another version of Python; they are then read again.
    """
    found = hashlib.sha256()
    for record in records:
        found.update(repr([getattr(record, name) for name in _FIELDS]).encode(errors="replace"))
        found.update(pickle.dumps(record.masks, protocol=5))
        found.update(repr(_size_and_time(record.path)).encode())
    return found.hexdigest()


def _size_and_time(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns


def _assign_splits(
    asked: Request, root: Path, records: Sequence[Record], losses: Losses
) -> published.SplitAssignment:
    if asked.split.name == published.OURS:
        shares = getattr(asked.module, "SPLIT", SPLIT)
        drawn = stratified.assign(records, asked.card.name, shares)
        return published.SplitAssignment({record.id: drawn[record.patient] for record in records})
    lost = [item.id for item in losses.missing] + [item.id for item in losses.rejected]
    listed = [record.id for record in records] + lost
    name, reader = asked.card.name, asked.module
    return published.assign(asked.split, name, reader, root, records, listed)


def _usable_records(asked: Request, progress: "Progress", losses: Losses) -> Iterator[Record]:
    for found in progress(asked.found(), f"read {asked.card.name}"):
        if isinstance(found, Rejected):
            losses.rejected.append(found)
        elif isinstance(found, Missing):
            losses.missing.append(found)
        elif isinstance(found, Note):
            losses.notes.append(found.text)
        else:
            yield found


def _summarize_notes(records: Iterable[Record]) -> list[str]:
    """Return each note of the records once, with the number of its images and an example."""
    owners: dict[str, list[str]] = defaultdict(list)
    for record in records:
        for note in record.notes:
            owners[note].append(record.id)
    return [
        f"{len(ids)} image{'s' * (len(ids) > 1)}, such as {ids[0]}: {note}"
        for note, ids in sorted(owners.items())
    ]


def _unique_records(records: Iterator[Record], losses: Losses) -> Iterator[Record]:
    last: Record | None = None
    for record in sorted(records, key=lambda record: (record.id, str(record.path))):
        if last is not None and record.id == last.id:
            reason = f"the id was used before, by {last.path}"
            losses.rejected.append(Rejected(record.id, record.path, reason))
            continue
        last = record
        yield record
