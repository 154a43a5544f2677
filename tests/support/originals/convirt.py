"""ConVIRT: edreisMD/ConVIRT-pytorch at c99ca5f; models/model.py."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms
from transformers import BertTokenizer

from support.originals import seeded
from support.originals.imports import imported

CARD, CHECKOUT, COMMIT = "convirt", "edreisMD/ConVIRT-pytorch", "c99ca5f"
WIDTH, LAYERS, EMBED = 768, 1, 64


def state() -> dict[str, Tensor]:
    """The layout of model.pth: a bare state_dict with the children of a ResNet by number."""
    trunk = torchvision.models.resnet50(weights=None)
    sequential = nn.Sequential(*list(trunk.children())[:-1])
    return seeded.fill(
        {
            **seeded.placed("bert_model.", seeded.bert(WIDTH, LAYERS)),
            **seeded.placed("bert_l1.", nn.Linear(WIDTH, WIDTH)),
            **seeded.placed("bert_l2.", nn.Linear(WIDTH, EMBED)),
            **seeded.placed("res_features.", sequential),
            **seeded.placed("res_l1.", nn.Linear(2048, 2048)),
            **seeded.placed("res_l2.", nn.Linear(2048, EMBED)),
        }
    )


def write(folder: Path) -> Path:
    seeded.write_vocabulary(folder / "Bio_ClinicalBERT")
    torch.save(state(), folder / "model.pth")
    return folder / "model.pth"


def ours(model: Any) -> dict[str, Tensor]:
    images = model.preprocess.batch(seeded.radiographs()[:2])
    return {
        "input": images,
        "pooled": model.pooled(images),
        "images": model.embed_images(images),
        "texts": model.embed_texts(seeded.TEXTS),
    }


def prepare(image: Any) -> Tensor:
    """As its pipeline without augmentation."""
    steps = [transforms.Resize((224, 224)), transforms.ToTensor()]
    steps.append(transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    values: Tensor = transforms.Compose(steps)(Image.fromarray(image).convert("RGB"))
    return values


def original(checkout: Path) -> dict[str, Tensor]:
    """The authors' model class; patched: `.half()` of the text projection, which needs a GPU."""
    with TemporaryDirectory() as name, imported([checkout / "models"]) as load:
        folder = seeded.write_bert_repository(Path(name), seeded.bert(WIDTH, LAYERS))
        model = load("model").ModelCLR("resnet50", str(folder), EMBED, None, False).eval()
        model.load_state_dict(state())
        images = torch.stack([prepare(image) for image in seeded.radiographs()[:2]])
        tokens = BertTokenizer.from_pretrained(folder)(
            list(seeded.TEXTS), return_tensors="pt", padding=True, truncation=True
        )
        pooled, embedded = model.image_encoder(images)
        with mock.patch.object(torch.Tensor, "half", torch.Tensor.float):
            texts = model.text_encoder(tokens)
    return {
        "input": images,
        "pooled": pooled,
        "images": nn.functional.normalize(embedded, dim=-1),
        "texts": nn.functional.normalize(texts, dim=-1),
    }


def thinned(results: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        "input": results["input"][:, :, ::45, ::45],
        "pooled": results["pooled"][:, ::32],
        "images": results["images"][:, ::2],
        "texts": results["texts"][:, ::2],
    }
