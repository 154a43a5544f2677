"""Where weights are on this machine, and what a card says about their license."""

import os
from pathlib import Path

from g2dbench.cards import ModelCard
from g2dbench.pretrained.local_weights import WeightFolders, find_weights


def weight_folders(downloads: Path | None) -> WeightFolders:
    """The folders to search; the caches are where the hub's and torch's own variables say."""
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    torch_home = Path(os.environ.get("TORCH_HOME", cache / "torch")).expanduser()
    return WeightFolders(
        downloads=downloads.expanduser() if downloads is not None else None,
        hub_cache=Path(HF_HUB_CACHE),
        torch_checkpoints=torch_home / "hub" / "checkpoints",
    )


def describe_presence(card: ModelCard, folders: WeightFolders) -> str:
    """Where the weights of a card are; "" for a model without weights of its own."""
    if not card.needs_weights:
        return ""
    found = find_weights(card, folders)
    return ", ".join(map(str, found)) if found else "not found"


def describe_license(card: ModelCard) -> str:
    """The license of the weights, and what it demands."""
    terms = [card.licence]
    if card.noncommercial:
        terms.append("no commercial use")
    if card.gated:
        terms.append("access on request")
    return "; ".join(terms)
