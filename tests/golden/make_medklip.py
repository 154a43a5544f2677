"""Golden numbers of MedKLIP, made by the original: MediaBrain-SJTU/MedKLIP at 8e60b03.

    G2DBENCH_MEDKLIP=.../MedKLIP python tests/golden/make_medklip.py

Reads the original from that folder, gives it drawn weights and a drawn book (drawn.py) and writes
medklip.json. Where einops is absent, the copy inside torch stands in for it. The original's copy of
an old tokenizer no longer imports; its words are spelled by transformers' BertTokenizer, which
lower-cases by default as the old one did.
"""

import importlib.util
import json
import os
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from functorch.einops import rearrange
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision import transforms
from transformers import BertConfig, BertModel, BertTokenizer

HERE = Path(__file__).resolve().parent
drawn = SimpleNamespace(**runpy.run_path(str(HERE / "drawn.py")))

VARIABLE = "G2DBENCH_MEDKLIP"
GOLDEN = HERE / "medklip.json"
SEED = 20230109
HEIGHT, WIDTH = 512, 448

NAMED = {8: "effusion", 20: "eumonia", 43: "thicken", 56: "infiltrate", 73: "tail_abnorm_obs"}
"""Entries of the published book that the tests ask for, at their places."""
BOOK = {
    NAMED.get(index, f"entry_{index}"): f"Finding {index}: there is {NAMED.get(index, 'no')} lung."
    for index in range(75)
}
ASKED = ("Pneumonia", "Fibrosis", "Infiltration", "Pleural_Thickening", "effusion", "entry-3")
PLACES = (20, 73, 56, 43, 8, 3)
NEW = ("COVID-19, a disease of the lung", "No nodule is left")
CONFIG = {"d_model": 256, "res_base_model": "resnet50", "dropout": 0.1, "attribute_set_size": 2}
BERT = {"model_type": "bert", "vocab_size": len(drawn.VOCABULARY), "num_hidden_layers": 2}
STUDIES = {
    "classification": "Sample_zero-shot_Classification_CXR14",
    "grounding": "Sample_Zero-Shot_Grounding_RSNA",
}


def import_original(source: str, study: str) -> ModuleType:
    """The original's model module of one of its two zero-shot studies."""
    if "einops" not in sys.modules and importlib.util.find_spec("einops") is None:
        sys.modules["einops"] = ModuleType("einops")
        sys.modules["einops"].rearrange = rearrange  # type: ignore[attr-defined]
    models = Path(source) / STUDIES[study] / "models"
    package = f"medklip_{study}"
    for name in ("", ".transformer", ".model_MedKLIP"):
        file = models / f"{name[1:]}.py" if name else None
        spec = (
            importlib.util.spec_from_file_location(package + name, file)
            if file
            else importlib.util.spec_from_loader(package, None, is_package=True)
        )
        assert spec is not None
        sys.modules[package + name] = module = importlib.util.module_from_spec(spec)
        if spec.loader is not None:
            spec.loader.exec_module(module)
    return module


def write_text_files(folder: Path) -> None:
    """The book, and ClinicalBERT's configuration and vocabulary."""
    bert = folder / "Bio_ClinicalBERT"
    bert.mkdir(exist_ok=True)
    drawn.write_vocabulary(bert)
    (bert / "config.json").write_text(json.dumps(BERT))
    (folder / "observation explanation.json").write_text(json.dumps(BOOK))


def write_bert(folder: Path, seed: int) -> None:
    """ClinicalBERT's weights as its repository has them: `bert.` before each key, LayerNorm's old
    names, and the head of its pre-training."""
    state = drawn.state(BertModel(BertConfig(**BERT)), seed)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    named = {f"bert.{key}": value for key, value in state.items()}
    for new, name in old.items():
        named = {key.replace(new, name): value for key, value in named.items()}
    head = {"cls.predictions.bias": torch.zeros(9)}
    torch.save(named | head, folder / "Bio_ClinicalBERT" / "pytorch_model.bin")


