"""ConVIRT of HKU-MedAI/MGCA at 680fe4a: its encoders without local alignment."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from support.originals import mgca, seeded

CARD, CHECKOUT, COMMIT = "convirt", mgca.CHECKOUT, mgca.COMMIT


def state() -> dict[str, Tensor]:
    """MGCA's weights under the names of its ConVIRT module."""
    return {
        key.replace("_encoder_q.", "_encoder."): value
        for key, value in mgca.state().items()
        if "_encoder_q." in key
    }


def write(folder: Path) -> Path:
    seeded.write_vocabulary(folder / "Bio_ClinicalBERT")
    torch.save({"state_dict": state(), "hyper_parameters": {"emb_dim": 128}}, folder / "last.ckpt")
    return folder / "last.ckpt"


def ours(model: Any) -> dict[str, Tensor]:
    images = model.preprocess.batch(seeded.radiographs()[:2])
    return {
        "input": images,
        "images": model.embed_images(images),
        "texts": model.embed_texts(mgca.TEXTS),
    }


def original(checkout: Path) -> dict[str, Tensor]:
    """convirt_module.py uses the encoders of MGCA; see `mgca.run` for what is patched."""
    found = mgca.original(checkout)
    return {name: found[name] for name in ("input", "images", "texts")}


def thinned(results: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        "input": results["input"][:, 0, ::31, ::31],
        "images": results["images"][:, ::4],
        "texts": results["texts"][:, ::4],
    }
