"""The state of a fine-tuning after an epoch, so that a stopped cell goes on from there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from g2dbench.errors import BadCheckpoint
from g2dbench.system.files import replace_file

CHECKPOINT_FILE = "fine_tuning.pt"


@dataclass
class Progress:
    """epoch: finished epochs. curve: their validation values. weights: of `best_epoch`."""

    epoch: int = 0
    steps: int = 0
    best: float = float("inf")
    best_epoch: int = 0
    curve: list[float] = field(default_factory=list)
    weights: dict[str, Tensor] | None = None


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """Copies of all that training changes: trained parameters, and buffers, by name."""
    trained = {name: value for name, value in module.named_parameters() if value.requires_grad}
    return {
        name: value.detach().clone()
        for name, value in (trained | dict(module.named_buffers())).items()
    }


def load_trained_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put the tensors of `trained_state` back in place."""
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    with torch.no_grad():
        for name, value in state.items():
            tensors[name].copy_(value)


def save_checkpoint(
    path: Path, key: str, progress: Progress, module: nn.Module, parts: Mapping[str, Any]
) -> None:
    """Write atomically; key: identifies the training; parts: optimizer and scaler, by name."""
    whole = {
        "key": key,
        "progress": vars(progress),
        "module": trained_state(module),
        **{name: part.state_dict() for name, part in parts.items()},
    }
    replace_file(path, lambda temporary: torch.save(whole, temporary))


def load_checkpoint(
    path: Path, key: str, module: nn.Module, parts: Mapping[str, Any]
) -> Progress | None:
    """Restore everything from a checkpoint; None if there is none, or it is of another training.

    BadCheckpoint if the file cannot be read.
    """
    if not path.is_file():
        return None
    device = next(module.parameters()).device
    try:
        whole = torch.load(path, map_location=device, weights_only=True)
        if whole["key"] != key:
            return None
        load_trained_state(module, whole["module"])
        for name, part in parts.items():
            part.load_state_dict(whole[name])
        return Progress(**whole["progress"])
    except Exception as error:  # torch and pickle raise anything for a broken file
        raise BadCheckpoint(
            f"{path} cannot be read, perhaps because the disk was full: {error}; "
            "remove it, and the cell starts from its first epoch"
        ) from error
