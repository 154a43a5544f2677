"""ConVIRT of yangzhou12/BenchX at b874fa6; unifier/models/vilmedic/ConVIRT.py."""

from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torchvision
import transformers
from torch import Tensor, nn

from support.originals import convirt, seeded
from support.originals.imports import imported

CARD, CHECKOUT, COMMIT = "convirt", "yangzhou12/BenchX", "b874fa6"
WIDTH, LAYERS, EMBED = 128, 2, 96
ours, thinned = convirt.ours, convirt.thinned


def state() -> dict[str, Tensor]:
    """The layout of ConVIRT.pth, under `model` of a training checkpoint."""
    trunk = torchvision.models.resnet50(weights=None)
    trunk.fc = nn.Identity()
    return seeded.fill(
        {
            **seeded.placed("linguistic.encoder.", seeded.bert(WIDTH, LAYERS)),
            **seeded.placed("visual.model.", trunk),
            **seeded.placed("vis_proj.0.", nn.Linear(2048, EMBED)),
            **seeded.placed("vis_proj.2.", nn.Linear(EMBED, EMBED)),
            **seeded.placed("lin_proj.0.", nn.Linear(WIDTH, EMBED)),
            **seeded.placed("lin_proj.2.", nn.Linear(EMBED, EMBED)),
        }
    )


def write(folder: Path) -> Path:
    seeded.write_vocabulary(folder / "Bio_ClinicalBERT")
    torch.save({"model": state(), "scheduler": {}, "epoch": 3}, folder / "ConVIRT.pth")
    return folder / "ConVIRT.pth"


class _Settings(dict[str, Any]):
    """Settings with attributes, as OmegaConf gives them."""

    __getattr__ = dict.__getitem__


def original(checkout: Path) -> dict[str, Tensor]:
    """The class of the re-training with its own encoders, as its zero-shot evaluation calls it.

    Patched: packages around these three files (empty), einops, and `.cuda()`.
    """
    empty = (
        "einops", "tqdm", "unifier.blocks.losses", "unifier.models.utils", "unifier.models",
        "unifier.blocks.custom.mgca.bert_modelling",
    )  # fmt: skip
    stubs = {
        "unifier.blocks.vision.openai.clip_model": {"build_model": None},
        "unifier.blocks.vision.huggingface.encoder_model": {"HFAutoModel": None},
    }
    with (
        TemporaryDirectory() as name,
        imported([checkout], empty, stubs) as load,
        mock.patch.object(torch.Tensor, "cuda", lambda self: self),
    ):
        folder = seeded.write_bert_repository(Path(name), seeded.bert(WIDTH, LAYERS))
        module = load_file(load, checkout / "unifier/models/vilmedic/ConVIRT.py")
        model = module.ConVIRT(
            encoder=_Settings(proto=str(folder)),
            cnn={
                "proto": "VisualEncoder",
                "backbone": "resnet50",
                "output_layer": "avgpool",
                "permute": "batch_first",
            },
            projection=SimpleNamespace(
                visual_embedding_dim=2048, textual_embedding_dim=WIDTH, projection_dim=EMBED
            ),
            loss={"proto": "InfoNCELoss"},
        ).eval()  # fmt: skip
        model.load_state_dict(state())
        tokenizer = transformers.BertTokenizer.from_pretrained(folder)
        texts = tokenizer(list(seeded.TEXTS), return_tensors="pt", padding=True)
        images = torch.stack([convirt.prepare(image) for image in seeded.radiographs()[:2]])
        found = model.forward_embeddings(images, texts)
        pooled = model.visual(images)
    return {
        "input": images,
        "pooled": pooled.flatten(1),
        "images": nn.functional.normalize(found["img_emb_g"], dim=-1),
        "texts": nn.functional.normalize(found["text_emb_g"], dim=-1),
    }


def load_file(load: Any, file: Path) -> Any:
    """A module from its file, without running the packages around it."""
    load("unifier.blocks.vision.visual_encoder")
    util = load("importlib.util")
    spec = util.spec_from_file_location("benchx_convirt", file)
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
