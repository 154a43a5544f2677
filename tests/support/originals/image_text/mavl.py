"""MAVL: HieuPhan33/CVPR2024_MAVL at 6a5eacd; models/model_MAVL.py, test.py of both zero-shots."""

import json
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torchvision
import transformers
from functorch.einops import rearrange
from open_clip.modified_resnet import AttentionPool2d
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from support.originals import seeded
from support.originals.imports import imported
from support.originals.kad import decoder_layers

CARD, CHECKOUT, COMMIT = "mavl", "HieuPhan33/CVPR2024_MAVL", "6a5eacd"
HAS_TEXT_ENCODER_INSIDE = False
"""ClinicalBERT lies beside the checkpoint, weights included."""
WIDTH, LAYERS, ENTRIES, ASPECTS = 768, 1, 75, 8
POSITIONS = 24
"""Tokens of a text with its padding; no text of the book is longer."""
SETTINGS = {
    "d_model": 256, "base_model": "resnet50", "decoder": "cross", "num_queries": 75,
    "dropout": 0.1, "attribute_set_size": 2, "N": 4, "H": 4, "self_attention": True,
    "pretrained": False, "text_encoder": "bert",
}  # fmt: skip
NAMES = ("pneumonia", "effusion", "tail_abnorm_obs")
ASKED = ("Pneumonia", "Pleural Effusion", "Fibrosis")
EMBEDDED = (1, 11)


def book() -> dict[str, str]:
    """75 diseases, three of them under names of the original's book, and a 76th."""
    names = (*NAMES, *(f"disease {i}" for i in range(ENTRIES - len(NAMES))), "covid19")
    return {name: f"there is {name} {i}" for i, name in enumerate(names)}


def aspects() -> dict[str, list[str]]:
    return {name: [f"{name} lung {i}" for i in range(ASPECTS)] for name in book()}


def bert() -> Any:
    model = seeded.bert(WIDTH, LAYERS, pooler=False, positions=POSITIONS)
    model.load_state_dict(seeded.fill(model.state_dict()))
    return model.eval()


def state() -> dict[str, Tensor]:
    """The layout of checkpoint_full_46.pth, with a temperature, which the original drops."""
    trunk = torchvision.models.resnet50(weights=None)
    backbone = nn.Sequential(*list(trunk.children())[:-3])
    layout = {
        **seeded.placed("backbone.", backbone),
        **seeded.placed("pool.", AttentionPool2d(14, 1024, 8, 256)),
        **seeded.placed("res_l1.0.", nn.Conv2d(1024, 1024, 1)),
        **seeded.placed("res_l1.1.", nn.PReLU()),
        **seeded.placed("res_l2.", nn.Conv2d(1024, 256, 1)),
        **seeded.placed("disease_embedding_layer.", nn.Linear(WIDTH, 256)),
        **seeded.placed("location_emb.", nn.Conv1d(256, 768, 9)),
        **decoder_layers(256),
        **seeded.placed("decoder.norm.", nn.LayerNorm(256)),
        **seeded.placed("classifier.", nn.Linear(9 * 256, 2)),
        "temp": torch.empty(()),
    }
    return seeded.fill({f"module.{key}": value for key, value in layout.items()})


def write(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    seeded.write_bert_repository(folder / "Bio_ClinicalBERT", bert())
    (folder / "observation explanation.json").write_text(json.dumps(book()))
    (folder / "gpt4_mimic.json").write_text(json.dumps(aspects()))
    torch.save({"model": state(), "epoch": 46}, folder / "checkpoint_full_46.pth")
    return folder / "checkpoint_full_46.pth"


def ours(model: Any) -> dict[str, Tensor]:
    images = model.preprocess.batch(seeded.radiographs()[:2])
    texts = [model.queries[index // 9][index % 9] for index in EMBEDDED]
    return {
        "input": images,
        "probabilities": model.match(images, ASKED),
        "76th": model.match(images, ["covid19"]),
        "cosines": model.embed_images(images) @ model.embed_texts(texts).T,
        "maps": model.locate(images, ASKED),
    }


def original(checkout: Path) -> dict[str, Tensor]:
    """The authors' two model classes, which differ in what they return.

    Patched: einops (torch's copy), ResNet-18 and the two ViT, which the constructor downloads and
    does not use, and `AutoModel.from_pretrained`, which gives our small BERT.
    """
    given = {"einops": {"rearrange": rearrange}}
    images = torch.stack([prepare(picture) for picture in seeded.radiographs()[:2]])
    nothing = mock.Mock(return_value=None)
    with (
        mock.patch.multiple(torchvision.models, vit_b_16=nothing, vit_l_16=nothing),
        mock.patch.object(transformers.AutoModel, "from_pretrained", return_value=bert()),
    ):
        with imported([checkout / "Zero-shot_classification"], (), given) as load:
            kind = load("models.model_MAVL").MAVL
            logits, _, _, cosines, _ = build(kind, ENTRIES, located=True)(images)
            more = build(kind, ENTRIES + 1, located=True)(images)[0]
        with imported([checkout / "Zero-shot_grounding"], (), given) as load:
            layers = build(load("models.model_MAVL").MAVL, ENTRIES, located=False)(images)[1]
    attention = sum(layers[-4:]) / 4
    maps = attention.view(2, ENTRIES, 9, -1)[:, :, [0, 6, 7, 8]].mean(2)
    return {
        "input": images,
        "probabilities": logits.softmax(dim=-1)[:, : len(NAMES), 1],
        "76th": more.softmax(dim=-1)[:, ENTRIES:, 1],
        "cosines": cosines.permute(0, 2, 1).flatten(1)[:, list(EMBEDDED)],
        "maps": maps.reshape(2, ENTRIES, 14, 14)[:, : len(NAMES)],
    }


def build(kind: Any, count: int, located: bool) -> Any:
    """A model of the first `count` diseases, loaded as the original's test.py does."""
    diseases, concepts = list(book().values())[:count], list(aspects().values())[:count]
    books = [coded(diseases), coded([text for each in concepts for text in each])]
    model = kind(SETTINGS, coded(["there is lung"]), *books) if located else kind(SETTINGS, *books)
    kept = {key.replace("module.", ""): v for key, v in state().items() if "temp" not in key}
    model.load_state_dict(kept)
    return model.eval()


def coded(texts: list[str]) -> Any:
    tokenizer: Any = transformers.BertTokenizerFast(
        vocab={w: i for i, w in enumerate(seeded.WORDS)}
    )
    options = {"padding": "max_length", "truncation": True, "max_length": POSITIONS}
    return tokenizer(texts, return_tensors="pt", **options)


def prepare(picture: Any) -> Tensor:
    """As Chestxray14_Dataset after reading."""
    steps = [transforms.Resize([224, 224]), transforms.ToTensor()]
    steps.append(transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    values: Tensor = transforms.Compose(steps)(Image.fromarray(picture).convert("RGB"))
    return values


def thinned(results: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        **results,
        "input": results["input"][:, :, ::31, ::31],
        "maps": 196 * results["maps"][:, :, ::3, ::3],
    }
