"""Ark's file with seeded weights."""

from pathlib import Path

import torch

from support.models import golden

SIDE = 64
MASK = {"layers.0.blocks.1.attn_mask": torch.zeros(16, 16, 16)}


def write(folder: Path, case: str = "ark_plus") -> Path:
    """The official file of Ark+ (`ark_plus`), or of the six data sets without heads (`ark_six`)."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "ark.pth.tar"
    state = golden.seeded_state(golden.read(case)["shapes"]) | MASK
    wrapped = {f"module.{key}": value for key, value in state.items()}
    torch.save({"teacher": wrapped, "state_dict": {k: -v for k, v in wrapped.items()}}, file)
    return file
