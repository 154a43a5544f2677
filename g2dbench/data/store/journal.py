"""The rows of a store while it is built, and the journal from which an interrupted run resumes.

    .<store>.partial/rows.arrow   an Arrow stream, appended batch by batch
    .<store>.journal              a header with the request and the digest of the code, then one
                                  line per batch, written after the batch: `Entry`

A resumed run reuses the first batches of the journal whose records are unchanged (`mark`) and whose
bytes have the recorded hash. Both files are truncated after the last of them, which removes what an
interruption or a power failure left incomplete. The result equals that of an uninterrupted run.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from g2dbench.data.store.row import FIELDS, Row
from g2dbench.data.tables.files import printable
from g2dbench.data.tables.records import Rejected

END = b"\xff\xff\xff\xff\0\0\0\0"
"""The last bytes of an Arrow stream."""


class Entry(BaseModel):
    """A line of the journal, for one batch.

    mark: digest of its records. end: its end in the rows file, in bytes. sha256: of its bytes.
    rejected: (id, path, reason) of the records that could not be used.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mark: str
    end: int
    sha256: str
    rejected: list[tuple[str, str, str]]


@dataclass
class Written:
    """What has been written so far: rows, rows by split, and rejected records."""

    count: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)


class Journal:
    """Appends batches of rows and records each; a context manager, which closes the files."""

    def __init__(self, rows: Path, log: Path, head: str, begun: "hashlib._Hash") -> None:
        """Open or create both files; call `keep` next.

        head: everything that rows depend on besides their records; if it has changed, both files
        start empty. begun: the store's fingerprint before its first row.
        """
        self.written = Written()
        self._fingerprint, self._last = begun, ""
        self._rows, self._log = _opened(rows), _opened(log)
        schema = FIELDS.serialize().to_pybytes()
        self._first = json.dumps(head).encode() + b"\n"
        fits = self._rows.read(len(schema)) == schema and self._log.readline() == self._first
        if not fits:
            _restart(self._rows, schema)
            _restart(self._log, self._first)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()
        self._log.close()

    def keep(self, marks: Iterable[str]) -> int:
        """Return how many of the batches with these marks can be reused, and truncate the rest."""
        kept = 0
        lines = iter(self._log.readline, b"")
        rows_end, log_end = self._rows.tell(), self._log.tell()
        for line, mark in zip(lines, marks, strict=False):
            entry = _parsed(line)
            if entry is None or entry.mark != mark or not self._take(entry, rows_end):
                break
            kept += 1
            rows_end, log_end = entry.end, log_end + len(line)
        for file, end in ((self._rows, rows_end), (self._log, log_end)):
            file.seek(end)
            file.truncate()
        return kept

    def append(self, mark: str, results: Iterable[Row | Rejected]) -> None:
        """Write the rows of a batch, in ascending id order, then its entry in the journal."""
        found = list(results)
        rows = [item for item in found if not isinstance(item, Rejected)]
        lost = [item for item in found if isinstance(item, Rejected)]
        batch = pa.RecordBatch.from_pylist(rows, schema=FIELDS)
        message = batch.serialize().to_pybytes() if rows else b""
        self._rows.write(message)
        self._rows.flush()
        entry = Entry(
            mark=mark,
            end=self._rows.tell(),
            sha256=hashlib.sha256(message).hexdigest(),
            rejected=[_told(item) for item in lost],
        )
        self._log.write(entry.model_dump_json().encode() + b"\n")
        self._log.flush()
        self._count(batch, lost)

    def finish(self) -> str:
        """End the stream and return the fingerprint, which includes every row's digest in order."""
        self._rows.write(END)
        self._rows.flush()
        return self._fingerprint.hexdigest()

    def _take(self, entry: Entry, start: int) -> bool:
        """Read and count a batch of an earlier run; False if its bytes have another hash."""
        message = self._rows.read(max(entry.end - start, 0))
        if hashlib.sha256(message).hexdigest() != entry.sha256:
            return False
        batch = pa.RecordBatch.from_pylist([], schema=FIELDS)
        if message:
            batch = pa.ipc.read_record_batch(pa.py_buffer(message), FIELDS)
        lost = [
            Rejected(name, Path(path) if path else None, why) for name, path, why in entry.rejected
        ]
        self._count(batch, lost)
        return True

    def _count(self, batch: pa.RecordBatch, lost: Sequence[Rejected]) -> None:
        for name, digest, split in zip(
            *(batch.column(name).to_pylist() for name in ("id", "digest", "split")), strict=True
        ):
            assert name > self._last, f"rows out of order: {self._last!r}, {name!r}"
            self._last = name
            self._fingerprint.update(digest)
            self.written.splits[split] = self.written.splits.get(split, 0) + 1
        self.written.count += batch.num_rows
        self.written.rejected += lost


def _told(lost: Rejected) -> tuple[str, str, str]:
    return printable(lost.id), printable(str(lost.path or "")), printable(lost.reason)


def _opened(path: Path) -> BinaryIO:
    path.touch()
    return path.open("r+b")


def _restart(file: BinaryIO, first: bytes) -> None:
    file.seek(0)
    file.truncate()
    file.write(first)
    file.flush()


def _parsed(line: bytes) -> Entry | None:
    """Parse a line of the journal; None if it is incomplete."""
    try:
        return Entry.model_validate_json(line) if line.endswith(b"\n") else None
    except ValidationError:
        return None
