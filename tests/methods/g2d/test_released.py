"""The authors' files load safely, with the right capabilities; exports load bit for bit."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.methods.released_files import (
    CODE,
    LAYOUTS,
    as_model,
    build,
    file_of,
    load,
)
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from g2dbench.errors import BadCheckpoint
from g2dbench.evaluation.model_reference import resolve
from g2dbench.methods.g2d.released import to_released
from g2dbench.model import Identity, capabilities
from g2dbench.pretrained.text.tokenizer import save_tokenizer, train_wordpiece
from g2dbench.pretrained.weights import digest, find_state, read_weights
from g2dbench.registry import Registry

pytestmark = pytest.mark.integration

TEXTS = ["the heart is large", "no effusion"]


@pytest.fixture(scope="module")
def theirs(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the released trainer: ResNet-50, 256 px, with the tokenizer beside them."""
    folder = tmp_path_factory.mktemp("theirs")
    image = {"encoder": "resnet50", "size": 256}
    attention = {**CODE, "output": "double"}
    method = build(tokenizer, width=128, image=image, attention=attention)
    unet = method.unet.state_dict()
    torch.save(method.unet.encoder.state_dict(), folder / "n_encoder.pth")
    torch.save(unet, folder / "n_encoder_decoder.pth")
    torch.save(
        {
            "epoch": 6,
            "model_state_dict": to_released(method),
            "optimizer_state_dict": {"state": {}},
        },
        folder / "n_6_checkpoint.pth",
    )
    save_tokenizer(tokenizer, folder)
    return folder


@torch.no_grad()
def outputs_of(model: Any, images: Tensor) -> dict[str, Tensor]:
    """All outputs of a model for images and TEXTS."""
    maps = model.features(images)
    found = {f"map {at}": one for at, one in enumerate(maps)} | {"pooled": model.pooled(images)}
    if "decodes" in capabilities(model):
        found["decoded"] = model.pretrained_decoder().eval()(maps)
    if "embeds" in capabilities(model):
        found |= {"image": model.embed_images(images), "text": model.embed_texts(TEXTS)}
        found["located"] = model.locate(images, TEXTS)
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_exported_file_loads_bit_for_bit(layout: str, method: Any, exported: Path) -> None:
    model = load(file_of(exported, layout))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    found, wanted = outputs_of(model, images), outputs_of(as_model(method), images)
    assert model.preprocess == method.preprocess
    assert model.card.trained_on == ()
    assert {"encoder": 6, "encoder_decoder": 7, "checkpoint": 10}[layout] == len(found)
    for name, values in found.items():
        assert torch.equal(values, wanted[name]), name


