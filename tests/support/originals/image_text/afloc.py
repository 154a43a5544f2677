"""AFLoc: YH0517/AFLoc at 940e3d7; afloc/models, inference.py, eval/common.py."""

from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torchvision
from PIL import Image
from torch import Tensor
from torchvision import transforms

from support.originals import gloria, seeded
from support.originals.imports import imported

CARD, CHECKOUT, COMMIT = "afloc", "YH0517/AFLoc", "940e3d7"
TEXTS = (*gloria.TEXTS, "Pneumonia")


def state() -> dict[str, Tensor]:
    """The layout of the released Lightning file: GLoRIA's, with one more projection."""
    layout = {key.replace("gloria.", "afloc.", 1): value for key, value in gloria.state().items()}
    more = torch.empty(gloria.WIDTH, 512, 1, 1)
    return seeded.fill(layout | {"afloc.img_encoder.local2_embedder.weight": more})


def write(folder: Path) -> Path:
    seeded.write_vocabulary(folder / "Bio_ClinicalBERT")
    position = {"afloc.text_encoder.model.embeddings.position_ids": torch.arange(128)[None]}
    content = {"state_dict": state() | position, "hyper_parameters": {"lr": 2e-5}, "epoch": 4}
    torch.save(content, folder / "afloc.ckpt")
    return folder / "afloc.ckpt"


def ours(model: Any) -> dict[str, Tensor]:
    images = model.preprocess.batch(seeded.radiographs()[:2])
    return {
        "input": images,
        "regions": model.regions(images),
        "texts": model.report_vectors(TEXTS),
        "cosines": model.embed_images(images) @ model.embed_texts(TEXTS).T,
        "maps": model.locate(images, TEXTS[:2]),
    }


def original(checkout: Path) -> dict[str, Tensor]:
    """The authors' model class, and the similarities of its inference engine.

    Patched: omegaconf and Lightning (settings are a namespace), nltk's RegexpTokenizer (the same
    expression with `re`), `numpy.lib.function_base`, the readers of its data sets, and ImageNet's
    weights are not downloaded. Its sentences, which only the loss needs, are switched off.
    """
    given = {
        "nltk.tokenize": {"RegexpTokenizer": gloria.Words},
        "numpy.lib.function_base": {"extract": None},
    }
    stand_ins = (
        "omegaconf", "nltk", "pytorch_lightning", "pytorch_lightning.core", "albumentations",
        "afloc.lightning", "afloc.datasets", "matplotlib", "skimage", "skimage.exposure",
        "eval", "eval.utils", "eval.metric", "tqdm",
    )  # fmt: skip
    with TemporaryDirectory() as name, imported([checkout], stand_ins, given) as load:
        bert = seeded.bert(gloria.WIDTH, gloria.LAYERS)
        folder = seeded.write_bert_repository(Path(name), bert)
        package = load("afloc")
        load("afloc.models.cnn_backbones").models_2d = SimpleNamespace(
            resnet50=lambda pretrained: torchvision.models.resnet50(weights=None)
        )
        model = package.builder.build_model(configuration(folder)).eval()
        model.load_state_dict({key.removeprefix("afloc."): v for key, v in state().items()})
        images = torch.stack([prepare(model, image) for image in seeded.radiographs()[:2]])
        text = model.process_text(list(TEXTS), "cpu")
        reports = model.text_encoder_forward(
            text["caption_ids"], text["attention_mask"], text["token_type_ids"]
        )["report_embeddings"]
        regions, _, _, vectors = model.image_encoder_forward(images)
        engine = inference_engine(checkout)
        maps = [
            engine._get_similarity_map_from_embeddings(
                part.permute(1, 2, 0).contiguous(), each[None]
            )
            for part in regions
            for each in reports[:2]
        ]
        return {
            "input": images,
            "regions": regions,
            "texts": reports,
            "cosines": engine._get_similarity_from_embeddings(vectors, reports),
            "maps": torch.stack(maps).unflatten(0, (2, 2)),
        }


def inference_engine(checkout: Path) -> Any:
    """The class of eval/common.py, whose module needs plots and data sets at import."""
    with (
        imported([checkout / "eval"], ("eval", "eval.utils", "eval.metric", "matplotlib")) as load,
        mock.patch("matplotlib.use", create=True),
    ):
        return load("common").ImageTextInferenceEngine


def configuration(bert: Path) -> SimpleNamespace:
    """afloc/config.yaml with a smaller text encoder."""
    found = gloria.configuration(bert)
    found.model.afloc = SimpleNamespace(
        temp1=4.0, temp2=5.0, temp3=10.0, use_local_word_loss=True, use_ce_loss=False
    )
    found.model.text.take_sent_as_units = False
    found.data.image.imsize = 224
    return found


def prepare(model: Any, image: Any) -> Tensor:
    """As `process_img` after reading, at the 224 pixels that inference.py sets."""
    steps = [transforms.CenterCrop(224), transforms.ToTensor()]
    steps.append(transforms.Normalize((0.5,) * 3, (0.5,) * 3))
    return transforms.Compose(steps)(Image.fromarray(model._resize_img(image, 224)).convert("RGB"))


def thinned(results: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        **results,
        "input": results["input"][:, 0, ::31, ::31],
        "regions": results["regions"][:, ::16, ::6, ::6],
        "texts": results["texts"][:, ::4],
        "maps": results["maps"][:, :, ::3, ::3],
    }
