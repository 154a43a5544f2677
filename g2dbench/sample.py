"""One image with its annotation: `Record` from readers, `Sample` for training and tasks.

Shapes: H, W pixels of one image. Boxes are (x0, y0, x1, y1) in pixels, x to the right, y down,
half-open: a box covers pixels x0 <= x < x1. A missing annotation is None.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

_FRONTAL = ("pa", "ap", "frontal", "postero", "antero")
ViewFilter = Literal["frontal", "all"]


PRESENT, ABSENT, UNCERTAIN = 1, 0, -1
"""Label values; a finding that was not labeled has no entry."""

SPLITS = ("train", "valid", "test")


class Box(NamedTuple):
    """A finding's box in pixels of the annotated image."""

    finding: str
    x0: float
    y0: float
    x1: float
    y1: float


class Readable(Protocol):
    """Bytes of an image inside another file, such as a shard; must be picklable.

    Its `repr` must change when the bytes may have changed: a resumed preparation compares it.
    """

    def read(self) -> bytes:
        """The bytes; BadData if they cannot be read."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One image of an official data set, as its tables describe it; pixels not yet read.

    labels: finding -> 1, 0 or -1. masks: finding -> (H, W) bool. None means not annotated; an empty
    tuple or mapping means annotated without a finding. frame: (height, width) of the image on which
    `boxes` and `masks` were annotated, None for the file's size; RSNA annotates in 1024 x 1024.
    data: the file's bytes if they are inside another file; `path` is then only a name.
    notes: what of the annotation is not known, one short clause each; summaries count them.
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

    image: (H, W) uint8 gray, dense tissue is bright. The other fields are those of `Record`.
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
    """Whether a view is frontal (PA, AP or a similar name); a missing view counts as frontal."""
    return view is None or view.strip().lower().startswith(_FRONTAL)
