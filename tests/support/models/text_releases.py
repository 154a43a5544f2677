"""Small files of models with a text encoder, in their official layouts, from golden files."""

from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch

from support.models import golden
from support.models.encoder_releases import write_state
from support.models.small_texts import save_clip_tokenizer
from support.originals import maco, medimageinsight, seeded


def make_unimed_clip(folder: Path) -> Path:
    """One of the three files, with the vocabulary beside it."""
    seeded.write_vocabulary(folder)
    state = golden.seeded_state(golden.read("unimed_clip")["shapes"])
    named = {f"module.{key}": value for key, value in state.items()}
    return write_state(folder / "unimed_clip_vit_b16.pt", named, "state_dict")


def make_maco(folder: Path) -> Path:
    """maco.pth and the repository's vocabulary beside it."""
    maco.write_vocabulary(folder)
    state = golden.seeded_state(golden.read("maco")["shapes"])
    others = {
        "WCE.weight": torch.ones(4),
        "bert_encoder.model.cls.predictions.bias": torch.ones(9),
    }
    return write_state(folder / "maco.pth", state | others, "model")


def make_medimageinsight(folder: Path, words: int = 54) -> Path:
    """The released folder; the weights are safetensors under another ending.

    words: tokens of the vocabulary.
    """
    save_clip_tokenizer(medimageinsight.tokenizer_folder(folder), words)
    state = golden.seeded_state(golden.read("medimageinsight")["shapes"])
    (folder / "vision_model").mkdir(exist_ok=True)
    safetensors.torch.save_file(state, folder / "vision_model" / "medimageinsigt-v1.0.0.pt")
    return folder


WITH_TEXT: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "unimed-clip": ("unimed-clip", make_unimed_clip),
    "maco": ("maco", make_maco),
    "medimageinsight": ("medimageinsight", make_medimageinsight),
}
"""Name of a case -> the card and what writes its SOURCE, as in `factories.FACTORIES`."""
