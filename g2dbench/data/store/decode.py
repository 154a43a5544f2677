"""Turns records into packed rows: decodes the image, transforms its annotation to stored pixels.

Worker processes decode a limited number of images in advance, which limits the memory. Rows come
in the order of the records, for any number of processes.
"""

import errno
import hashlib
import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from g2dbench.data.annotations.geometry import Geometry, check_frame
from g2dbench.data.images.border import CROP, KEEP, Border, content_window
from g2dbench.data.images.image_file import MAX_PIXELS, decode_image, shrink
from g2dbench.data.store.row import TEXTS, Row, pack
from g2dbench.data.tables.files import is_within, read_bytes, relative_name
from g2dbench.data.tables.records import Rejected
from g2dbench.errors import BadData
from g2dbench.sample import ABSENT, PRESENT, SPLITS, UNCERTAIN, Record, Sample
from g2dbench.system.memory import out_of_memory
from g2dbench.system.worker_pool import process_pool, result_of

CHUNK = 8
CHUNKS_AHEAD = 4
"""Chunks that are submitted in advance, per process."""

MAX_TEXT = 1_000_000
"""Largest number of characters of a report or a name; real reports have a few thousand."""


@dataclass(frozen=True)
class DecodeSettings:
    """Where the files of a data set may lie, and how its images are stored.

    roots: resolved folders in which image files may lie. size: short side in pixels.
    """

    root: Path
    roots: tuple[Path, ...]
    size: int
    border: Border = KEEP


def decode_all(
    records: Iterable[Record], settings: DecodeSettings, workers: int
) -> Iterator[Row | Rejected]:
    """Yield a packed row or a rejection for each record, in order; 0 workers: in this process."""
    chunks = _chunks(records)
    if workers == 0:
        for chunk in chunks:
            yield from _decode_chunk(chunk, settings)
        return
    processes = process_pool(workers)
    pending: deque[Future[list[Row | Rejected]]] = deque()
    try:
        for chunk in chunks:
            pending.append(processes.submit(_decode_chunk, chunk, settings))
            if len(pending) >= workers * CHUNKS_AHEAD:
                yield from result_of(pending.popleft(), processes)
        while pending:
            yield from result_of(pending.popleft(), processes)
    except BrokenExecutor as error:
        raise BadData(
            f"a process that decodes images of {settings.root} ended, perhaps for lack of memory; "
            f"try fewer workers than {workers}"
        ) from error
    finally:
        processes.shutdown(cancel_futures=True)


def _chunks(records: Iterable[Record]) -> Iterator[list[Record]]:
    feed = iter(records)
    while chunk := list(islice(feed, CHUNK)):
        yield chunk


def _decode_chunk(chunk: list[Record], settings: DecodeSettings) -> list[Row | Rejected]:
    return [decode(record, settings) for record in chunk]


def decode(record: Record, settings: DecodeSettings) -> Row | Rejected:
    """Return a record as a packed row, or the reason why it cannot be used.

    MemoryError, or OSError for too many open files, where another machine could use it.
    """
    name = record.id or record.path.name
    try:
        check(record)
        data = file_bytes(record, settings)
        sample = load(record, data, settings.size, settings.border)
    except OSError as error:
        if error.errno in _OF_THE_MACHINE:
            raise
        return Rejected(name, record.path, f"cannot be read: {error.strerror}")
    except MemoryError:
        _check_memory()
        return Rejected(name, record.path, "there is not enough memory to decode it")
    except BadData as error:
        if out_of_memory(error):
            _check_memory()
        return Rejected(name, record.path, str(error))
    return pack(sample, relative_name(record.path, settings.root), hashlib.sha256(data).hexdigest())


_OF_THE_MACHINE = (errno.ENOMEM, errno.EMFILE, errno.ENFILE)
"""Errors of this process, not of the file: without it the store would lack good images."""


def _check_memory() -> None:
    """MemoryError unless the largest image would fit: then it is the machine, not the file."""
    bytearray(4 * MAX_PIXELS)


def file_bytes(record: Record, settings: DecodeSettings) -> bytes:
    """Return the bytes of a record's file.

    Raises BadData if it lies outside the data set's folder, OSError if it cannot be read.
    """
    if record.data is not None:
        return record.data.read()
    if not is_within(record.path, settings.roots):
        raise BadData(f"the file {record.path} lies outside the data set's folder {settings.root}")
    return read_bytes(record.path)


def check(record: Record) -> None:
    """Raise BadData if the fields of a record violate the contract in `g2dbench.sample`."""
    if not record.id or not record.patient:
        raise BadData(f"the record {record.id!r} needs both an id and a patient")
    for name in TEXTS:
        _check_text(record.id, name, getattr(record, name))
    if record.split is not None and record.split not in SPLITS:
        raise BadData(f"{record.id}: the split {record.split!r} is none of {', '.join(SPLITS)}")
    if record.age is not None and not (math.isfinite(record.age) and record.age >= 0):
        raise BadData(f"{record.id}: the age {record.age} is impossible")
    for finding, value in (record.labels or {}).items():
        if value not in (PRESENT, ABSENT, UNCERTAIN):
            raise BadData(f"{record.id}: the label of {finding!r} is {value!r}, not 1, 0 or -1")


def _check_text(owner: str, name: str, text: str | None) -> None:
    """Raise BadData unless a text can be stored; file names may have bytes that are not UTF-8."""
    try:
        (text or "").encode()
    except UnicodeEncodeError as error:
        raise BadData(f"{owner!a}: its {name} is no valid text: {error.reason}") from error
    if text and len(text) > MAX_TEXT:
        raise BadData(f"{owner[:40]}: its {name} has {len(text):,} characters")


def load(record: Record, data: bytes, size: int, border: Border = KEEP) -> Sample:
    """Return the sample of a record; `data` is its file. The short side is at most `size` pixels.

    Raises BadData if the file cannot be decoded, or is not a copy of the annotated image.
    """
    gray, file = decode_image(data, record.path, None)
    if record.frame is not None:
        check_frame(record.frame, file)
    window = content_window(gray) if border == CROP else (0, 0, *file)
    top, left, bottom, right = window
    image = shrink(gray[top:bottom, left:right], size)
    way = Geometry(file, window, (image.shape[0], image.shape[1]))
    frame = record.frame or file
    boxes, masks = record.boxes, record.masks
    return Sample(
        id=record.id,
        image=image,
        patient=record.patient,
        study=record.study,
        view=record.view,
        sex=record.sex,
        age=record.age,
        split=record.split,
        report=record.report,
        labels=record.labels,
        boxes=None if boxes is None else tuple(way.box(box, frame) for box in boxes),
        masks=None if masks is None else {name: way.mask(masks[name], frame) for name in masks},
    )
