"""GLoRIA: marshuang80/gloria at 416466a; models/, loss/gloria_loss.py, gloria.py."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from support.originals import seeded
from support.originals.imports import imported, settings

CARD, CHECKOUT, COMMIT = "gloria", "marshuang80/gloria", "416466a"
WIDTH, LAYERS = 128, 3
TEXTS = (*seeded.TEXTS, "1. Pneumonia. 2. No effusion;\nclear lungs.")


def state() -> dict[str, Tensor]:
    """The layout of the released Lightning file's state_dict."""
    trunk = torchvision.models.resnet50(weights=None)
    trunk.fc = nn.Identity()
    layout = {
        **seeded.placed("gloria.img_encoder.model.", trunk),
        **seeded.placed("gloria.img_encoder.global_embedder.", nn.Linear(2048, WIDTH)),
        "gloria.img_encoder.local_embedder.weight": torch.empty(WIDTH, 1024, 1, 1),
        **seeded.placed("gloria.text_encoder.model.", seeded.bert(WIDTH, LAYERS)),
    }
    return seeded.fill(layout)


def write(folder: Path) -> Path:
    seeded.write_vocabulary(folder / "Bio_ClinicalBERT")
    position = {"gloria.text_encoder.model.embeddings.position_ids": torch.arange(128)[None]}
    content = {"state_dict": state() | position, "hyper_parameters": {"lr": 5e-5}, "epoch": 9}
    torch.save(content, folder / "chexpert_resnet50.ckpt")
    return folder / "chexpert_resnet50.ckpt"


def ours(model: Any) -> dict[str, Tensor]:
    images = model.preprocess.batch(seeded.radiographs()[:2])
    global_images, regions = model.embed_regions(images)
    return {
        "input": images,
        "images": global_images,
        "regions": regions,
        "texts": model.embed_texts(TEXTS),
        "similarities": model.similarities(images, TEXTS),
        "attention": torch.cat([model.word_maps(regions[:1], text)[0] for text in TEXTS[:2]]),
    }


def original(checkout: Path) -> dict[str, Tensor]:
    """The authors' model class on its own text and image processing.

    Patched: omegaconf (settings are a namespace), nltk's RegexpTokenizer (the same expression with
    `re`), `numpy.lib.function_base` and Lightning (imported, unused), pandas plots, and ImageNet's
    weights are not downloaded.
    """
    nltk = {"RegexpTokenizer": Words}
    given = {"nltk.tokenize": nltk, "numpy.lib.function_base": {"extract": None}}
    stand_ins = (
        "omegaconf", "nltk", "pytorch_lightning", "pytorch_lightning.core", "albumentations",
        "gloria.lightning", "gloria.datasets", "matplotlib", "matplotlib.pyplot", "skimage",
        "skimage.transform", "skimage.io",
    )  # fmt: skip
    torch.manual_seed(0)
    with TemporaryDirectory() as name, imported([checkout], stand_ins, given) as load:
        folder = seeded.write_bert_repository(Path(name), seeded.bert(WIDTH, LAYERS))
        package = load("gloria")
        load("gloria.models.cnn_backbones").models_2d = SimpleNamespace(
            resnet50=lambda pretrained: torchvision.models.resnet50(weights=None)
        )
        model = package.builder.build_gloria_model(configuration(folder)).eval()
        model.load_state_dict({key.removeprefix("gloria."): v for key, v in state().items()})
        images = torch.stack([prepare(model, image) for image in seeded.radiographs()[:2]])
        text = model.process_text(list(TEXTS), "cpu")
        regions, global_images = model.image_encoder_forward(images)
        words, sentences, names = model.text_encoder_forward(
            text["caption_ids"], text["attention_mask"], text["token_type_ids"]
        )
        maps = [
            model.get_attn_maps(regions[:1], words[i : i + 1], names[i : i + 1])[0][0]
            for i in range(2)
        ]
        return {
            "input": images,
            "images": nn.functional.normalize(global_images, dim=-1),
            "regions": regions,
            "texts": nn.functional.normalize(sentences, dim=-1),
            "similarities": torch.from_numpy(package.gloria.get_similarities(model, images, text)),
            "attention": torch.cat(maps),
        }


class Words:
    """nltk's RegexpTokenizer for the expression that the original gives."""

    def __init__(self, pattern: str) -> None:
        self.pattern = re.compile(pattern)

    def tokenize(self, text: str) -> list[str]:
        return self.pattern.findall(text)


def configuration(bert: Path) -> SimpleNamespace:
    """configs/chexpert_pretrain_config.yaml with a smaller text encoder."""
    return settings(
        phase="pretrain",
        model={
            "norm": False,
            "gloria": {
                "local_loss_weight": 1.0, "global_loss_weight": 1.0, "temp1": 4.0, "temp2": 5.0,
                "temp3": 10.0,
            },
            "vision": {"model_name": "resnet_50", "freeze_cnn": False, "pretrained": True},
            "text": {
                "bert_type": str(bert), "last_n_layers": 4, "aggregate_method": "sum",
                "norm": False, "embedding_dim": WIDTH, "freeze_bert": False, "agg_tokens": True,
            },
        },
        data={"text": {"word_num": 97}, "image": {"imsize": 256}},
        train={"batch_size": 48},
    )  # fmt: skip


def prepare(model: Any, image: Any) -> Tensor:
    """As `process_img` after reading, with the test transform of its configuration."""
    steps = [transforms.CenterCrop(224), transforms.ToTensor()]
    steps.append(transforms.Normalize((0.5,) * 3, (0.5,) * 3))
    return transforms.Compose(steps)(Image.fromarray(model._resize_img(image, 256)).convert("RGB"))


def thinned(results: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        **results,
        "input": results["input"][:, 0, ::31, ::31],
        "images": results["images"][:, ::4],
        "texts": results["texts"][:, ::4],
        "regions": results["regions"][:, ::16, ::6, ::6],
        "attention": 361 * results["attention"][:, ::6, ::6],
    }
