"""M-FLAG: cheliu-computation/M-FLAG-MICCAI2023 at a7fea3c; utils/utils_builder.py."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
import torchvision
import transformers
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from support.originals import seeded
from support.originals.imports import imported

CARD, CHECKOUT, COMMIT = "mflag", "cheliu-computation/M-FLAG-MICCAI2023", "a7fea3c"
WIDTH, LAYERS = 768, 1


def head(prefix: str, width: int, embed: int = 1024) -> dict[str, Tensor]:
    return {
        **seeded.placed(f"{prefix}.0.", nn.Linear(width, 2048)),
        **seeded.placed(f"{prefix}.1.", nn.BatchNorm1d(2048)),
        **seeded.placed(f"{prefix}.3.", nn.Linear(2048, embed)),
        **seeded.placed(f"{prefix}.4.", nn.BatchNorm1d(embed, affine=False)),
    }


def layout(text_prefix: str) -> dict[str, Tensor]:
    trunk = torchvision.models.resnet50(weights=None)
    trunk.fc = nn.Identity()
    return {
        **seeded.placed("encoder.", trunk),
        **head("proj_v", 2048),
        **head("proj_t", WIDTH),
        **seeded.placed(text_prefix, seeded.bert(WIDTH, LAYERS, pooler=False)),
    }


def state() -> dict[str, Tensor]:
    """The layout of NAME_total.pth: CXR-BERT's class of the hub keeps its encoder in `bert`."""
    filled = seeded.fill(layout("lm_model."))
    named = {k.replace("lm_model.", "lm_model.bert."): v for k, v in filled.items()}
    return named | {"lm_model.cls.predictions.bias": torch.zeros(len(seeded.WORDS))}


def write(folder: Path) -> Path:
    seeded.write_vocabulary(folder / "BiomedVLP-CXR-BERT-general")
    torch.save(state(), folder / "M-FLAG_total.pth")
    return folder / "M-FLAG_total.pth"


def ours(model: Any) -> dict[str, Tensor]:
    images = model.preprocess.batch(seeded.radiographs()[:2])
    return {
        "input": images,
        "pooled": model.pooled(images),
        "images": model.embed_images(images),
        "texts": model.embed_texts(seeded.TEXTS),
    }


def prepare(image: Any) -> Tensor:
    """Its normalization after our evaluation steps: gray levels to 0..255, 256, center crop."""
    levels = (image.astype(float) - image.min()) / (image.max() - image.min()) * 255
    steps = [transforms.Resize((256, 256)), transforms.CenterCrop(224), transforms.ToTensor()]
    steps.append(transforms.Normalize((0.5,) * 3, (0.5,) * 3))
    picture = Image.fromarray(levels.astype("uint8")).convert("RGB")
    values: Tensor = transforms.Compose(steps)(picture)
    return values


def original(checkout: Path) -> dict[str, Tensor]:
    """The authors' model class.

    Patched: `cgi` (imported, unused, gone from Python 3.13), the name of the hub repository, whose
    code is not run (a BERT stands for CXR-BERT, whose first output is the same), ImageNet's weights
    (not downloaded), and `batch_encode_plus`, gone from transformers 5.
    """
    kept = {
        key.replace("lm_model.bert.", "lm_model."): value
        for key, value in state().items()
        if ".cls." not in key
    }
    with TemporaryDirectory() as name, imported([checkout / "utils"], ("cgi",)) as load:
        folder = seeded.write_vocabulary(Path(name))
        bert = seeded.bert(WIDTH, LAYERS, pooler=False)
        tokenizer: Any = transformers.BertTokenizer.from_pretrained(folder)
        with (
            mock.patch.object(transformers.AutoModel, "from_pretrained", return_value=bert),
            mock.patch.object(
                transformers.AutoTokenizer, "from_pretrained", return_value=tokenizer
            ),
            mock.patch.object(
                torchvision.models, "resnet50", return_value=torchvision.models.resnet50()
            ),
        ):
            model = load("utils_builder").ResNet_CXRBert().eval()
        model.load_state_dict(kept)
        images = torch.stack([prepare(image) for image in seeded.radiographs()[:2]])
        texts = tokenizer(
            list(seeded.TEXTS), padding="max_length", max_length=128, return_tensors="pt"
        )
        pictures = model(images, texts["input_ids"][:2], texts["attention_mask"][:2])
        first = model.get_text_emb(texts["input_ids"], texts["attention_mask"])[:, 0]
        embedded = model.proj_t(first)
    return {
        "input": images,
        "pooled": pictures["img_emb"],
        "images": nn.functional.normalize(pictures["proj_img_emb"], dim=-1),
        "texts": nn.functional.normalize(embedded, dim=-1),
    }


def thinned(results: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        "input": results["input"][:, 0, ::31, ::31],
        "pooled": results["pooled"][:, ::32],
        "images": results["images"][:, ::16],
        "texts": results["texts"][:, ::16],
    }
