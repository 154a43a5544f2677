"""A request for a data set: its name, size and origin, which determine the store's folder."""

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

SIZE, SYNTHETIC_SIZE = 256, 128
"""Default short side in pixels, of official data sets and of the embedded synthetic one."""

SIZES = (16, 4096)
MAX_SYNTHETIC = 1_000_000


@dataclass(frozen=True)
class GenerationSettings:
    """Which images of an embedded data set are generated."""

    seed: int = 0
    count: int = 3000

    @property
    def origin(self) -> str:
        """The text that a store's manifest records."""
        return f"seed {self.seed}, {self.count} images"


@dataclass(frozen=True)
class Request:
    """A data set at one size from one origin; a store's folder is named after it.

    card: that of the reader, or for a generic reader that of the user's data, with the user's name.
    """

    card: DatasetCard
    module: ModuleType
    root: Path | None
    size: int
    generation: GenerationSettings
    split: Split
    options: Mapping[str, str] = field(default_factory=dict)
    border: Border = KEEP

    @property
    def origin(self) -> str:
        """The root with the reader's options, or the settings of an embedded data set."""
        if self.root is None:
            return self.generation.origin
        options = f" with {json.dumps(self.options, sort_keys=True)}" if self.options else ""
        return f"{_place(self.root)}{options}"

    @property
    def folder(self) -> str:
        """`<name>-<size>-<key>`; the key depends on origin, generic reader, split and border."""
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
        """The records, losses and notes that the reader finds in the root."""
        words = (self.options,) if self.module.CARD.options else ()
        found: Iterator[Found] = self.module.read(self.root, *words)
        return found


OWN_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)


def is_from(origin: str, root: Path) -> bool:
    """Whether a store's origin is this root, with any options."""
    place = _place(root)
    return origin == place or origin.startswith(f"{place} with {{")


def _place(root: Path) -> str:
    """Return a root as an origin records it: a resolved path, or the id of a hub data set."""
    return str(root.resolve()) if root.exists() else str(root)


def request(
    name: str,
    root: Path | None,
    registry: Registry,
    size: int | None = None,
    generation: GenerationSettings | None = None,
    split: Split | None = None,
    options: Mapping[str, str] | None = None,
    own_name: str | None = None,
    border: Border = KEEP,
) -> Request:
    """Check the arguments and return the request.

    options: options of the reader, by the keys of its card. own_name: the user's name for data of
    a generic reader. Misuse if a root or a name is missing, an option is unknown, or the size is
    out of range.
    """
    entry = registry.find(DatasetCard, name)
    card = entry.card
    size = size or (SYNTHETIC_SIZE if card.embedded else SIZE)
    if not SIZES[0] <= size <= SIZES[1]:
        raise Misuse(f"images are stored with a short side of {SIZES[0]} to {SIZES[1]}, not {size}")
    split = split or Split()
    if border not in get_args(Border):
        raise Misuse(f"--border {border!r}: choose one of {', '.join(get_args(Border))}")
    if card.embedded:
        if border != KEEP:
            raise Misuse(f"{name!r} is generated without a border: omit --border")
        if split.name != OURS:
            raise Misuse(f"{name!r} is generated with its own split: omit --split")
        generation = generation or GenerationSettings()
        if not 1 <= generation.count <= MAX_SYNTHETIC:
            raise Misuse(f"1 to {MAX_SYNTHETIC:,} images can be generated, not {generation.count}")
        return Request(card, entry.load(), None, size, generation, split)
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
        raise Misuse(f"--name is for generic readers; omit it for the data set {name!r}")
    else:
        check_layout(root)
    check_split(split, name, entry.load())
    if printable(str(root)) != str(root):
        raise Misuse(f"the name of the folder {root!a} is no UTF-8 text: rename it")
    return Request(
        card, entry.load(), root, size, generation or GenerationSettings(), split, options, border
    )


def _check_own_name(reader: str, own_name: str | None, registry: Registry) -> None:
    """Raise Misuse unless the user's name is valid and no data set of the registry has it."""
    if own_name is None:
        raise Misuse(
            f"{reader!r} reads data of your own, which needs a name: `g2dbench data prepare "
            f"{reader} --root FOLDER --name my_set`, and from then on --data my_set"
        )
    if not OWN_NAME.fullmatch(own_name):
        raise Misuse(f"--name {own_name!r}: a name has letters, digits, and . _ - after the first")
    if own_name in {card.name for card in registry.cards(DatasetCard)}:
        raise Misuse(f"--name {own_name!r} is taken by a data set of g2dbench: choose another")
