"""BioViL's wrapper says what the original says, number by number, and refuses half a repository."""

import json
import os
import runpy
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torchvision import transforms
from transformers import BertConfig

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.evaluation.zero_shot.prompt_scores import TextEmbedder, prompt_vectors
from g2dbench.model import capabilities
from g2dbench.pretrained.text.cxr_bert import CXRBert, gaussian_matrix
from g2dbench.pretrained.weights import find_state, matching_cards, read_weights
from g2dbench.registry import Registry

pytestmark = pytest.mark.integration

GOLDEN = Path(__file__).parents[1] / "golden"
make = SimpleNamespace(**runpy.run_path(str(GOLDEN / "make_biovil.py")))
CLOSE = 1e-5
"""Largest difference to the original, on numbers of size about 1."""


@pytest.fixture(scope="module")
def biovil() -> ModuleType:
    return Registry().find(ModelCard, "biovil").load()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, biovil: ModuleType) -> Path:
    """The hub repository's files with drawn weights; no original needed."""
    folder = tmp_path_factory.mktemp("biovil")
    make.write_text_folder(folder)
    towers = {make.IMAGE_FILE: official_image(biovil), "pytorch_model.bin": official_text(biovil)}
    for name, state in towers.items():
        torch.save(state, folder / name)
    return folder


def official_image(biovil: ModuleType) -> dict[str, torch.Tensor]:
    state = make.drawn.state(biovil._ImageTower(), make.SEED)
    head = {"weight": (1000, 2048), "bias": (1000,)}
    return state | {f"encoder.encoder.fc.{name}": torch.zeros(s) for name, s in head.items()}


def official_text(biovil: ModuleType) -> dict[str, torch.Tensor]:
    state = make.drawn.state(CXRBert(BertConfig(**make.CONFIG)), make.SEED)
    unused = {"cls.predictions.bias": 9, "bert.embeddings.position_ids": 512}
    return state | {name: torch.zeros(size) for name, size in unused.items()}


@pytest.fixture(scope="module")
def model(biovil: ModuleType, folder: Path) -> Iterator[Any]:
    with torch.no_grad():
        yield biovil.load(str(folder), seed=0)


@pytest.fixture(scope="module")
def answer(model: Any) -> dict[str, torch.Tensor]:
    return answers(model, make.drawn.radiograph(make.SIDE, make.SIDE, make.SEED))


def answers(model: Any, image: np.ndarray) -> dict[str, torch.Tensor]:
    """The wrapper's side of `make_biovil.answers`."""
    inputs = model.preprocess(image)[None]
    patches = torch.nn.functional.normalize(model.image.patches(inputs), dim=1)
    maps = model.locate(inputs, make.PROMPTS)
    view = model.preprocess.geometry(*image.shape)
    heat = {
        how: torch.from_numpy(np.stack([view.map_to_image(m.numpy(), how) for m in maps[0]]))
        for how in (model.grounding.resampling, "bilinear")
    }
    return {
        "input": inputs[0],
        "image": model.embed_images(inputs)[0],
        "pooled": model.pooled(inputs)[0],
        "patches": patches[0].permute(1, 2, 0),
        "texts": model.embed_texts(make.PROMPTS),
        "cosines": model.similarity(inputs, make.PROMPTS)[0],
        "maps": maps[0],
        "heat": heat["nearest"],
        "heat_bilinear": heat["bilinear"],
    }


def naming(name: str) -> Callable[[str], str]:
    return lambda message: f"{name}: {message}"


def test_the_golden_numbers_of_the_original_come_out(answer: dict[str, torch.Tensor]) -> None:
    golden = json.loads(make.GOLDEN.read_text(encoding="utf-8"))
    found = make.thinned(answer)
    assert found.keys() == golden.keys()
    for name, values in found.items():
        wanted = torch.tensor(golden[name])
        assert wanted.std() > 0.01, f"{name} would be matched by a constant"
        torch.testing.assert_close(values, wanted, atol=CLOSE, rtol=CLOSE, msg=naming(name))


def test_texts_before_normalization_are_what_published_ensembles_average(model: Any) -> None:
    raw, unit = model.project_texts(make.PROMPTS), model.embed_texts(make.PROMPTS)
    torch.testing.assert_close(torch.nn.functional.normalize(raw, dim=-1), unit)
    assert (raw.norm(dim=-1) - 1).abs().max() > 0.01
    prompts = (tuple(make.PROMPTS),)
    found = prompt_vectors(TextEmbedder(model), prompts, "raw").vectors[0]
    alone = torch.cat([model.project_texts([text]) for text in make.PROMPTS])
    expected = torch.nn.functional.normalize(alone.mean(0), dim=0)
    torch.testing.assert_close(found, expected)


def test_the_original_beside_it_agrees(biovil: ModuleType, tmp_path: Path) -> None:
    source = os.environ.get(make.VARIABLE)
    if not source:
        pytest.skip(f"set {make.VARIABLE} to hi-ml-multimodal/src of microsoft/hi-ml")
    image = make.drawn.radiograph(make.SIDE, make.SIDE, seed=7)
    Image.fromarray(image).save(tmp_path / "image.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        theirs = make.answers(make.build(source, tmp_path, seed=7), tmp_path / "image.png")
    with torch.no_grad():
        ours = answers(biovil.load(str(tmp_path), seed=0), image)
    for name, values in theirs.items():
        worst = (ours[name] - values).abs().nan_to_num(0.0).max().item()
        print(f"biovil {name}: max abs difference {worst:.2e}")
        torch.testing.assert_close(
            ours[name], values, atol=CLOSE, rtol=CLOSE, equal_nan=True, msg=naming(name)
        )


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (7, 7), (15, 15), (20, 13)])
def test_smoothing_is_scipys_gaussian_filter(biovil: ModuleType, shape: tuple[int, int]) -> None:
    field = np.random.default_rng(3).standard_normal(shape)
    ours = gaussian_matrix(shape[0]).numpy() @ field @ gaussian_matrix(shape[1]).numpy().T
    np.testing.assert_allclose(ours, ndimage.gaussian_filter(field, sigma=1.5), atol=1e-12)


