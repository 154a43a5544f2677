"""Which data set is asked for, at which size, from where; a store's folder is named after it."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import get_args

from g2dbench.cards import DatasetCard
from g2dbench.data.images.border import KEEP, Border
from g2dbench.data.splits.published import OURS, Split, check_split
from g2dbench.data.tables.files import check_layout, printable, read_bytes
from g2dbench.data.tables.records import Found
from g2dbench.errors import Misuse
from g2dbench.registry import Registry, unknown_name

SIZE, DRAWN_SIZE = 256, 128
"""The stored short side in pixels, of official data sets and of the embedded one."""

SIZES = (16, 4096)
MAX_DRAWN = 1_000_000


@dataclass(frozen=True)
class Drawing:
    """Which images of an embedded data set to draw."""

    seed: int = 0
    count: int = 3000

    @property
    def origin(self) -> str:
        """As a store's manifest tells it."""
        return f"seed {self.seed}, {self.count} images"


@dataclass(frozen=True)
class Request:
    """One data set at one size from one origin: what a store's folder is named after.

    card: the reader's own, or for a generic one that of the user's data under the user's name.
    """

    card: DatasetCard
    module: ModuleType
    root: Path | None
    size: int
    drawing: Drawing
    split: Split
    options: Mapping[str, str] = field(default_factory=dict)
    border: Border = KEEP

    @property
    def origin(self) -> str:
        """The root with the options that read it, or the recipe of an embedded set."""
        if self.root is None:
            return self.drawing.origin
        told = f" with {json.dumps(self.options, sort_keys=True)}" if self.options else ""
        return f"{_place(self.root)}{told}"

    @property
    def folder(self) -> str:
        """`<name>-<size>-<key>`; the key tells origins, generic readers, splits, borders apart."""
        reader = f"\n{self.module.CARD.name}" if self.module.CARD.generic else ""
        key = hashlib.sha256(f"{self.card.name}\n{self.origin}{reader}".encode())
        if self.split != Split():
            key.update(f"\n{self.split.name}".encode())
            for side, path in self.split.files:
                key.update(f"\n{side}\n".encode() + read_bytes(path))
        if self.border != KEEP:
            key.update(f"\nborder {self.border}".encode())
        return f"{self.card.name}-{self.size}-{key.hexdigest()[:8]}"

    def found(self) -> Iterator[Found]:
        """What the reader finds in the root."""
        words = (self.options,) if self.module.CARD.options else ()
        found: Iterator[Found] = self.module.read(self.root, *words)
        return found


OWN_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)


def is_from(origin: str, root: Path) -> bool:
    """Whether a store's origin is this root, with whatever options."""
    place = _place(root)
    return origin == place or origin.startswith(f"{place} with {{")


def _place(root: Path) -> str:
    """A root as an origin tells it: resolved, or the id of a hub data set as it is."""
    return str(root.resolve()) if root.exists() else str(root)


def request(
    name: str,
    root: Path | None,
    registry: Registry,
    size: int | None = None,
    drawing: Drawing | None = None,
    split: Split | None = None,
    options: Mapping[str, str] | None = None,
    own_name: str | None = None,
    border: Border = KEEP,
) -> Request:
    """Check what is asked for.

    options: what the reader is told, by the keys of its card. own_name: what a generic reader's
    data is called. Misuse if a root or a name is lacking, an option is unknown, or the size is out
    of range.
    """
    entry = registry.find(DatasetCard, name)
    card = entry.card
    size = size or (DRAWN_SIZE if card.embedded else SIZE)
    if not SIZES[0] <= size <= SIZES[1]:
        raise Misuse(f"images are stored with a short side of {SIZES[0]} to {SIZES[1]}, not {size}")
    split = split or Split()
    if border not in get_args(Border):
        raise Misuse(f"--border {border!r}: choose one of {', '.join(get_args(Border))}")
    if card.embedded:
        if border != KEEP:
            raise Misuse(f"{name!r} is drawn without a border to cut off: leave --border out")
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
    options = options or {}
    for key in options:
        if key not in card.options:
            raise Misuse(unknown_name(f"option of {name!r},", key, list(card.options)))
    if card.generic:
        _check_own_name(name, own_name, registry)
        described = entry.load().describe(root, options)
        card = replace(described, name=own_name)
    elif own_name is not None:
        raise Misuse(f"--name is for generic readers; the data set {name!r} has its name")
    else:
        check_layout(root)
    check_split(split, name, entry.load())
    if printable(str(root)) != str(root):
        raise Misuse(f"the name of the folder {root!a} is no UTF-8 text: rename it")
    return Request(card, entry.load(), root, size, drawing or Drawing(), split, options, border)


def _check_own_name(reader: str, own_name: str | None, registry: Registry) -> None:
    """Misuse unless the user's data has a name that no data set of the registry has."""
    if own_name is None:
        raise Misuse(
            f"{reader!r} reads data of your own, which needs a name: `g2dbench data prepare "
            f"{reader} --root FOLDER --name my_set`, and from then on --data my_set"
        )
    if not OWN_NAME.fullmatch(own_name):
        raise Misuse(f"--name {own_name!r}: a name has letters, digits, and . _ - after the first")
    if own_name in {card.name for card in registry.cards(DatasetCard)}:
        raise Misuse(f"--name {own_name!r} is taken by a data set of g2dbench: choose another")
