"""Builds a store: lists records, assigns splits, decodes, packs, counts losses, publishes.

Everything is written to a hidden folder, which is renamed when the last byte is on disk, so that
an interrupted run never leaves an incomplete store. The next run reuses the complete batches in
the hidden folder whose records have not changed, and continues after them; see `journal`.
"""

import csv
import json
import shutil
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import g2dbench
from g2dbench.data.store import decode
from g2dbench.data.store.decode import DecodeSettings, decode_all
from g2dbench.data.store.journal import Journal, Written
from g2dbench.data.store.manifest import (
    MANIFEST_FILE,
    QUARANTINE_FILE,
    ROWS_FILE,
    Manifest,
    Summary,
    start_fingerprint,
)
from g2dbench.data.store.publish import (
    journal_of,
    partial_of,
    publish,
    remove_leftovers,
    replaced_of,
    sync,
)
from g2dbench.data.store.records import Losses, RecordList, records_digest
from g2dbench.data.store.request import Request
from g2dbench.data.store.row import Row, pack
from g2dbench.data.store.source_files import SourceFiles
from g2dbench.data.store.store import card_fields
from g2dbench.data.tables.files import layout_hint, trusted_roots
from g2dbench.data.tables.records import Rejected
from g2dbench.errors import BadData
from g2dbench.system.source_digest import source_digest

if TYPE_CHECKING:
    from g2dbench.progress import Progress

MAX_REJECTED = 0.05
"""Preparing fails if a larger share of the images is damaged."""

BATCH, BATCH_BYTES = 64, 2**25
"""Limits of a batch that is written at once: records, and bytes of pixels."""

MAX_CELL = 1000
"""Largest number of characters of an id, a path or a reason in the quarantine list."""

_CONVERSION_PACKAGES = (
    "numpy",
    "pillow",
    "pydicom",
    "pylibjpeg-openjpeg",
    "pyjpegls",
    "python-gdcm",
    "scipy",
)


class Source(Protocol):
    """The source of a store's rows, by position, in ascending id order."""

    losses: Losses

    def __len__(self) -> int: ...

    def records_digest(self, start: int, stop: int) -> str:
        """A text that changes if the rows at these positions could change."""
        ...

    def rows(self, start: int) -> Iterator[Row | Rejected]:
        """A row or a rejection for each position from `start` on."""
        ...


def build(
    asked: Request,
    folder: Path,
    workers: int,
    progress: "Progress",
    files: SourceFiles | None = None,
) -> None:
    """Build the store `folder`; it replaces an existing one, unless BadData is raised.

    workers: processes that decode images; 0 means this process. files: of the source, which the
    manifest records.
    """
    partial = partial_of(folder)
    log = journal_of(folder)
    shutil.rmtree(replaced_of(folder), ignore_errors=True)
    partial.mkdir(exist_ok=True)
    source = open_source(asked, workers, progress)
    fingerprint_start = start_fingerprint(asked.size, asked.border)
    with Journal(partial / ROWS_FILE, log, _journal_header(asked), fingerprint_start) as journal:
        _fill(journal, source, asked, progress)
        fingerprint, written = journal.finish(), journal.written
    _write_quarantine(partial / QUARANTINE_FILE, source.losses, written)
    _check_losses(asked, partial, source.losses, written)
    _write_manifest(asked, partial, source.losses, written, fingerprint, files)
    publish(partial, folder)
    remove_leftovers(folder)


class _OfficialRows:
    """The rows of an official data set in a folder."""

    def __init__(self, asked: Request, root: Path, workers: int, progress: "Progress") -> None:
        try:
            self._records = RecordList(asked, root, progress)
        except BadData as error:
            raise BadData(f"{error}{layout_hint(root, asked.card.layout)}") from error
        self._settings = DecodeSettings(root, tuple(trusted_roots(root)), asked.size, asked.border)
        self._workers = workers
        self.losses = self._records.losses

    def __len__(self) -> int:
        return len(self._records)

    def records_digest(self, start: int, stop: int) -> str:
        return records_digest(self._records.records(start, stop))

    def rows(self, start: int) -> Iterator[Row | Rejected]:
        return decode_all(self._records.records(start), self._settings, self._workers)


