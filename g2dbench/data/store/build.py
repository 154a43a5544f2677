"""Build one store: list the records, split, decode, pack, count what was lost, publish.

Everything is written into a hidden folder that moves into place when its last byte is on disk. A
killed run leaves that folder, which nobody mistakes for a store. The next run keeps the batches
of it that are whole and still wanted, and goes on behind them; see `journal`.
"""

import csv
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import g2dbench
from g2dbench.data.store import decode
from g2dbench.data.store.decode import Frame, decode_all
from g2dbench.data.store.journal import Journal, Written
from g2dbench.data.store.manifest import (
    MANIFEST_FILE,
    QUARANTINE_FILE,
    ROWS_FILE,
    Manifest,
    Summary,
    begin_fingerprint,
)
from g2dbench.data.store.records import Catalogue, Losses, mark
from g2dbench.data.store.request import Request
from g2dbench.data.store.row import Row, pack
from g2dbench.data.store.store import card_fields
from g2dbench.data.tables.files import layout_hint, trusted_roots
from g2dbench.data.tables.records import Rejected
from g2dbench.errors import BadData
from g2dbench.system.source_digest import source_digest

if TYPE_CHECKING:
    from g2dbench.progress import Progress

MAX_REJECTED = 0.05
"""The share of broken images above which a data set is not what it should be."""

BATCH, BATCH_BYTES = 64, 2**25
"""Records that are written at once: at most so many, and fewer where images are large."""

CELL = 1000
"""Characters of an id, a path or a reason that the quarantine list shows."""

_SHAPED_BY = (
    "numpy",
    "pillow",
    "pydicom",
    "pylibjpeg-openjpeg",
    "pyjpegls",
    "python-gdcm",
    "scipy",
)


class Source(Protocol):
    """Where the rows of a store come from, by position, in ascending id order."""

    losses: Losses

    def __len__(self) -> int: ...

    def mark(self, start: int, stop: int) -> str:
        """What the rows at these positions depend on."""
        ...

    def rows(self, start: int) -> Iterator[Row | Rejected]:
        """A row or a rejection for each position from `start` on."""
        ...


def build(asked: Request, folder: Path, workers: int, progress: "Progress") -> None:
    """Make the store `folder`, replacing what is there; BadData leaves what was there."""
    partial = folder.with_name(f".{folder.name}.partial")
    log = folder.with_name(f".{folder.name}.journal")
    partial.mkdir(exist_ok=True)
    source = _source(asked, workers, progress)
    begun = begin_fingerprint(asked.size, asked.border)
    with Journal(partial / ROWS_FILE, log, _head(asked), begun) as journal:
        _fill(journal, source, asked, progress)
        fingerprint, written = journal.finish(), journal.written
    _write_quarantine(partial / QUARANTINE_FILE, source.losses, written)
    _check_losses(asked, partial, source.losses, written)
    _seal(asked, partial, source.losses, written, fingerprint)
    _publish(partial, folder)
    log.unlink()


class _Files:
    """The rows of an official folder."""

    def __init__(self, asked: Request, root: Path, workers: int, progress: "Progress") -> None:
        try:
            self._catalogue = Catalogue(asked, root, progress)
        except BadData as error:
            raise BadData(f"{error}{layout_hint(root, asked.card.layout)}") from error
        self._frame = Frame(root, tuple(trusted_roots(root)), asked.size, asked.border)
        self._workers = workers
        self.losses = self._catalogue.losses

    def __len__(self) -> int:
        return len(self._catalogue)

    def mark(self, start: int, stop: int) -> str:
        return mark(self._catalogue.records(start, stop))

    def rows(self, start: int) -> Iterator[Row | Rejected]:
        return decode_all(self._catalogue.records(start), self._frame, self._workers)


class _Drawn:
    """The rows of an embedded set; its ids ascend with the index."""

    def __init__(self, asked: Request, workers: int) -> None:
        self._asked, self._workers = asked, workers
        self.losses = Losses()

    def __len__(self) -> int:
        return self._asked.drawing.count

    def mark(self, start: int, stop: int) -> str:
        return f"seed {self._asked.drawing.seed}, {start} to {stop}"

    def rows(self, start: int) -> Iterator[Row | Rejected]:
        drawing, size = self._asked.drawing, self._asked.size
        wanted = range(start, drawing.count)
        samples = self._asked.module.draw_many(wanted, size, drawing.seed, self._workers)
        return (pack(sample) for sample in samples)


def _source(asked: Request, workers: int, progress: "Progress") -> Source:
    if asked.root is None:
        return _Drawn(asked, workers)
    return _Files(asked, asked.root, workers, progress)


