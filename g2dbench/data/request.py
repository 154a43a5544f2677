"""Which data set is asked for, at which size, from where; a store's folder is named after it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from g2dbench.cards import DatasetCard
from g2dbench.data.presets import OURS, Split
from g2dbench.data.reading import check_layout, printable, read_bytes
from g2dbench.errors import Misuse
from g2dbench.registry import Registry

SIZE, DRAWN_SIZE = 256, 128
"""The stored short side in pixels, of official data sets and of the embedded one."""

SIZES = (16, 4096)
MAX_DRAWN = 1_000_000


@dataclass(frozen=True)
class Drawing:
    """Which images of an embedded data set to draw."""

    seed: int = 0
    count: int = 3000


@dataclass(frozen=True)
class Request:
    """One data set at one size from one origin: what a store's folder is named after."""

    card: DatasetCard
    module: ModuleType
    root: Path | None
    size: int
    drawing: Drawing
    split: Split

    @property
    def origin(self) -> str:
        """The resolved root, or the recipe of an embedded set."""
        if self.root is None:
            return f"seed {self.drawing.seed}, {self.drawing.count} images"
        return str(self.root.resolve())

    @property
    def folder(self) -> str:
        """`<name>-<size>-<key>`; the key tells origins and splits apart."""
        key = hashlib.sha256(f"{self.card.name}\n{self.origin}".encode())
        if self.split != Split():
            key.update(f"\n{self.split.name}".encode())
            for side, path in self.split.files:
                key.update(f"\n{side}\n".encode() + read_bytes(path))
        return f"{self.card.name}-{self.size}-{key.hexdigest()[:8]}"


def request(
    name: str,
    root: Path | None,
    registry: Registry,
    size: int | None = None,
    drawing: Drawing | None = None,
    split: Split | None = None,
) -> Request:
    """Check what is asked for; Misuse if a root is lacking or the size is out of range."""
    entry = registry.find(DatasetCard, name)
    card = entry.card
    size = size or (DRAWN_SIZE if card.embedded else SIZE)
    if not SIZES[0] <= size <= SIZES[1]:
        raise Misuse(f"images are stored with a short side of {SIZES[0]} to {SIZES[1]}, not {size}")
    split = split or Split()
    if card.embedded:
        if split.name != OURS:
            raise Misuse(f"{name!r} is drawn with its own split: leave --split out")
        drawing = drawing or Drawing()
        if not 1 <= drawing.count <= MAX_DRAWN:
            raise Misuse(f"1 to {MAX_DRAWN:,} images can be drawn, not {drawing.count}")
        return Request(card, entry.load(), None, size, drawing, split)
    if root is None:
        raise Misuse(
            f"the data set {name!r} needs its folder: --root FOLDER holding "
            f"{', '.join(card.layout) or 'its files'} (from {card.url}, {card.licence})"
        )
    check_layout(root)
    if printable(str(root.resolve())) != str(root.resolve()):
        raise Misuse(f"the name of the folder {root!a} is no UTF-8 text: rename it")
    return Request(card, entry.load(), root, size, drawing or Drawing(), split)
