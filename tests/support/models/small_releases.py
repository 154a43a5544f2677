"""The files of BioViL, MedKLIP and G2D with drawn weights, in the layouts of their authors."""

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import BertConfig

from g2dbench.cards import MethodCard, ModelCard
from g2dbench.methods.g2d.export import export
from g2dbench.model import Identity
from g2dbench.pretrained.text.cxr_bert import CXRBert
from g2dbench.pretrained.text.tokenizer import train_wordpiece
from g2dbench.pretrained.weights import digest
from g2dbench.recipes import recipe as recipes
from g2dbench.registry import Registry

GOLDEN = Path(__file__).parents[2] / "golden"


def maker(name: str) -> SimpleNamespace:
    """The names of tests/golden/make_<name>.py."""
    return SimpleNamespace(**runpy.run_path(str(GOLDEN / f"make_{name}.py")))


def make_biovil(folder: Path) -> Path:
    """The hub repository's files; no original needed."""
    make, biovil = maker("biovil"), _module("biovil")
    folder.mkdir(parents=True, exist_ok=True)
    make.write_text_folder(folder)
    image = make.drawn.state(biovil._ImageTower(), make.SEED)
    head = {"weight": (1000, 2048), "bias": (1000,)}
    image |= {f"encoder.encoder.fc.{name}": torch.zeros(s) for name, s in head.items()}
    text = make.drawn.state(CXRBert(BertConfig(**make.CONFIG)), make.SEED)
    torch.save(image, folder / make.IMAGE_FILE)
    torch.save(text, folder / "pytorch_model.bin")
    return folder


def make_medklip(folder: Path) -> Path:
    """A filled source folder; no original needed."""
    make, medklip = maker("medklip"), _module("medklip")
    make.BERT.update(num_hidden_layers=1, intermediate_size=48)  # it encodes a book of 75 texts
    folder.mkdir(parents=True, exist_ok=True)
    make.write_text_files(folder)
    make.write_bert(folder, make.SEED)
    state = make.drawn.state(medklip._Network(768), make.SEED)
    named = {f"module.{key}": value for key, value in state.items()}
    torch.save({"model": named, "epoch": 1, "config": {}}, folder / "checkpoint_state.pth")
    return folder


def make_g2d(folder: Path) -> Path:
    """The checkpoint of `g2dbench export`, with the settings and the tokenizer beside it."""
    table: dict[str, Any] = {
        "width": 8,
        "image": {"encoder": "resnet18", "size": 64, "mean": [0.5], "std": [0.25]},
        "text": {"layers": 1, "hidden": 768, "heads": 12, "feed_forward": 32, "max_length": 12},
        "attention": {
            "heads": 4, "query": "mean", "keys": "pixels+query", "positions": "learned",
            "dense": "projected",
        },
    }  # fmt: skip
    tokenizer = train_wordpiece(["the heart is large", "no effusion", "lungs are clear"], 60)
    method = Registry().find(MethodCard, "g2d").load().build(table, tokenizer, 0).eval()
    model = method.as_model().eval()
    model.identity = Identity("g2d-small", digest(model), 0)
    export(model, folder, "small", recipes.load("g2d-tiny").optim)
    (checkpoint,) = folder.glob("*_checkpoint.pth")
    return checkpoint


def _module(name: str) -> Any:
    return Registry().find(ModelCard, name).load()
