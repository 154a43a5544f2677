"""Med-UniC: SUSTechBruce/Med-UniC at ebf2751; zero-shot/utils_builder_med_unic.py, zero_shot.py."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
import torchvision
import transformers
from PIL import Image
from torch import Tensor, nn

from support.originals import chexzero, mflag, seeded
from support.originals.imports import imported

CARD, CHECKOUT, COMMIT = "med-unic", "SUSTechBruce/Med-UniC", "ebf2751"
HAS_PUBLIC_VOCABULARY = False
WIDTH, LAYERS = 768, 1


def layout(trunk: nn.Module, width: int) -> dict[str, Tensor]:
    return {
        **seeded.placed("encoder.", trunk),
        **mflag.head("proj_v", width, 512),
        **mflag.head("proj_t", WIDTH, 512),
        **mflag.head("proj_t_constrast", WIDTH, 1024),
        **seeded.placed("Language_discriminator.layer.0.", nn.Linear(512, 256)),
        **seeded.placed("Language_discriminator.layer.2.", nn.Linear(256, 128)),
        **seeded.placed("Language_discriminator.layer.4.", nn.Linear(128, 1)),
        **seeded.placed("lm_model.", seeded.bert(WIDTH, LAYERS)),
    }


def state() -> dict[str, Tensor]:
    """The layout of cross-lingual_multi-modal_total.pth with a ResNet-50."""
    trunk = torchvision.models.resnet50(weights=None)
    trunk.fc = nn.Identity()
    return seeded.fill(layout(trunk, 2048))


def write_state(folder: Path, weights: dict[str, Tensor]) -> Path:
    seeded.write_vocabulary(folder / "lm_model")
    torch.save(weights, folder / "cross-lingual_multi-modal_total.pth")
    return folder / "cross-lingual_multi-modal_total.pth"


def write(folder: Path) -> Path:
    return write_state(folder, state())


def ours(model: Any) -> dict[str, Tensor]:
    images = model.preprocess.batch(seeded.radiographs()[:2])
    return {
        "input": images,
        "pooled": model.pooled(images),
        "images": model.embed_images(images),
        "texts": model.embed_texts(seeded.TEXTS),
    }


def original(checkout: Path) -> dict[str, Tensor]:
    """The authors' model class with a ResNet-50.

    Patched: `BertModel.from_pretrained` and the tokenizer of the training, the file of ImageNet's
    weights, Pillow's ANTIALIAS (LANCZOS under its old name), and `batch_encode_plus`, gone from
    transformers 5.
    """
    plain = torchvision.models.resnet50(weights=None).state_dict()
    with opened(checkout, plain) as (load, args):
        return run(load, load("utils_builder_med_unic").ResNet_CXRBert(args), state())


@contextmanager
def opened(checkout: Path, trunk: Any) -> Iterator[tuple[Any, SimpleNamespace]]:
    """What imports the authors' code, and the arguments of its models: files of these weights."""
    stand_ins = ("h5py", "matplotlib", "matplotlib.pyplot", "pandas", "eval", "tqdm")
    bert = seeded.bert(WIDTH, LAYERS)
    with (
        TemporaryDirectory() as name,
        imported([checkout / "zero-shot"], stand_ins) as load,
        mock.patch.object(transformers.BertModel, "from_pretrained", return_value=bert),
        mock.patch.object(Image, "ANTIALIAS", Image.Resampling.LANCZOS, create=True),
    ):
        folder = seeded.write_bert_repository(Path(name), bert)
        torch.save(trunk, folder / "trunk.pth")
        yield (
            load,
            SimpleNamespace(
                from_scratch=False, cache_dir=None, freeze_layers=0, do_lower_case=True,
                model=str(folder), lm_model=str(folder), vision_model=folder / "trunk.pth",
                vision_model_path=folder / "trunk.pth",
            ),
        )  # fmt: skip


def run(load: Any, model: Any, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """As zero_shot.py: images in the preparation that it copies from CheXzero."""
    model.load_state_dict(weights)
    model.eval()
    pad = load("data_preprocess").preprocess
    squares = [np.array(pad(Image.fromarray(i).convert("RGB"))) for i in seeded.radiographs()[:2]]
    images = torch.stack([chexzero.prepare(torchvision.transforms, each) for each in squares])
    pooled = model.encoder(images)
    pooled = pooled[:, 0] if pooled.ndim == 3 else pooled
    coded = model.tokenizer(
        list(seeded.TEXTS), padding="longest", truncation=True, max_length=256, return_tensors="pt"
    )
    states = model.lm_model(coded.input_ids, coded.attention_mask).last_hidden_state
    return {
        "input": images,
        "pooled": pooled,
        "images": nn.functional.normalize(model.proj_v(pooled), dim=-1),
        "texts": nn.functional.normalize(model.proj_t(states[:, 0]), dim=-1),
    }


def thinned(results: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        "input": results["input"][:, 0, ::31, ::31],
        "pooled": results["pooled"][:, ::8],
        "images": results["images"][:, ::8],
        "texts": results["texts"][:, ::8],
    }
