"""BioViL-T's folder with seeded weights."""

from pathlib import Path

import torch
from transformers import BertConfig

from g2dbench.pretrained.text.cxr_bert import CXRBert
from support.models import golden
from support.models.small_baselines import save_bert_files

IMAGE_FILE = "biovil_t_image_model_proj_size_128.pt"


def write(folder: Path) -> Path:
    """The hub repository's files."""
    folder.mkdir(parents=True, exist_ok=True)
    save_bert_files(folder)
    text = golden.fill(CXRBert(BertConfig.from_pretrained(folder)))
    heads = {"cls.predictions.bias": torch.zeros(9)}
    torch.save(text.state_dict() | heads, folder / "pytorch_model.bin")
    torch.save(golden.seeded_state(golden.read("biovil_t")["shapes"]), folder / IMAGE_FILE)
    return folder
