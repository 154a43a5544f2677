"""EVA-X's file with seeded weights."""

from pathlib import Path
from typing import Any

import torch

from support.models import golden


def write(folder: Path, size: str = "tiny", wrap: str = "") -> Path:
    """wrap: "nested" for a checkpoint of a training, or a prefix of all keys."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"eva_x_{size}.pt"
    state: Any = golden.seeded_state(golden.read(f"eva_x_{size}")["shapes"])
    if wrap == "nested":
        state = {"model": {"module": state}, "epoch": 3}
    elif wrap:
        state = {wrap + key: value for key, value in state.items()}
    torch.save(state, file)
    return file
