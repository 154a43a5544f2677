"""All data sets that g2dbench knows, and their prepared stores, for `data list`.

Only cards and manifests are read: no store is opened and no reader is loaded.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g2dbench.cards import DatasetCard
from g2dbench.registry import Registry

MANIFEST_FILE = "manifest.json"  # as in `store.manifest`, whose import takes a second
STORE_NAME = re.compile(r"(.+)-(\d+)-[0-9a-f]{8}")


@dataclass(frozen=True)
class PreparedStore:
    """One store: short side in pixels, number of images, and why it cannot be used, if so."""

    folder: str
    size: int
    images: int
    splits: dict[str, int]
    problem: str = ""

    def __str__(self) -> str:
        return f"{self.size} px: {self.problem or format(self.images, ',')}"


@dataclass(frozen=True)
class DatasetEntry:
    """One data set: fields of its card and its stores. own: user data, prepared with `--name`."""

    name: str
    summary: str
    offers: tuple[str, ...]
    url: str
    licence: str
    embedded: bool
    generic: bool
    own: bool
    prepared: tuple[PreparedStore, ...]


def list_datasets(registry: Registry, store_root: Path) -> list[DatasetEntry]:
    """List all data sets by name: those of the registry first, then user data."""
    stores: dict[str, list[tuple[PreparedStore, dict[str, Any]]]] = {}
    for name, store, card in _stores(store_root):
        stores.setdefault(name, []).append((store, card))
    known = registry.cards(DatasetCard)
    found = [_make_entry(card, stores.pop(card.name, []), own=False) for card in known]
    return found + [_user_entry(name, stores[name]) for name in sorted(stores)]


def _make_entry(
    card: DatasetCard, stores: list[tuple[PreparedStore, dict[str, Any]]], own: bool
) -> DatasetEntry:
    return DatasetEntry(
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


def _user_entry(name: str, stores: list[tuple[PreparedStore, dict[str, Any]]]) -> DatasetEntry:
    """Make the entry of user data from the card in their store."""
    described = next((card for _, card in stores if card), {})
    card = DatasetCard(
        name=name,
        summary=str(described.get("summary", "")),
        offers=tuple(described.get("offers", ())),
        findings=(),
        url=str(described.get("url", "")),
        licence=str(described.get("licence", "")),
    )
    return _make_entry(card, stores, own=True)


def _stores(store_root: Path) -> Iterator[tuple[str, PreparedStore, dict[str, Any]]]:
    """Yield (name of the data set, store, card) for each folder whose name is a store's."""
    for folder in sorted(store_root.iterdir()) if store_root.is_dir() else ():
        match = STORE_NAME.fullmatch(folder.name)
        if match is None or not folder.is_dir():
            continue
        size = int(match[2])
        try:
            manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
            images, splits = int(manifest["rows"]), dict(manifest["summary"]["splits"])
            card = dict(manifest["card"])
        except (OSError, ValueError, KeyError, TypeError):
            yield match[1], PreparedStore(str(folder), size, 0, {}, "broken"), {}
            continue
        yield match[1], PreparedStore(str(folder), size, images, splits), card
