"""The record every reader yields and every task sees.

Shapes: H, W pixels of one image. Boxes are (x0, y0, x1, y1) in pixels, x to the right, y down,
half-open: a box covers pixels x0 <= x < x1. Absent annotation is None, never a fake.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

_FRONTAL = ("pa", "ap", "frontal", "postero", "antero")
Views = Literal["frontal", "all"]


PRESENT, ABSENT, UNCERTAIN = 1, 0, -1
"""Label values; a finding that nobody judged has no entry at all."""

SPLITS = ("train", "valid", "test")


class Box(NamedTuple):
    """A finding's box in pixels of the frame it belongs to."""

    finding: str
    x0: float
    y0: float
    x1: float
    y1: float


class Readable(Protocol):
    """A file's bytes that lie in no file of their own, such as a shard's; it must pickle.

    Its `repr` must change where the bytes may have: a preparation that goes on compares it.
    """

    def read(self) -> bytes:
        """The bytes; BadData if they cannot be had."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One image of an official folder, as its tables describe it; pixels not yet read.

    `boxes` and `masks` are given in `frame` = (height, width), the pixel frame of the official
    annotation, which may differ from the stored file's size (RSNA annotates in 1024 x 1024).
    None means the file's own size. `labels` maps finding -> 1, 0 or -1; `masks` finding ->
    (H, W) bool. None means not annotated; an empty tuple or mapping means annotated, nothing seen.
    `data` gives the file's bytes where they lie within another file; `path` then only names them.
    `notes` says what of the image's annotation is not known, one short clause each; the summary
    counts the images of each.
    """

    id: str
    path: Path
    patient: str
    study: str | None = None
    view: str | None = None
    sex: str | None = None
    age: float | None = None
    split: str | None = None
    report: str | None = None
    labels: Mapping[str, int] | None = None
    boxes: tuple[Box, ...] | None = None
    masks: Mapping[str, NDArray[np.bool_]] | None = None
    frame: tuple[int, int] | None = None
    data: Readable | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One prepared image with its annotation in the image's own pixels.

    `image` is (H, W) uint8 grey, bright is dense. The other fields are those of `Record`.
    """

    id: str
    image: NDArray[np.uint8]
    patient: str
    study: str | None = None
    view: str | None = None
    sex: str | None = None
    age: float | None = None
    split: str | None = None
    report: str | None = None
    labels: Mapping[str, int] | None = None
    boxes: tuple[Box, ...] | None = None
    masks: Mapping[str, NDArray[np.bool_]] | None = None


def is_frontal(view: str | None) -> bool:
    """Whether a view is PA, AP or frontal by whatever name; unknown ones are taken for it."""
    return view is None or view.strip().lower().startswith(_FRONTAL)