@pytest.mark.parametrize("shape", [(512, 512), (700, 600), (600, 700)])
def test_the_input_is_that_of_torchvisions_pipeline(model: Any, shape: tuple[int, int]) -> None:
    image = make.drawn.radiograph(*shape, seed=1)
    stretched = image.astype(float) - image.min()
    stretched = (stretched / stretched.max() * 255).astype(np.uint8)
    pipeline = transforms.Compose(
        [transforms.Resize(512), transforms.CenterCrop(480), transforms.ToTensor()]
    )
    theirs = pipeline(Image.fromarray(stretched)).expand(3, -1, -1)
    torch.testing.assert_close(model.preprocess(image), theirs, atol=1e-6, rtol=0)


def test_it_can_what_its_card_says(biovil: ModuleType, model: Any) -> None:
    assert capabilities(model) == biovil.CARD.capabilities
    assert model.identity.label == biovil.CARD.name
    assert len(model.identity.digest) == 64
    assert model.identity.seed is None
    assert not model.training


@pytest.mark.parametrize("side", [64, 160])
def test_features_have_the_announced_shapes_at_any_side(model: Any, side: int) -> None:
    maps = model.features(torch.rand(1, 3, side, side))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (channels, side // stride, side // stride)
        for channels, stride in zip(model.channels, model.strides, strict=True)
    ]


def test_no_image_depends_on_its_batch(model: Any) -> None:
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    for method in (model.embed_images, model.pooled, lambda x: model.locate(x, make.PROMPTS)):
        torch.testing.assert_close(method(images)[1:], method(images[1:]), atol=1e-5, rtol=1e-5)


def test_embeddings_are_unit_rows_and_texts_stand_alone(model: Any) -> None:
    together = model.embed_texts([*make.PROMPTS, "Effusion of the right lung, and no pneumonia"])
    alone = model.embed_texts([make.PROMPTS[1]])
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0)


def test_closing_marks_and_case_do_not_count_but_words_do(model: Any) -> None:
    plain, marked, other = model.embed_texts(["no effusion", "NO Effusion!?.", "no pneumonia"])
    torch.testing.assert_close(plain, marked, atol=1e-5, rtol=0)
    assert (plain - other).abs().max() > 0.01


def test_a_text_beyond_512_pieces_is_cut(model: Any) -> None:
    long = "lung " * 510
    torch.testing.assert_close(
        model.embed_texts([long]), model.embed_texts([long + "effusion"]), atol=1e-5, rtol=0
    )


def test_the_image_file_inside_its_folder_is_as_good_as_the_folder(
    biovil: ModuleType, folder: Path, model: Any
) -> None:
    by_file = biovil.load(str(folder / make.IMAGE_FILE), seed=5)
    assert by_file.identity == model.identity


def test_a_bare_image_file_is_refused_with_what_to_add(biovil: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "biovil.pt"
    torch.save({}, file)
    with pytest.raises(BadCheckpoint, match=r"config\.json.*pytorch_model\.bin.*vocab\.txt"):
        biovil.load(str(file), seed=0)


def test_a_folder_without_the_image_file_is_refused(biovil: ModuleType, tmp_path: Path) -> None:
    make.write_text_folder(tmp_path)
    with pytest.raises(BadCheckpoint, match=make.IMAGE_FILE):
        biovil.load(str(tmp_path), seed=0)


def test_another_models_weights_are_refused(biovil: ModuleType, tmp_path: Path) -> None:
    make.write_text_folder(tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    torch.save(
        {"encoder.encoder.conv1.weight": torch.ones(64, 3, 7, 7)}, tmp_path / make.IMAGE_FILE
    )
    with pytest.raises(BadCheckpoint, match=r"image_resnet50.*contains 0%"):
        biovil.load(str(tmp_path), seed=0)


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("config.json", "{", r"config\.json"),
        ("config.json", '{"hidden_size": "wide"}', r"config\.json does not describe a BERT"),
        ("config.json", '{"hidden_size": 770}', r"config\.json does not describe a BERT"),
        ("vocab.txt", "\n".join([*make.drawn.VOCABULARY, "more"]), "mixes files of two models"),
        ("tokenizer.json", "{", "no readable vocabulary"),
    ],
)
def test_a_text_encoder_that_does_not_fit_is_refused(
    biovil: ModuleType, folder: Path, tmp_path: Path, name: str, content: str, named: str
) -> None:
    for file in folder.iterdir():
        if file.name != name:
            (tmp_path / file.name).symlink_to(file)
    (tmp_path / name).write_text(content)
    with pytest.raises(BadCheckpoint, match=named):
        biovil.load(str(tmp_path), seed=0)


def test_its_bare_image_file_is_recognised(folder: Path) -> None:
    file = folder / make.IMAGE_FILE
    keys = find_state(read_weights(file), file)
    assert matching_cards(keys, Registry().cards(ModelCard)) == ["biovil"]


def test_a_source_is_needed(biovil: ModuleType) -> None:
    with pytest.raises(Misuse, match="biovil:FOLDER"):
        biovil.load(None, seed=0)
