"""Overlap of two prepared data sets: shared patients and studies, identical and similar images.

Chest radiographs resemble each other, so that one 64-bit hash is not specific enough. Two images
count as nearly identical if both conditions hold: their 128 bits (a difference hash and a DCT hash
of 64 bits each) differ in at most MAX_DIFFERENT_BITS, and their 32 x 32 thumbnails correlate by at
least MIN_CORRELATION. This finds copies that are scaled, re-compressed or changed in brightness and
contrast, but not crops, mirror images or other films of the same patient. docs/data.md reports the
measured error rates.
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

MAX_DIFFERENT_BITS = 12
MIN_CORRELATION = 0.98
SIDE = 32
_CHUNK_ROWS = 64
"""Number of images that are compared with all others at once, to limit memory."""

Bits = NDArray[np.uint64]


class Pair(NamedTuple):
    """An image of each data set, their splits, and their similarity (1: the same pixels)."""

    one: str
    other: str
    one_split: str | None
    other_split: str | None
    similarity: float


@dataclass(frozen=True)
class Overlap:
    """The overlap of two data sets.

    patients, studies: names that occur in both. Equal names in unrelated data sets are a
    coincidence; `identical` and `near` show whether images are really shared.
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
        for (first, second), count in sorted(sides.items(), key=str):
            text += f"\n  {one} {first} with {other} {second}: {count}"
        return text


def overlap(one: Store, other: Store, progress: "Progress") -> Overlap:
    """Compare all images of two data sets, or of their splits, with each other.

    Every similar pair is listed. If both are the same store, no image is compared with itself.
    """
    first, second = (_ImageHashes.of(store, progress) for store in (one, other))
    same = one.fingerprint == other.fingerprint
    identical: list[Pair] = []
    near: list[Pair] = []
    for row, column, similarity in _similar_pairs(first, second):
        pair = Pair(
            first.ids[row], second.ids[column], first.splits[row], second.splits[column], similarity
        )
        if same and pair.one == pair.other:
            continue
        exact = first.digests[row] == second.digests[column]
        (identical if exact else near).append(
            pair._replace(similarity=1.0 if exact else similarity)
        )
    return Overlap(
        names=(one.card.name, other.card.name),
        patients=_shared_names(one, other, "patient"),
        studies=_shared_names(one, other, "study"),
        identical=tuple(identical),
        near=tuple(near),
    )


@dataclass(frozen=True)
class _ImageHashes:
    """Hash bits (N, 2), thumbnails (N, SIDE * SIDE) of norm 1, and pixel digests of N images."""

    ids: list[str]
    splits: list[str | None]
    digests: list[bytes]
    bits: Bits
    thumbnails: NDArray[np.float32]

    @classmethod
    def of(cls, store: Store, progress: "Progress") -> "_ImageHashes":
        bits = np.zeros((len(store), 2), np.uint64)
        thumbnails = np.zeros((len(store), SIDE * SIDE), np.float32)
        digests = []
        images = (sample.image for sample in store)
        for row, image in enumerate(progress(images, f"look at {store.card.name}", len(store))):
            digests.append(hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest())
            bits[row] = perceptual_hashes(image)
            thumbnails[row] = thumbnail(image)
        table = store.table
        return cls(table["id"].tolist(), table["split"].tolist(), digests, bits, thumbnails)


def perceptual_hashes(image: NDArray[np.uint8]) -> tuple[np.uint64, np.uint64]:
    """Return the difference hash and the DCT hash of an (H, W) image."""
    small = _shrunk(image, 9, 8)
    frequencies = dctn(_shrunk(image, SIDE, SIDE), norm="ortho")[:8, :8].ravel()[1:]
    above = np.append(frequencies > np.median(frequencies), False)
    return _pack_bits(small[:, 1:] > small[:, :-1]), _pack_bits(above)


def _shrunk(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.float64]:
    picture = Image.fromarray(image).resize((width, height), Image.Resampling.BOX)
    return np.asarray(picture, np.float64)


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return (SIDE * SIDE) gray values of mean 0 and norm 1; zeros for a blank image."""
    values = _shrunk(image, SIDE, SIDE).ravel()
    values -= values.mean()
    norm = np.linalg.norm(values)
    return values / norm if norm else values


def _pack_bits(flags: NDArray[np.bool_]) -> np.uint64:
    found: np.uint64 = np.packbits(flags).view(np.uint64)[0]
    return found


def _similar_pairs(first: _ImageHashes, second: _ImageHashes) -> Iterator[tuple[int, int, float]]:
    """Yield rows of similar or identical images, and the correlation of their thumbnails."""
    for start in range(0, len(first.ids), _CHUNK_ROWS):
        part = first.bits[start : start + _CHUNK_ROWS]
        distance = sum(
            np.bitwise_count(part[:, None, kind] ^ second.bits[None, :, kind]).astype(np.uint8)
            for kind in (0, 1)
        )
        for row, column in np.argwhere(np.asarray(distance) <= MAX_DIFFERENT_BITS).tolist():
            similarity = float(first.thumbnails[start + row] @ second.thumbnails[column])
            if (
                similarity >= MIN_CORRELATION
                or first.digests[start + row] == second.digests[column]
            ):
                yield start + row, column, similarity


def _shared_names(one: Store, other: Store, column: str) -> tuple[str, ...]:
    names = [{name for name in store.table[column] if name} for store in (one, other)]
    return tuple(sorted(names[0] & names[1]))
