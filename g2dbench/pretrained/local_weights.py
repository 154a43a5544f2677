"""Finds published weights on this machine, from a card alone: nothing is opened or imported.

Searched are the folder of the user's downloads, the cache of the Hugging Face hub, and torch's
folder of downloaded checkpoints.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from g2dbench.cards import ModelCard

_HUB_ADDRESS = re.compile(r"huggingface\.co/(?!models\b)([\w.-]+/[\w.-]+)")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".tar", ".pkl")


@dataclass(frozen=True)
class WeightFolders:
    """Where weights may be. downloads: the user's own folder, None if there is none."""

    downloads: Path | None
    hub_cache: Path
    torch_checkpoints: Path


def hub_ids(card: ModelCard) -> tuple[str, ...]:
    """Names of the hub repositories that the card's source names, such as "microsoft/rad-dino"."""
    found = (name.rstrip(".") for name in _HUB_ADDRESS.findall(card.source))
    return tuple(dict.fromkeys(found))


def find_weights(card: ModelCard, folders: WeightFolders) -> tuple[Path, ...]:
    """Files and folders that may be given as SOURCE in `--model NAME:SOURCE`, sorted.

    They are recognized by their names alone: a published file name, a hub repository in the cache,
    or a file or folder in `downloads/<name of the card>`.
    """
    found = {
        *_named_files(card, folders),
        *_cached_repositories(card, folders.hub_cache),
        *_in_own_folder(card, folders.downloads),
    }
    return tuple(sorted(found))


def _named_files(card: ModelCard, folders: WeightFolders) -> Iterator[Path]:
    roots = [root for root in (folders.downloads, folders.torch_checkpoints) if root is not None]
    for root in roots:
        for name in card.files:
            places = (root / name, root / card.name / name, root / Path(name).name)
            found = (place for place in places if place.is_file())
            yield from (place if card.source_kind == "file" else place.parent for place in found)


def _cached_repositories(card: ModelCard, cache: Path) -> Iterator[Path]:
    """The newest snapshot of each repository, if it contains weights."""
    for name in hub_ids(card):
        snapshots = cache / f"models--{name.replace('/', '--')}" / "snapshots"
        if not snapshots.is_dir():
            continue
        complete = [each for each in snapshots.iterdir() if _has_weights(each)]
        if complete:
            yield max(complete, key=lambda each: each.stat().st_mtime)


def _in_own_folder(card: ModelCard, downloads: Path | None) -> Iterator[Path]:
    folder = downloads / card.name if downloads is not None else None
    if folder is None or not folder.is_dir() or not _has_weights(folder):
        return
    if card.source_kind in ("folder", "hub"):
        yield folder
    else:
        yield from (each for each in folder.rglob("*") if each.suffix in _WEIGHTS)


def _has_weights(folder: Path) -> bool:
    return any(each.suffix in _WEIGHTS for each in folder.rglob("*"))
