"""CheXFound's file with seeded weights."""

from pathlib import Path

import torch

from support.models import golden


def write(folder: Path, prefix: str = "module.backbone.") -> Path:
    """The teacher with its DINO head; without a prefix, the encoder alone."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "teacher_checkpoint.pth"
    state = golden.seeded_state(golden.read("chexfound")["shapes"])
    heads = {"module.dino_head.mlp.0.weight": torch.zeros(2, 2)} if prefix else {}
    torch.save({"teacher": {prefix + k: v for k, v in state.items()} | heads}, file)
    return file
