"""A fitted head as a file: its weights, and the facts needed to apply it without training data.

`head.safetensors` in a cell's folder; the facts are JSON in its metadata, so that reading a
stranger's file runs nothing.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from g2dbench.errors import BadCheckpoint
from g2dbench.pretrained.tensor_files import save_tensors

HEAD_FILE = "head.safetensors"


@dataclass(frozen=True)
class SavedHead:
    """weights: tensors by name. facts: JSON values of the task: findings, thresholds, sizes."""

    weights: dict[str, Tensor]
    facts: dict[str, Any]


def save_head(head: SavedHead, folder: Path) -> Path:
    """Write `head.safetensors` atomically into the folder."""
    path = folder / HEAD_FILE
    # A copy of each: safetensors refuses tensors that share memory.
    weights = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in head.weights.items()
    }
    metadata = {"facts": json.dumps(head.facts)}
    save_tensors(path, weights, metadata)
    return path


def load_head(path: Path) -> SavedHead:
    """Read a head; BadCheckpoint if the file is missing, broken or not a head."""
    if path.exists() and not path.is_file():  # a pipe would block
        raise BadCheckpoint(f"{path} is not a file, so not a fitted head")
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise BadCheckpoint(
            f"{path} cannot be read as a fitted head: {error}; `g2dbench eval --save-heads` "
            "writes such files"
        ) from error
    if not isinstance(facts, dict):
        raise BadCheckpoint(f"{path} is not a fitted head: its facts are not an object")
    return SavedHead(weights, facts)
