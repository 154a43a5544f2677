"""What a reader found: the usable records in id order, each with its split, and what fell out."""

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
"""Train, valid and test shares where a reader names none."""

_FIELDS = tuple(item.name for item in fields(Record) if item.name != "masks")


@dataclass
class Losses:
    """What no row is made of: broken, missing, or left out by the split; and its leaks.

    notes: what else of the tables is not in the rows, in sentences.
    """

    rejected: list[Rejected] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unlisted: int = 0
    leaks: tuple[str, ...] = ()


class Catalogue:
    """Records of one data set, ready to be decoded in any number of runs."""

    def __init__(self, asked: Request, root: Path, progress: "Progress") -> None:
        """Read the tables of a data set; BadData if they are not what they should be."""
        self.losses = Losses()
        usable = _usable(asked, progress, self.losses)
        records = list(_unique(usable, self.losses))
        found = _assigned(asked, root, records, self.losses)
        self._splits, self.losses.leaks = found.splits, found.warnings
        self._records = [record for record in records if record.id in found.splits]
        self.losses.unlisted = len(records) - len(self._records)
        self.losses.notes += _counted(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def records(self, start: int, stop: int | None = None) -> Iterator[Record]:
        """Some of the records, with their splits."""
        for at in range(*slice(start, stop).indices(len(self))):
            record = self._records[at]
            yield replace(record, split=self._splits[record.id])


def mark(records: Iterable[Record]) -> str:
    """SHA-256 of all that rows are made from, short of opening images: fields, sizes, times.

    Bytes within another file are marked by what their `Readable` says of it.

    Equal marks mean equal records. Equal records may have other marks, for instance in another
    version of Python, which only costs reading them again.
    """
    found = hashlib.sha256()
    for record in records:
        found.update(repr([getattr(record, name) for name in _FIELDS]).encode(errors="replace"))
        found.update(pickle.dumps(record.masks, protocol=5))
        found.update(repr(_stamp(record.path)).encode())
    return found.hexdigest()


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns


def _assigned(
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


def _usable(asked: Request, progress: "Progress", losses: Losses) -> Iterator[Record]:
    for found in progress(asked.found(), f"read {asked.card.name}"):
        if isinstance(found, Rejected):
            losses.rejected.append(found)
        elif isinstance(found, Missing):
            losses.missing.append(found)
        elif isinstance(found, Note):
            losses.notes.append(found.text)
        else:
            yield found


def _counted(records: Iterable[Record]) -> list[str]:
    """What the records' own notes say, each with the number of its images and one of them."""
    owners: dict[str, list[str]] = defaultdict(list)
    for record in records:
        for note in record.notes:
            owners[note].append(record.id)
    return [
        f"{len(ids)} image{'s' * (len(ids) > 1)}, such as {ids[0]}: {note}"
        for note, ids in sorted(owners.items())
    ]


def _unique(records: Iterator[Record], losses: Losses) -> Iterator[Record]:
    last: Record | None = None
    for record in sorted(records, key=lambda record: (record.id, str(record.path))):
        if last is not None and record.id == last.id:
            reason = f"the id was used before, by {last.path}"
            losses.rejected.append(Rejected(record.id, record.path, reason))
            continue
        last = record
        yield record
