"""Small files of image encoders in their official layouts, from the shapes of golden files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from support.models import golden

BENCHX: dict[str, tuple[str, str, str]] = {
    "convirt": ("resnet", "visual.model.", "model"),
    "gloria": ("resnet", "gloria.img_encoder.model.", "state_dict"),
    "mgca-resnet50": ("resnet", "img_encoder_q.model.", "state_dict"),
    "mflag": ("resnet", "encoder.", ""),
    "medclip-resnet50": ("resnet", "vision_model.model.", ""),
    "medklip": ("medklip", "module.res_features.", "model"),
    "medclip-swin": ("swin", "vision_model.model.", ""),
    "mgca-vit": ("vit", "img_encoder_q.model.", "state_dict"),
    "mrm": ("mrm", "", "model"),
    "refers": ("refers", "visual.vit.", "model"),
    "ptunifier": ("ptunifier", "vision_encoder.", "state_dict"),
}
"""Method -> golden file, prefix of the encoder (BenchX's configs), entry that holds the weights."""

OTHER_PARTS = {
    "mrm": ("decoder_pred.weight", "bert_mlp.weight", "mask_token"),
    "medclip-resnet50": ("text_model.projection_head.weight",),
    "medclip-swin": ("text_model.projection_head.weight",),
}
"""Keys of other parts of a method's file; those of the rest are a text encoder's."""


def benchx_state(method: str) -> dict[str, Tensor]:
    name, prefix, _ = BENCHX[method]
    state = golden.seeded_state(golden.read(f"benchx_{name}")["shapes"])
    others = OTHER_PARTS.get(method, ("text_encoder.embeddings.word_embeddings.weight",))
    return {prefix + key: v for key, v in state.items()} | {k: torch.ones(2, 2) for k in others}


def write_state(file: Path, state: dict[str, Tensor], entry: str) -> Path:
    """The weights at the top level, or under an entry of a training checkpoint."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content: Any = {entry: state, "epoch": 3} if entry else state
    torch.save(content, file)
    return file


def make_benchx(folder: Path, method: str = "refers") -> Path:
    return write_state(folder / f"{method}.pth", benchx_state(method), BENCHX[method][2])


def make_vit_release(name: str, folder: Path) -> Path:
    """The file of REFERS, ECAMP or PTUnifier, with a key or two of its other parts."""
    others = {
        "refers": ("head.weight",),
        "ecamp": ("super_res.conv1.weight", "bert_mlp.weight", "mask_token", "decoder_norm.bias"),
        "ptunifier": ("language_encoder.pooler.dense.bias", "pseudo_vision_token_pool"),
    }
    entry = {"refers": "", "ecamp": "model", "ptunifier": "state_dict"}[name]
    state = golden.seeded_state(golden.read(name)["shapes"])
    more = {key: torch.ones(2) for key in others[name]}
    return write_state(folder / f"{name}.pth", state | more, entry)


ENCODERS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "benchx-refers": ("benchx", make_benchx),
    "benchx-swin": ("benchx", lambda folder: make_benchx(folder, "medclip-swin")),
    **{
        name: (name, lambda folder, name=name: make_vit_release(name, folder))
        for name in ("refers", "ecamp", "ptunifier")
    },
}
"""Name of a case -> the card and what writes its SOURCE, as in `factories.FACTORIES`."""
