"""Weights that transformers itself reads from a folder: strictly, offline, without remote code."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from g2dbench.errors import BadCheckpoint


def load_strictly(kind: Any, folder: Path, ignore: Sequence[str] = (), **options: Any) -> Any:
    """The model of this class with its weights; transformers reads, renames and joins shards.

    ignore: regular expressions (searched) of keys that the class does not have on purpose. Raises
    BadCheckpoint where it would initialize a missing weight at random or ignore another one.
    """
    try:
        model, info = kind.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    except Exception as error:  # untrusted files reach many constructors
        raise BadCheckpoint(
            f"transformers cannot load {kind.__name__} from {folder}: {type(error).__name__}: "
            f"{(str(error).strip().splitlines() or [''])[0]}"
        ) from error
    mismatches = {
        "missing": sorted(map(str, info["missing_keys"])),
        "unexpected": _unexpected(info["unexpected_keys"], ignore),
        "of another shape": sorted(map(str, info["mismatched_keys"])),
    }
    if any(mismatches.values()):
        shown = "; ".join(
            f"{len(keys)} {what} ({keys[0]} ...)" for what, keys in mismatches.items() if keys
        )
        raise BadCheckpoint(f"the weights in {folder} do not match {kind.__name__}: {shown}")
    return model


def _unexpected(keys: Any, ignore: Sequence[str]) -> list[str]:
    return sorted(str(k) for k in keys if not any(re.search(rule, str(k)) for rule in ignore))
