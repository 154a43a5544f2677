"""The folders of CXR-CLIP and MedCLIP with seeded weights."""

from pathlib import Path
from typing import Any

import torch

from support.models import golden
from support.models.small_baselines import save_bert_files

CASES = {
    "cxr_clip_r50": "cxr-clip", "cxr_clip_swin": "cxr-clip",
    "medclip_r50": "medclip", "medclip_swin": "medclip",
}  # fmt: skip


def write(folder: Path, case: str, wrap: str = "") -> Path:
    """The official folder of a case; wrap: a prefix of all keys of the checkpoint."""
    (folder / "Bio_ClinicalBERT").mkdir(parents=True, exist_ok=True)
    save_bert_files(folder / "Bio_ClinicalBERT")
    state: Any = golden.seeded_state(golden.read(case)["shapes"])
    if CASES[case] == "cxr-clip" or wrap:
        state = {"model": {wrap + key: value for key, value in state.items()}, "epoch": 1}
    torch.save(state, folder / ("m.tar" if CASES[case] == "cxr-clip" else "pytorch_model.bin"))
    return folder
