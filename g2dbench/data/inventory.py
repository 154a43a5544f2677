"""Every data set that g2dbench knows, with what of it is prepared: what `data list` shows.

Cards and manifests alone are read: no store is opened and no reader is loaded.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g2dbench.cards import DatasetCard
from g2dbench.registry import Registry

MANIFEST_FILE = "manifest.json"  # as in `store`, whose import alone costs a second
FOLDER = re.compile(r"(.+)-(\d+)-[0-9a-f]{8}")


@dataclass(frozen=True)
class Prepared:
    """One store: its short side in pixels, its images, or why it cannot be used."""

    folder: str
    size: int
    images: int
    splits: dict[str, int]
    problem: str = ""

    def __str__(self) -> str:
        return f"{self.size} px: {self.problem or format(self.images, ',')}"


@dataclass(frozen=True)
class Holding:
    """One data set, from its card, and its stores. own: the user's, under a `--name`."""

    name: str
    summary: str
    offers: tuple[str, ...]
    url: str
    licence: str
    embedded: bool
    generic: bool
    own: bool
    prepared: tuple[Prepared, ...]


def holdings(registry: Registry, store_root: Path) -> list[Holding]:
    """All data sets by name, those of the registry first, then the user's own."""
    stores: dict[str, list[tuple[Prepared, dict[str, Any]]]] = {}
    for name, store, card in _stores(store_root):
        stores.setdefault(name, []).append((store, card))
    known = registry.cards(DatasetCard)
    found = [_holding(card, stores.pop(card.name, []), own=False) for card in known]
    return found + [_own(name, stores[name]) for name in sorted(stores)]


def _holding(
    card: DatasetCard, stores: list[tuple[Prepared, dict[str, Any]]], own: bool
) -> Holding:
    return Holding(
        name=card.name,
        summary=card.summary,
        offers=card.offers,
        url="" if card.embedded else card.url,
        licence=card.licence,
        embedded=card.embedded,
        generic=card.generic,
        own=own,
        prepared=tuple(store for store, _ in stores),
    )


def _own(name: str, stores: list[tuple[Prepared, dict[str, Any]]]) -> Holding:
    """The user's own data, as its store describes it."""
    told = next((card for _, card in stores if card), {})
    card = DatasetCard(
        name=name,
        summary=str(told.get("summary", "")),
        offers=tuple(told.get("offers", ())),
        findings=(),
        url=str(told.get("url", "")),
        licence=str(told.get("licence", "")),
    )
    return _holding(card, stores, own=True)


def _stores(store_root: Path) -> Iterator[tuple[str, Prepared, dict[str, Any]]]:
    """Each folder that is named like a store: the data set's name, the store, its card."""
    for folder in sorted(store_root.iterdir()) if store_root.is_dir() else ():
        match = FOLDER.fullmatch(folder.name)
        if match is None or not folder.is_dir():
            continue
        size = int(match[2])
        try:
            manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
            images, splits = int(manifest["rows"]), dict(manifest["summary"]["splits"])
            card = dict(manifest["card"])
        except (OSError, ValueError, KeyError, TypeError):
            yield match[1], Prepared(str(folder), size, 0, {}, "broken"), {}
            continue
        yield match[1], Prepared(str(folder), size, images, splits), card