class _SyntheticRows:
    """The rows of an embedded data set; its ids ascend with the index."""

    def __init__(self, asked: Request, workers: int) -> None:
        self._asked, self._workers = asked, workers
        self.losses = Losses()

    def __len__(self) -> int:
        return self._asked.generation.count

    def records_digest(self, start: int, stop: int) -> str:
        return f"seed {self._asked.generation.seed}, {start} to {stop}"

    def rows(self, start: int) -> Iterator[Row | Rejected]:
        generation, size = self._asked.generation, self._asked.size
        wanted = range(start, generation.count)
        samples = self._asked.module.generate_many(wanted, size, generation.seed, self._workers)
        return (pack(sample) for sample in samples)


def open_source(asked: Request, workers: int, progress: "Progress") -> Source:
    """The rows of a request; errors as `RecordList`."""
    if asked.root is None:
        return _SyntheticRows(asked, workers)
    return _OfficialRows(asked, asked.root, workers, progress)


def _fill(journal: Journal, source: Source, asked: Request, progress: "Progress") -> None:
    """Write all batches that an interrupted run has not written."""
    step = max(1, min(BATCH, BATCH_BYTES // asked.size**2))
    starts = range(0, len(source), step)
    reused = journal.keep(source.records_digest(start, start + step) for start in starts)
    first = min(reused * step, len(source))
    title = f"prepare {asked.card.name}" + (f", going on after {first}" if first else "")
    rows = iter(progress(source.rows(first), title, len(source) - first))
    for start in starts[reused:]:
        stop = min(start + step, len(source))
        journal.append(source.records_digest(start, start + step), _next_rows(rows, stop - start))


def _next_rows(rows: Iterator[Row | Rejected], count: int) -> Iterable[Row | Rejected]:
    return (next(rows) for _ in range(count))


def _journal_header(asked: Request) -> str:
    """Return what rows depend on besides their records: the request, and the code's digest."""
    versions = {name: _version(name) for name in _CONVERSION_PACKAGES}
    code = source_digest((asked.module.__name__, decode.__name__))
    parts = [asked.card.name, asked.origin, asked.size, asked.border, versions, code]
    return json.dumps(parts)


def _version(name: str) -> str | None:
    """Return a package's version, or None for an extra that is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _check_losses(asked: Request, partial: Path, losses: Losses, written: Written) -> None:
    """Raise BadData if no image is usable or too many are damaged, and keep the quarantine list."""
    broken = [*losses.rejected, *written.rejected]
    rejected, missing, stored = len(broken), len(losses.missing), written.count
    enough = stored > 0 and rejected <= MAX_REJECTED * (stored + rejected)
    if enough:
        return
    kept = partial.with_name(f"{asked.folder}.{QUARANTINE_FILE}")
    shutil.copyfile(partial / QUARANTINE_FILE, kept)
    shutil.rmtree(partial)
    first = "".join(f"\n  {item.id[:MAX_CELL]}: {item.reason[:MAX_CELL]}" for item in broken[:3])
    if losses.missing and not broken:
        first = f"\n  {losses.missing[0].id[:MAX_CELL]}: there is no such file"
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
    # File names may not be UTF-8, and a cell of a damaged table can be as long as the table.
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "path", "reason"))
        writer.writerows(sorted(tuple(cell[:MAX_CELL] for cell in row) for row in lost))


def _write_manifest(
    asked: Request,
    partial: Path,
    losses: Losses,
    written: Written,
    fingerprint: str,
    files: SourceFiles | None,
) -> None:
    """Write the manifest after the rows have reached the disk."""
    rejected, missing = len(losses.rejected) + len(written.rejected), len(losses.missing)
    summary = Summary(
        listed=written.count + rejected + missing + losses.unlisted,
        stored=written.count,
        rejected=rejected,
        missing=missing,
        splits=dict(sorted(written.splits.items())),
        unlisted=losses.unlisted,
        leaks=losses.leaks,
        notes=tuple(note[:MAX_CELL] for note in losses.notes),
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
        source=files,
    )
    sync(partial / ROWS_FILE)
    sync(partial / QUARANTINE_FILE)
    (partial / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    sync(partial / MANIFEST_FILE)
    sync(partial)
