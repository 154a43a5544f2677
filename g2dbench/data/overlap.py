"""What two prepared data sets share: patients, studies, the same and nearly the same images.

Chest radiographs resemble each other, so one 64-bit hash says little. Two images count as nearly
the same if their 128 bits (a difference hash and a DCT hash of 64 bits each) differ in at most
NEAR_BITS, and their 32 x 32 thumbnails correlate by at least ALIKE: the same radiograph copied,
scaled, re-compressed, or changed in brightness and contrast; not a crop, a mirror image, or another
film of the same patient. How often that errs was measured: docs/data.md.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from g2dbench.data.store.store import Store

if TYPE_CHECKING:
    from g2dbench.progress import Progress

NEAR_BITS = 12
ALIKE = 0.98
SIDE = 32
_ROWS = 64
"""Images compared with all others at once, so that memory stays small."""

Bits = NDArray[np.uint64]


class Pair(NamedTuple):
    """An image of each data set, with its split, and how alike they are (1: the same pixels)."""

    one: str
    other: str
    one_split: str | None
    other_split: str | None
    alike: float


@dataclass(frozen=True)
class Overlap:
    """What two data sets share.

    patients, studies: names that both use. Owners number as they like: equal names of unrelated
    data sets are a coincidence, which `identical` and `near` tell from a common source.
    """

    names: tuple[str, str]
    patients: tuple[str, ...]
    studies: tuple[str, ...]
    identical: tuple[Pair, ...]
    near: tuple[Pair, ...]

    def __str__(self) -> str:
        one, other = self.names
        text = (
            f"{one} and {other} share {len(self.identical)} images pixel for pixel and "
            f"{len(self.near)} nearly; {len(self.patients)} patients and {len(self.studies)} "
            "studies have the same name in both"
        )
        sides = Counter((pair.one_split, pair.other_split) for pair in self.identical + self.near)
        for (mine, its), count in sorted(sides.items(), key=str):
            text += f"\n  {one} {mine} with {other} {its}: {count}"
        return text


def overlap(one: Store, other: Store, progress: "Progress") -> Overlap:
    """Compare all images of two data sets, or of parts of them, with each other.

    An image of `one` is listed once per image of `other` that it resembles. An image of the same id
    in the same store is not compared with itself.
    """
    mine, its = (_Looks.of(store, progress) for store in (one, other))
    same = one.fingerprint == other.fingerprint
    identical: list[Pair] = []
    near: list[Pair] = []
    for row, column, alike in _alike(mine, its):
        pair = Pair(mine.ids[row], its.ids[column], mine.splits[row], its.splits[column], alike)
        if same and pair.one == pair.other:
            continue
        exact = mine.marks[row] == its.marks[column]
        (identical if exact else near).append(pair._replace(alike=1.0 if exact else alike))
    return Overlap(
        names=(one.card.name, other.card.name),
        patients=_shared(one, other, "patient"),
        studies=_shared(one, other, "study"),
        identical=tuple(identical),
        near=tuple(near),
    )


@dataclass(frozen=True)
class _Looks:
    """What images look like: bits (N, 2), thumbnails (N, SIDE * SIDE) of norm 1, pixel hashes."""

    ids: list[str]
    splits: list[str | None]
    marks: list[bytes]
    bits: Bits
    thumbnails: NDArray[np.float32]

    @classmethod
    def of(cls, store: Store, progress: "Progress") -> "_Looks":
        bits = np.zeros((len(store), 2), np.uint64)
        thumbnails = np.zeros((len(store), SIDE * SIDE), np.float32)
        marks = []
        images = (sample.image for sample in store)
        for row, image in enumerate(progress(images, f"look at {store.card.name}", len(store))):
            marks.append(hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest())
            bits[row] = look(image)
            thumbnails[row] = thumbnail(image)
        table = store.table
        return cls(table["id"].tolist(), table["split"].tolist(), marks, bits, thumbnails)


def look(image: NDArray[np.uint8]) -> tuple[np.uint64, np.uint64]:
    """The difference hash and the DCT hash of an (H, W) image."""
    small = _shrunk(image, 9, 8)
    frequencies = dctn(_shrunk(image, SIDE, SIDE), norm="ortho")[:8, :8].ravel()[1:]
    above = np.append(frequencies > np.median(frequencies), False)
    return _packed(small[:, 1:] > small[:, :-1]), _packed(above)


def _shrunk(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.float64]:
    picture = Image.fromarray(image).resize((width, height), Image.Resampling.BOX)
    return np.asarray(picture, np.float64)


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The (SIDE * SIDE) grey values of an (H, W) image, of mean 0 and norm 1; blank gives zeros."""
    values = _shrunk(image, SIDE, SIDE).ravel()
    values -= values.mean()
    norm = np.linalg.norm(values)
    return values / norm if norm else values


def _packed(flags: NDArray[np.bool_]) -> np.uint64:
    found: np.uint64 = np.packbits(flags).view(np.uint64)[0]
    return found


def _alike(mine: _Looks, its: _Looks) -> Iterator[tuple[int, int, float]]:
    """Rows of both that look the same, and their thumbnails' correlation; blank ones by pixels."""
    for start in range(0, len(mine.ids), _ROWS):
        part = mine.bits[start : start + _ROWS]
        distance = sum(
            np.bitwise_count(part[:, None, kind] ^ its.bits[None, :, kind]).astype(np.uint8)
            for kind in (0, 1)
        )
        for row, column in np.argwhere(np.asarray(distance) <= NEAR_BITS).tolist():
            alike = float(mine.thumbnails[start + row] @ its.thumbnails[column])
            if alike >= ALIKE or mine.marks[start + row] == its.marks[column]:
                yield start + row, column, alike


def _shared(one: Store, other: Store, column: str) -> tuple[str, ...]:
    names = [{name for name in store.table[column] if name} for store in (one, other)]
    return tuple(sorted(names[0] & names[1]))