def _fill(journal: Journal, source: Source, asked: Request, progress: "Progress") -> None:
    """Write every batch that is not there yet."""
    step = max(1, min(BATCH, BATCH_BYTES // asked.size**2))
    starts = range(0, len(source), step)
    kept = journal.keep(source.mark(start, start + step) for start in starts)
    first = min(kept * step, len(source))
    title = f"prepare {asked.card.name}" + (f", going on after {first}" if first else "")
    rows = iter(progress(source.rows(first), title, len(source) - first))
    for start in starts[kept:]:
        stop = min(start + step, len(source))
        journal.append(source.mark(start, start + step), _next(rows, stop - start))


def _next(rows: Iterator[Row | Rejected], count: int) -> Iterable[Row | Rejected]:
    return (next(rows) for _ in range(count))


def _head(asked: Request) -> str:
    """What rows depend on beside their records: the request, and the code that makes them."""
    versions = {name: _version(name) for name in _SHAPED_BY}
    code = source_digest((asked.module.__name__, decode.__name__))
    told = [asked.card.name, asked.origin, asked.size, asked.border, versions, code]
    return json.dumps(told)


def _version(name: str) -> str | None:
    """A package's version, None where it is an extra that is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _check_losses(asked: Request, partial: Path, losses: Losses, written: Written) -> None:
    """BadData if nothing is left or too much is broken; the list of losses is kept beside."""
    broken = [*losses.rejected, *written.rejected]
    rejected, missing, stored = len(broken), len(losses.missing), written.count
    enough = stored > 0 and rejected <= MAX_REJECTED * (stored + rejected)
    if enough:
        return
    kept = partial.with_name(f"{asked.folder}.{QUARANTINE_FILE}")
    shutil.copyfile(partial / QUARANTINE_FILE, kept)
    shutil.rmtree(partial)
    first = "".join(f"\n  {item.id[:CELL]}: {item.reason[:CELL]}" for item in broken[:3])
    if losses.missing and not broken:
        first = f"\n  {losses.missing[0].id[:CELL]}: there is no such file"
    raise BadData(
        f"{asked.card.name} in {asked.root} cannot be prepared: of {stored + rejected + missing} "
        f"images that its tables list {stored} are usable, {rejected} are broken and {missing} are "
        f"missing; at most {MAX_REJECTED:.0%} may be broken. All of them: {kept}{first}"
    )


def _write_quarantine(path: Path, losses: Losses, written: Written) -> None:
    absent = "missing: no such image in the folder"
    broken = [*losses.rejected, *written.rejected]
    lost = [(item.id, str(item.path or ""), item.reason) for item in broken]
    lost += [(item.id, str(item.path or ""), absent) for item in losses.missing]
    # Names of files need not be UTF-8, and a cell of a broken table can be as long as the table.
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "path", "reason"))
        writer.writerows(sorted(tuple(cell[:CELL] for cell in row) for row in lost))


def _seal(
    asked: Request, partial: Path, losses: Losses, written: Written, fingerprint: str
) -> None:
    """Write the manifest, last, after the rows have reached the disk."""
    rejected, missing = len(losses.rejected) + len(written.rejected), len(losses.missing)
    summary = Summary(
        listed=written.count + rejected + missing + losses.unlisted,
        stored=written.count,
        rejected=rejected,
        missing=missing,
        splits=dict(sorted(written.splits.items())),
        unlisted=losses.unlisted,
        leaks=losses.leaks,
        notes=tuple(note[:CELL] for note in losses.notes),
    )
    manifest = Manifest(
        version=g2dbench.__version__,
        reader=asked.module.CARD.name,
        card=card_fields(asked.card),
        size=asked.size,
        origin=asked.origin,
        split=asked.split.name,
        border=asked.border,
        rows=written.count,
        bytes=(partial / ROWS_FILE).stat().st_size,
        fingerprint=fingerprint,
        summary=summary,
    )
    _sync(partial / ROWS_FILE)
    _sync(partial / QUARANTINE_FILE)
    (partial / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    _sync(partial / MANIFEST_FILE)
    _sync(partial)


def _sync(path: Path) -> None:
    """Have a file, or a folder's names, on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _publish(partial: Path, folder: Path) -> None:
    """Move a finished store into place; a broken one in its way is removed."""
    broken = folder.with_name(f".{folder.name}.broken")
    shutil.rmtree(broken, ignore_errors=True)
    if folder.exists():
        folder.rename(broken)
    partial.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(broken, ignore_errors=True)
