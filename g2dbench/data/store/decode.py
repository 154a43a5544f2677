"""Records to packed rows: read the image, bring its annotation to the stored pixels, in order.

Work is spread over processes, a bounded number of images ahead of the writer, so that memory stays
flat; the rows come in the order of the records whatever the number of processes.
"""

import hashlib
import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from g2dbench.data.annotations.geometry import Geometry, check_frame
from g2dbench.data.images.border import CROP, KEEP, Border, content_window
from g2dbench.data.images.image_file import decode_image, shrink
from g2dbench.data.store.row import TEXTS, Row, pack
from g2dbench.data.tables.files import is_within, read_bytes, relative_name
from g2dbench.data.tables.records import Rejected
from g2dbench.errors import BadData
from g2dbench.sample import ABSENT, PRESENT, SPLITS, UNCERTAIN, Record, Sample
from g2dbench.system.worker_pool import process_pool

CHUNK = 8
AHEAD = 4
"""Chunks under way per process."""

MAX_TEXT = 1_000_000
"""Characters of a report or a name; the longest real report has some thousand."""


@dataclass(frozen=True)
class Frame:
    """Where records come from and how large they are stored: the same for all of a data set."""

    root: Path
    roots: tuple[Path, ...]
    size: int
    border: Border = KEEP


def decode_all(records: Iterable[Record], frame: Frame, workers: int) -> Iterator[Row | Rejected]:
    """A packed row or a rejection for each record, in order; 0 workers means this process."""
    chunks = _chunks(records)
    if workers == 0:
        for chunk in chunks:
            yield from _decode_chunk(chunk, frame)
        return
    processes = process_pool(workers)
    pending: deque[Future[list[Row | Rejected]]] = deque()
    try:
        for chunk in chunks:
            pending.append(processes.submit(_decode_chunk, chunk, frame))
            if len(pending) >= workers * AHEAD:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    except BrokenProcessPool as error:
        raise BadData(
            f"a process that decodes images of {frame.root} ended, perhaps for lack of memory; "
            f"try fewer workers than {workers}"
        ) from error
    finally:
        processes.shutdown(cancel_futures=True)


def _chunks(records: Iterable[Record]) -> Iterator[list[Record]]:
    feed = iter(records)
    while chunk := list(islice(feed, CHUNK)):
        yield chunk


def _decode_chunk(chunk: list[Record], frame: Frame) -> list[Row | Rejected]:
    return [decode(record, frame) for record in chunk]


def decode(record: Record, frame: Frame) -> Row | Rejected:
    """One record as a packed row, or why it cannot be used."""
    name = record.id or record.path.name
    try:
        check(record)
        data = file_bytes(record, frame)
        sample = load(record, data, frame.size, frame.border)
    except OSError as error:
        return Rejected(name, record.path, f"cannot be read: {error.strerror}")
    except MemoryError:
        return Rejected(name, record.path, "it takes more memory than there is")
    except BadData as error:
        return Rejected(name, record.path, str(error))
    return pack(sample, relative_name(record.path, frame.root), hashlib.sha256(data).hexdigest())


def file_bytes(record: Record, frame: Frame) -> bytes:
    """The bytes of a record's file; BadData if it lies outside the data set, OSError as usual."""
    if record.data is not None:
        return record.data.read()
    if not is_within(record.path, frame.roots):
        raise BadData(f"the file {record.path} lies outside the data set's folder {frame.root}")
    return read_bytes(record.path)


def check(record: Record) -> None:
    """BadData if a record's own fields contradict the contract of `sample`."""
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
    """BadData unless a text can be stored: names of files may hold bytes that are no UTF-8."""
    try:
        (text or "").encode()
    except UnicodeEncodeError as error:
        raise BadData(f"{owner!a}: its {name} is no valid text: {error.reason}") from error
    if text and len(text) > MAX_TEXT:
        raise BadData(f"{owner[:40]}: its {name} has {len(text):,} characters")


def load(record: Record, data: bytes, size: int, border: Border = KEEP) -> Sample:
    """A record and its file's bytes as a sample whose short side is at most `size` pixels.

    BadData: the file cannot be decoded, or is no copy of the picture that was annotated.
    """
    grey, file = decode_image(data, record.path, None)
    if record.frame is not None:
        check_frame(record.frame, file)
    window = content_window(grey) if border == CROP else (0, 0, *file)
    top, left, bottom, right = window
    image = shrink(grey[top:bottom, left:right], size)
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
