"""PRIOR: QtacierP/PRIOR at 086bf2e; codes/prior, downstream/zero_classification_model.py."""

from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torchvision
import transformers
from open_clip.modified_resnet import AttentionPool2d
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from support.originals import seeded
from support.originals.imports import imported

CARD, CHECKOUT, COMMIT = "prior", "QtacierP/PRIOR", "086bf2e"
BERT_WIDTH, LAYERS, WIDTH = 128, 2, 64
FINDINGS = ("Atelectasis", "Cardiomegaly", "Pleural Effusion")


class Module(nn.Module):
    """Stands for Lightning's module."""

    device = torch.device("cpu")


def state() -> dict[str, Tensor]:
    """The layout of the whole model's file; of the parts of its loss, one of each kind."""
    trunk = torchvision.models.resnet50(weights=None)
    trunk.fc = nn.Identity()
    trunk.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    layout = {
        **seeded.placed("image_encoder.encoder.", trunk),
        **seeded.placed("image_encoder.atten_pool.", AttentionPool2d(7, 2048, 8)),
        **seeded.placed("text_encoder.encoder.", bert()),
        **seeded.placed("global_image_projection.", nn.Linear(2048, WIDTH)),
        **seeded.placed("local_image_projection.", nn.Linear(2048, WIDTH)),
        **seeded.placed("global_text_projection.", nn.Linear(BERT_WIDTH, WIDTH)),
        **seeded.placed("local_text_projection.", nn.Linear(BERT_WIDTH, WIDTH)),
        **seeded.placed("predictor.0.", nn.Linear(WIDTH, WIDTH // 2)),
        "sentence_bank.embed.weight": torch.empty(512, WIDTH),
        "prototype_queries": torch.empty(1, 16, WIDTH),
        "logit_scale": torch.empty(()),
        "local_logit_scale": torch.empty(()),
    }
    for part in ("q", "k", "v", "c"):
        layout |= seeded.placed(f"global_text_attention.{part}_proj.", nn.Linear(WIDTH, WIDTH))
    for part in ("query1", "key1", "value1", "query2", "key2", "value2"):
        layout |= seeded.placed(f"local_cross_attention.{part}.", nn.Linear(WIDTH, WIDTH))
    filled = seeded.fill(layout)
    filled["sentence_bank.embed.weight"] *= 4
    filled["logit_scale"] += 4.5
    return filled


def bert() -> Any:
    return seeded.bert(BERT_WIDTH, LAYERS, positions=256)


def write(folder: Path) -> Path:
    seeded.write_vocabulary(folder / "Bio_ClinicalBERT")
    torch.save(state(), folder / "prior.pt")
    return folder / "prior.pt"


def ours(model: Any) -> dict[str, Tensor]:
    images = model.preprocess.batch(seeded.radiographs()[:2])
    prompts = [f"{name} is observed" for name in FINDINGS]
    return {
        "input": images,
        "sentences": torch.cat([model.sentences(prompt) for prompt in prompts]),
        "images": model.embed_images(images),
        "texts": model.embed_texts(prompts),
        "probabilities": model.class_probabilities(images, FINDINGS),
    }


def original(checkout: Path) -> dict[str, Tensor]:
    """The authors' zero-shot model, image by image as its batch of 1.

    Patched: Lightning and pl_bolts (a plain module), both decoders of its loss (left out), Bio
    ClinicalBERT and ImageNet's weights (not downloaded), and Gumbel's noise, which is 0.
    """
    roots, given = [checkout / "codes"], {"pytorch_lightning": {"LightningModule": Module}}
    stand_ins = (
        "pl_bolts", "pl_bolts.models", "pl_bolts.models.self_supervised",
        "pl_bolts.models.self_supervised.simclr",
        "pl_bolts.models.self_supervised.simclr.simclr_module", "pl_bolts.optimizers",
        "pl_bolts.optimizers.lr_scheduler", "pl_bolts.optimizers.lars", "prior.decoders",
        "prior.decoders.sentence", "prior.decoders.image", "requests", "curses",
    )  # fmt: skip
    with (
        TemporaryDirectory() as name,
        imported(roots, stand_ins, given) as load,
        mock.patch.object(transformers.AutoModel, "from_pretrained", return_value=bert()),
        mock.patch.object(nn.functional, "gumbel_softmax", without_noise),
    ):
        torch.save(state(), Path(name) / "prior.pt")
        image = load("prior.encoders.image.resnet").ResNet(1, "resnet50", "attention", False)
        text = load("prior.encoders.language.bert").ClinicalBERT()
        kind = load("prior.downstream.zero_classification_model").ZeroShotClassificationModel
        prompts = SimpleNamespace(prompt_tensor=[[coded(f"{f} is observed")] for f in FINDINGS])
        model = kind(
            text, image, [0], embed_dim=WIDTH, test_dataset=prompts,
            pre_trained_path=Path(name) / "prior.pt",
        ).eval()  # fmt: skip
        model.on_test_start()
        images = torch.stack([prepare(picture) for picture in seeded.radiographs()[:2]])
        vectors = torch.cat([each[0] for each in model.global_prompt_tensor])
        return {
            "input": images,
            "sentences": torch.cat([each[0].flatten(1) for each in model.local_prompt_tensor]),
            "images": nn.functional.normalize(model.encode_image(images)[1], dim=-1),
            "texts": nn.functional.normalize(vectors, dim=-1),
            "probabilities": torch.cat([decide(model, each[None]) for each in images]),
        }


def decide(model: Any, image: Tensor) -> Tensor:
    """As `shared_step`, which keeps the largest class alone."""
    cells, vector = model.encode_image(image)
    scores = [model.global_loss(vector, each[0], model.logit_scale) for each in
              model.global_prompt_tensor]  # fmt: skip
    local = [model.local_loss(cells, each[0])[None, None] for each in model.local_prompt_tensor]
    return torch.cat(scores, 1).softmax(1) + torch.cat(local, 1).softmax(1) * 0.5


def without_noise(logits: Tensor, tau: float, dim: int, hard: bool) -> Tensor:
    return (logits / tau).softmax(dim)


def coded(prompt: str) -> Any:
    vocabulary = {word: i for i, word in enumerate(seeded.WORDS)}
    tokenizer: Any = transformers.BertTokenizerFast(vocab=vocabulary)
    options = {"padding": "max_length", "truncation": False, "return_token_type_ids": False}
    return tokenizer(prompt, max_length=256, return_tensors="pt", **options)


def prepare(picture: Any) -> Tensor:
    """As CheXPertZeroClsDataset after reading, with the transform of its configuration."""
    steps = [transforms.Resize([224, 224]), transforms.ToTensor()]
    steps.append(transforms.Normalize([0.5062731200407803], [0.28946775394688107]))
    values: Tensor = transforms.Compose(steps)(Image.fromarray(picture).convert("L"))
    return values


def thinned(results: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**results, "input": results["input"][:, :, ::31, ::31]}
