"""Exports a trained G2D in the authors' file layouts, for their code and `--model g2d:FILE`."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from g2dbench.errors import Misuse
from g2dbench.methods.g2d.model import G2D
from g2dbench.methods.g2d.released import count_parameters, to_released, unsupported_settings
from g2dbench.methods.g2d.settings import G2DSettings
from g2dbench.methods.shared.pretrained_model import PretrainedImageTextModel
from g2dbench.methods.shared.settings import read_settings
from g2dbench.model import Model
from g2dbench.recipes.recipe import OptimSettings
from g2dbench.system.files import replace_file

SETTINGS_FILE = "model.json"
"""The `[model]` table: image size, encoder, ..., which the authors' layouts do not store."""

TEXT_FOLDER = "text_model"
"""BERT and tokenizer, for `text_model` in the authors' config.yaml."""


@dataclass(frozen=True)
class Export:
    """The files written, and those left out, as {file: reason}."""

    files: tuple[Path, ...]
    left_out: dict[str, str]


def export(model: Model, out: Path, name: str, optim: OptimSettings) -> Export:
    """Write the layouts that can hold this model, its settings and its text encoder into `out`.

    The checkpoint has the epoch and the state of an AdamW without steps, so that the authors'
    trainer can continue from it, and BERT's pooler, which their code has but does not use.
    Raises Misuse for a model that is not a G2D, and for a folder that is not empty.
    """
    if not isinstance(model, PretrainedImageTextModel) or not isinstance(model.towers, G2D):
        raise Misuse(
            f"{model.identity.label} is not a G2D, and the authors' layouts can only hold a G2D: "
            "load other models from their run folders"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Misuse(f"{out} is not an empty folder: give an empty or a new one as --out")
    if Path(name).name != name:
        raise Misuse(f"--name {name!r} is the start of file names: leave the folder out")
    states, left_out = _states(model, name, optim)
    for file, state in states.items():
        replace_file(out / file, partial(torch.save, state))
    table = json.dumps(model.towers.architecture, indent=1)
    replace_file(out / SETTINGS_FILE, lambda path: path.write_text(table, encoding="utf-8"))
    model.towers.text.encoder.bert.save_pretrained(out / TEXT_FOLDER)
    model.towers.tokenize.tokenizer.save_pretrained(out / TEXT_FOLDER)
    return Export(tuple(out / f for f in (*states, SETTINGS_FILE, TEXT_FOLDER)), left_out)


def _states(
    model: PretrainedImageTextModel, name: str, optim: OptimSettings
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """File -> its content, and file left out -> reason."""
    g2d: Any = model.towers
    unet, checkpoint = f"{name}_encoder_decoder.pth", f"{name}_{optim.epochs}_checkpoint.pth"
    states: dict[str, dict[str, Any]] = {f"{name}_encoder.pth": _state(g2d.unet.encoder)}
    if read_settings(G2DSettings, g2d.architecture).pixel.target == "none":
        return states, dict.fromkeys((unet, checkpoint), "the decoder was not trained")
    states[unet] = _state(g2d.unet)
    if foreign := unsupported_settings(g2d):
        return states, {checkpoint: f"the layout cannot hold {'; '.join(foreign)}"}
    states[checkpoint] = _checkpoint(g2d, optim)
    return states, {}


def _state(module: nn.Module) -> dict[str, Any]:
    return {key: value.detach().cpu() for key, value in module.state_dict().items()}


def _checkpoint(g2d: G2D, optim: OptimSettings) -> dict[str, Any]:
    weights = to_released(g2d)
    blank = [nn.Parameter(torch.zeros(0)) for _ in range(count_parameters(weights))]
    optimizer = torch.optim.AdamW(
        blank, lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay
    )
    return {
        "epoch": optim.epochs,
        "model_state_dict": weights,
        "optimizer_state_dict": optimizer.state_dict(),
    }