class Original:
    """The two models of the original with one set of drawn weights, and its own steps around them.

    Both have encoded the published book and NEW behind it; `ask` sets what they are asked.
    """

    def __init__(self, source: str, folder: Path, seed: int) -> None:
        tokenizer = BertTokenizer.from_pretrained(folder / "Bio_ClinicalBERT")
        pieces = tokenizer(
            [*BOOK.values(), *NEW],
            padding="max_length",
            truncation=True,
            max_length=64,
            return_tensors="pt",
        )
        bert = BertModel(BertConfig(**BERT)).eval()
        bert.load_state_dict(drawn.state(bert, seed))
        config = {**CONFIG, "N": 4, "H": 4, "text_encoder": "Bio_ClinicalBERT"}
        self.models: dict[str, Any] = {}
        for study, books in (("classification", (pieces,)), ("grounding", (pieces, pieces))):
            module: Any = import_original(source, study)
            module.AutoModel = SimpleNamespace(from_pretrained=lambda name: bert)
            self.models[study] = module.MedKLIP(config, *books).eval()
        state = drawn.state(self.models["grounding"], seed)
        for model in self.models.values():
            model.load_state_dict(state)
        self.encoded = self.models["grounding"].disease_book

    def ask(self, *entries: int) -> None:
        """Let the book be these of the encoded texts."""
        for model in self.models.values():
            model.disease_book = self.encoded[list(entries)]

    def save(self, folder: Path) -> None:
        """A checkpoint as the training script writes it."""
        state = torch.nn.DataParallel(self.models["classification"]).state_dict()
        content = {"model": state, "optimizer": {}, "lr_scheduler": {}, "config": {}, "epoch": 1}
        torch.save(content, folder / "checkpoint_state.pth")

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, Q), as its test.py for ChestX-ray14 computes them."""
        logits = self.models["classification"](images)
        return torch.softmax(logits.reshape(-1, 2), dim=1).reshape(*logits.shape)[..., 1]

    @torch.no_grad()
    def attention(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, Q, 14, 14), as its test.py for RSNA computes them."""
        weights = self.models["grounding"](images, None, is_train=False)[1]
        mean = (weights[-4] + weights[-3] + weights[-2] + weights[-1]) / 4
        return mean.reshape(*mean.shape[:2], 14, 14)


def prepare(image: NDArray[np.uint8]) -> Tensor:
    """(H, W) uint8 -> (1, 3, 224, 224), as its data sets do after reading."""
    steps = [
        transforms.Resize([224, 224]),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
    return transforms.Compose(steps)(Image.fromarray(image).convert("RGB"))[None]


@torch.no_grad()
def answers(source: str, folder: Path, image: NDArray[np.uint8], seed: int) -> dict[str, Tensor]:
    """What the original says of ASKED by its book, and of each of NEW as the book's 76th entry."""
    images = prepare(image)
    original = Original(source, folder, seed)
    original.save(folder)
    original.ask(*range(75))
    probabilities = original.probabilities(images)[0]
    maps = original.attention(images)[0, list(PLACES)]
    new, new_maps = [], []
    for place in range(75, 75 + len(NEW)):
        original.ask(*range(75), place)
        new.append(original.probabilities(images)[0, -1])
        new_maps.append(original.attention(images)[0, -1])
    return {
        "input": images[0],
        "patches": original.models["classification"].image_encoder(images)[0],
        "book": original.encoded[:75],
        "probabilities": probabilities,
        "asked": probabilities[list(PLACES)],
        "maps": maps,
        "heat": maps.repeat_interleave(16, dim=1).repeat_interleave(16, dim=2),
        "new": torch.stack(new),
        "new_maps": torch.stack(new_maps),
    }


def thinned(answer: dict[str, Tensor]) -> dict[str, Tensor]:
    """The part that the golden file keeps; attention times 196, so that uniform is 1."""
    return {
        "input": answer["input"][:, ::25, ::25],
        "patches": answer["patches"][::20, ::8],
        "book": answer["book"][::10, ::16],
        "probabilities": answer["probabilities"],
        "asked": answer["asked"],
        "maps": 196 * answer["maps"],
        "new": answer["new"],
        "new_maps": 196 * answer["new_maps"],
    }


def main() -> None:
    """Write the golden file."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_text_files(folder)
        image = drawn.radiograph(HEIGHT, WIDTH, SEED)
        numbers = thinned(answers(os.environ[VARIABLE], folder, image, SEED))
    kept = {name: drawn.rounded(values) for name, values in numbers.items()}
    GOLDEN.write_text(json.dumps(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