CAN = {
    "encoder": ("features",),
    "encoder_decoder": ("features", "decodes"),
    "checkpoint": ("embeds", "features", "locates", "decodes"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_released_file_has_the_capabilities_of_its_layout(layout: str, theirs: Path) -> None:
    file = file_of(theirs, layout)
    model = load(file)
    assert capabilities(model) == model.card.capabilities == CAN[layout]
    assert model.card.name == "g2d"
    assert model.card.trained_on == ("mimic_cxr",)
    assert model.identity == Identity(f"g2d:{file.name}", digest(model))
    assert (model.preprocess.size, model.preprocess.intensity) == (256, "minmax")
    assert model.strides == (2, 4, 8, 16, 32)
    assert not model.training
    assert not model.fixed_size


@pytest.mark.parametrize("layout", LAYOUTS)
def test_prefixes_of_training_scripts_do_not_matter(
    layout: str, theirs: Path, tmp_path: Path
) -> None:
    for file in theirs.iterdir():
        (tmp_path / file.name).symlink_to(file)
    file = file_of(tmp_path, layout)
    state = find_state(read_weights(file), file)
    wrapped = {f"_orig_mod.module.{key}": value for key, value in state.items()}
    other = save({"state_dict": wrapped, "epoch": 1}, tmp_path / f"wrapped_{layout}.pth")
    assert load(other).identity.digest == load(file).identity.digest


def test_a_checkpoint_is_recognized_by_its_content(theirs: Path) -> None:
    reference = resolve(str(file_of(theirs, "checkpoint")), Registry())
    assert reference.name == "g2d"


class Runs:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_code_in_a_file_is_executed(layout: str, exported: Path, tmp_path: Path) -> None:
    for file in ("model.json", "text_model"):
        (tmp_path / file).symlink_to(exported / file)
    honest = file_of(exported, layout)
    content = torch.load(honest, weights_only=True)
    evil = tmp_path / honest.name
    torch.save({**content, "evil": Runs(tmp_path / "ran")}, evil)
    assert load(evil).identity == load(honest).identity
    assert not (tmp_path / "ran").exists()
    torch.load(evil, weights_only=False)
    assert (tmp_path / "ran").exists(), "the file was harmless: this test proves nothing"


def save(state: object, file: Path) -> Path:
    torch.save(state, file)
    return file


def test_a_checkpoint_needs_its_own_tokenizer(theirs: Path, tmp_path: Path) -> None:
    alone = tmp_path / "n_6_checkpoint.pth"
    alone.symlink_to(file_of(theirs, "checkpoint"))
    with pytest.raises(BadCheckpoint, match=r"vocab\.txt of emilyalsentzer.*encoder_decoder"):
        load(alone)
    save_tokenizer(train_wordpiece(["quite another corpus of words"], 40), tmp_path)
    with pytest.raises(BadCheckpoint, match="belong to different models"):
        load(alone)


def test_the_layouts_of_a_training_without_decoder(theirs: Path, tmp_path: Path) -> None:
    """PRETRAIN/models/pre_model.py wraps torchvision's ResNet as `backbone`."""
    state = torch.load(file_of(theirs, "encoder"), weights_only=True)
    file = save({f"backbone.{k}": v for k, v in state.items()}, tmp_path / "n_encoder.pth")
    assert digest(load(file)) == digest(load(file_of(theirs, "encoder")))
    whole = {"encoder.backbone.conv1.weight": state["conv1.weight"]}
    whole["img_local_atten_layer.in_proj_weight"] = torch.ones(3, 1)
    with pytest.raises(BadCheckpoint, match="trained without a decoder"):
        load(save({"model_state_dict": whole}, tmp_path / "n_0_checkpoint.pth"))


BROKEN: list[tuple[dict[str, Tensor], str]] = [
    ({"conv1.weight": torch.ones(2)}, "does not fit"),
    ({"segmentation_head.0.weight": torch.ones(1, 16, 3, 3)}, "does not fit"),
    ({"segmentation_head.0.weight": torch.ones(7, 16, 3, 3)}, "does not fit"),
    ({"attnpool.positional_embedding": torch.ones(5, 128)}, "missing or malformed"),
    ({"lm_model.embeddings.word_embeddings.weight": torch.tensor(1.0),
      "attnpool.positional_embedding": torch.ones(5, 128)}, "missing or malformed"),
]  # fmt: skip


@pytest.mark.parametrize(("state", "words"), BROKEN)
def test_a_file_that_is_not_a_g2d_is_refused(
    state: dict[str, Tensor], words: str, tmp_path: Path
) -> None:
    with pytest.raises(BadCheckpoint, match=words):
        load(save(state, tmp_path / "file.pth"))


@pytest.mark.parametrize("name", ["attnpool.mhsa.in_proj_weight", "proj_v.0.weight"])
def test_a_checkpoint_with_a_tensor_of_the_wrong_shape_is_refused(
    name: str, exported: Path, tmp_path: Path
) -> None:
    for file in ("model.json", "text_model"):
        (tmp_path / file).symlink_to(exported / file)
    content = torch.load(file_of(exported, "checkpoint"), weights_only=True)
    content["model_state_dict"][name] = torch.tensor(1.0)
    with pytest.raises(BadCheckpoint, match=r"does not fit|missing or malformed"):
        load(save(content, tmp_path / "x_6_checkpoint.pth"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "not readable JSON"),
        ('{"widht": 3}', "did you mean 'width'"),
        ('{"image": {"encoder": "resnet81"}}', "no image encoder 'resnet81'"),
        ('{"text": {"source": "someone/else"}, "image": {"weights": "w.pth"}}', "does not fit"),
    ],
)
def test_settings_beside_a_file_are_not_trusted(
    text: str, words: str, exported: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.json").write_text(text)
    file = tmp_path / "x_encoder.pth"
    file.symlink_to(file_of(exported, "encoder"))
    with pytest.raises(BadCheckpoint, match=words):
        load(file)
