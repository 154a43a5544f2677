"""Build one store: list the records, split, decode, pack, count what was lost, publish.

Everything is written into a hidden folder that moves into place when its last byte is on disk. A
killed run leaves that folder, which nobody mistakes for a store and which the next run removes.
"""

import csv
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import g2dbench
from g2dbench.data import splits
from g2dbench.data.decode import Frame, decode_all
from g2dbench.data.reading import Missing, Rejected, trusted_roots
from g2dbench.data.request import Request
from g2dbench.data.rows import Row, pack
from g2dbench.data.sample import Record
from g2dbench.data.store import (
    MANIFEST_FILE,
    QUARANTINE_FILE,
    ROWS_FILE,
    Manifest,
    Summary,
    card_fields,
    write_rows,
)
from g2dbench.errors import BadData

if TYPE_CHECKING:
    from g2dbench.task import Progress

MAX_REJECTED = 0.05
"""The share of broken images above which a data set is not what it should be."""

SPLIT = (0.8, 0.1, 0.1)
"""Train, valid and test shares where a reader names none."""


@dataclass
class Tally:
    """What was not stored, and how many images each split got; filled while rows pass."""

    rejected: list[Rejected] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    splits: Counter[str] = field(default_factory=Counter)

    def keep(self, rows: Iterable[Row | Rejected]) -> Iterator[Row]:
        """The rows among these; rejections are noted."""
        for row in rows:
            if isinstance(row, Rejected):
                self.rejected.append(row)
            else:
                self.splits[row["split"]] += 1
                yield row


def build(asked: Request, folder: Path, workers: int, progress: "Progress") -> None:
    """Make the store `folder`, replacing what is there; BadData leaves what was there."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    tally = Tally()
    try:
        if asked.root is None:
            rows, total = _drawn(asked, workers), asked.drawing.count
        else:
            records = _list(asked, asked.root, tally, progress)
            frame = Frame(asked.root, tuple(trusted_roots(asked.root)), asked.size)
            rows, total = decode_all(records, frame, workers), len(records)
        shown = progress(tally.keep(rows), f"prepare {asked.card.name}", total)
        stored, fingerprint = write_rows(partial / ROWS_FILE, shown, asked.size)
        _write_quarantine(partial / QUARANTINE_FILE, tally)
        _check_losses(asked, partial, stored, tally)
        _seal(asked, partial, tally, stored, fingerprint)
        _publish(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _drawn(asked: Request, workers: int) -> Iterator[Row | Rejected]:
    """The rows of an embedded set; its ids ascend with the index."""
    drawing = asked.drawing
    samples = asked.module.draw_many(range(drawing.count), asked.size, drawing.seed, workers)
    return (pack(sample) for sample in samples)


def _list(asked: Request, root: Path, tally: Tally, progress: "Progress") -> list[Record]:
    """The usable records in id order, each with a split; the others go to the tally."""
    records: list[Record] = []
    for found in progress(asked.found(), f"read {asked.card.name}"):
        if isinstance(found, Rejected):
            tally.rejected.append(found)
        elif isinstance(found, Missing):
            tally.missing.append(found)
        else:
            records.append(found)
    records = list(_unique(records, tally))
    shares = getattr(asked.module, "SPLIT", SPLIT)
    split = splits.assign(records, asked.card.name, shares)
    return [replace(record, split=split[record.patient]) for record in records]


def _unique(records: list[Record], tally: Tally) -> Iterator[Record]:
    last: Record | None = None
    for record in sorted(records, key=lambda record: (record.id, str(record.path))):
        if last is not None and record.id == last.id:
            reason = f"the id was used before, by {last.path}"
            tally.rejected.append(Rejected(record.id, record.path, reason))
            continue
        last = record
        yield record


def _check_losses(asked: Request, partial: Path, stored: int, tally: Tally) -> None:
    """BadData if nothing is left or too much is broken; the list of losses is kept beside."""
    rejected, missing = len(tally.rejected), len(tally.missing)
    enough = stored > 0 and rejected <= MAX_REJECTED * (stored + rejected)
    if enough:
        return
    kept = partial.with_name(f"{asked.folder}.{QUARANTINE_FILE}")
    shutil.copyfile(partial / QUARANTINE_FILE, kept)
    first = "".join(f"\n  {item.id}: {item.reason}" for item in tally.rejected[:3])
    raise BadData(
        f"{asked.card.name} in {asked.root} cannot be prepared: of {stored + rejected + missing} "
        f"images that its tables list {stored} are usable, {rejected} are broken and {missing} are "
        f"missing; at most {MAX_REJECTED:.0%} may be broken. All of them: {kept}{first}"
    )


def _write_quarantine(path: Path, tally: Tally) -> None:
    absent = "missing: no such image in the folder"
    lost = [(item.id, str(item.path or ""), item.reason) for item in tally.rejected]
    lost += [(item.id, str(item.path or ""), absent) for item in tally.missing]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "path", "reason"))
        writer.writerows(sorted(lost))


def _seal(asked: Request, partial: Path, tally: Tally, stored: int, fingerprint: str) -> None:
    """Write the manifest, last, after the rows have reached the disk."""
    rejected, missing = len(tally.rejected), len(tally.missing)
    summary = Summary(
        listed=stored + rejected + missing,
        stored=stored,
        rejected=rejected,
        missing=missing,
        splits=dict(sorted(tally.splits.items())),
    )
    manifest = Manifest(
        version=g2dbench.__version__,
        card=card_fields(asked.card),
        size=asked.size,
        origin=asked.origin,
        rows=stored,
        bytes=(partial / ROWS_FILE).stat().st_size,
        fingerprint=fingerprint,
        summary=summary,
    )
    (partial / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    for name in (ROWS_FILE, QUARANTINE_FILE, MANIFEST_FILE):
        with (partial / name).open("rb") as file:
            os.fsync(file.fileno())


def _publish(partial: Path, folder: Path) -> None:
    """Move a finished store into place; a broken one in its way is removed."""
    broken = folder.with_name(f".{folder.name}.broken")
    shutil.rmtree(broken, ignore_errors=True)
    if folder.exists():
        folder.rename(broken)
    partial.rename(folder)
    shutil.rmtree(broken, ignore_errors=True)
