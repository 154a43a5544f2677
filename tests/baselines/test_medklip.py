"""MedKLIP's wrapper says what the original says, knows its book, and needs all its files."""

import json
import os
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.model import capabilities
from g2dbench.pretrained.weights import find_state, matching_cards, read_weights
from g2dbench.registry import Registry

pytestmark = pytest.mark.integration

GOLDEN = Path(__file__).parents[1] / "golden"
make = SimpleNamespace(**runpy.run_path(str(GOLDEN / "make_medklip.py")))
CLOSE = 1e-5
"""Largest difference to the original, on numbers of size about 1."""
BOOK_FILE = "observation explanation.json"


@pytest.fixture(scope="module")
def medklip() -> ModuleType:
    return Registry().find(ModelCard, "medklip").load()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, medklip: ModuleType) -> Path:
    """A filled source folder with drawn weights; no original needed."""
    folder = tmp_path_factory.mktemp("medklip")
    make.write_text_files(folder)
    make.write_bert(folder, make.SEED)
    state = make.drawn.state(medklip._Network(768), make.SEED)
    head = {"cl_fc.weight": torch.zeros(768, 256), "cl_fc.bias": torch.zeros(768)}
    named = {f"module.{key}": value for key, value in (state | head).items()}
    torch.save({"model": named, "epoch": 1, "config": {}}, folder / "checkpoint_state.pth")
    return folder


@pytest.fixture(scope="module")
def model(medklip: ModuleType, folder: Path) -> Iterator[Any]:
    with torch.no_grad():
        yield medklip.load(str(folder), seed=0)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return make.drawn.radiograph(make.HEIGHT, make.WIDTH, make.SEED)


@pytest.fixture(scope="module")
def images(model: Any, image: np.ndarray) -> torch.Tensor:
    """The drawn radiograph and its negative."""
    return model.preprocess.batch([image, 255 - image])


def answers(model: Any, image: np.ndarray) -> dict[str, torch.Tensor]:
    """The wrapper's side of `make_medklip.answers`."""
    inputs = model.preprocess(image)[None]
    maps = model.locate(inputs, make.ASKED)[0]
    view = model.preprocess.geometry(224, 224)
    heat = [view.map_to_image(m.numpy(), model.grounding.resampling) for m in maps]
    return {
        "input": inputs[0],
        "patches": model.network.patches(inputs)[0],
        "book": model.book,
        "probabilities": model.match(inputs, list(make.BOOK))[0],
        "asked": model.match(inputs, make.ASKED)[0],
        "maps": maps,
        "heat": torch.from_numpy(np.stack(heat)),
        "new": model.match(inputs, make.NEW)[0],
        "new_maps": model.locate(inputs, make.NEW)[0],
    }


def naming(name: str) -> Callable[[str], str]:
    return lambda message: f"{name}: {message}"


def test_the_golden_numbers_of_the_original_come_out(model: Any, image: np.ndarray) -> None:
    golden = json.loads(make.GOLDEN.read_text(encoding="utf-8"))
    found = make.thinned(answers(model, image))
    assert found.keys() == golden.keys()
    for name, values in found.items():
        wanted = torch.tensor(golden[name])
        assert wanted.std() > 100 * CLOSE, f"{name} would be matched by a constant"
        torch.testing.assert_close(values, wanted, atol=CLOSE, rtol=CLOSE, msg=naming(name))


def test_the_original_beside_it_agrees(medklip: ModuleType, tmp_path: Path) -> None:
    source = os.environ.get(make.VARIABLE)
    if not source:
        pytest.skip(f"set {make.VARIABLE} to a checkout of MediaBrain-SJTU/MedKLIP")
    image = make.drawn.radiograph(600, 500, seed=7)
    make.write_text_files(tmp_path)
    make.write_bert(tmp_path, seed=7)
    theirs = make.answers(source, tmp_path, image, seed=7)
    with torch.no_grad():
        ours = answers(medklip.load(str(tmp_path), seed=0), image)
    for name, values in theirs.items():
        print(f"medklip {name}: max abs difference {(ours[name] - values).abs().max():.2e}")
        torch.testing.assert_close(ours[name], values, atol=CLOSE, rtol=CLOSE, msg=naming(name))


def test_it_can_what_its_card_says(medklip: ModuleType, model: Any) -> None:
    assert capabilities(model) == medklip.CARD.capabilities
    assert model.identity.label == medklip.CARD.name
    assert len(model.identity.digest) == 64
    assert not model.training


@pytest.mark.parametrize("side", [64, 160])
def test_features_have_the_announced_shapes_at_any_side(model: Any, side: int) -> None:
    images = torch.rand(1, 3, side, side)
    maps = model.features(images)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (channels, side // stride, side // stride)
        for channels, stride in zip(model.channels, model.strides, strict=True)
    ]
    torch.testing.assert_close(model.pooled(images), maps[-1].mean(dim=(2, 3)))
    assert model.locate(images, ["effusion"]).shape == (1, 1, side // 16, side // 16)


def test_probabilities_and_attention_are_what_they_claim(model: Any, images: torch.Tensor) -> None:
    texts = (*make.ASKED, *make.NEW)
    probabilities, maps = model.match(images, texts), model.locate(images, texts)
    assert probabilities.shape == (2, len(texts))
    assert ((probabilities > 0) & (probabilities < 1)).all()
    assert (maps >= 0).all()
    torch.testing.assert_close(maps.sum(dim=(2, 3)), torch.ones(2, len(texts)))


def test_no_answer_depends_on_the_batch_or_on_what_else_is_asked(
    model: Any, images: torch.Tensor
) -> None:
    texts = (*make.NEW, *make.ASKED)
    for method in (model.match, model.locate):
        together = method(images, texts)
        alone = torch.cat([method(images[1:], [text]) for text in texts], dim=1)
        torch.testing.assert_close(together[1:], alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        model.pooled(images)[1:], model.pooled(images[1:]), atol=1e-4, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("finding", "place"),
    [
        ("Pneumonia", 20),
        ("eumonia", 20),
        ("Fibrosis", 73),
        ("Infiltration", 56),
        ("Pleural_Thickening", 43),
        ("pleural thickening", 43),
        ("Pleural Effusion", 8),
        ("Effusion", 8),
        ("tail_abnorm_obs", 73),
        ("entry 74", 74),
        ("COVID-19", None),
        ("Findings suggesting pneumonia", None),
        ("", None),
    ],
)
def test_names_find_their_entry_and_others_are_new(
    model: Any, finding: str, place: int | None
) -> None:
    assert model.entry(finding) == place


def test_a_book_that_spells_pneumonia_right_is_read_right(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrected = {name.replace("eumonia", "pneumonia"): i for name, i in model.entries.items()}
    assert corrected.keys() != model.entries.keys()
    monkeypatch.setattr(model, "entries", corrected)
    assert model.entry("Pneumonia") == 20


def test_the_book_is_part_of_the_identity(
    model: Any, folder: Path, medklip: ModuleType, tmp_path: Path
) -> None:
    assert torch.equal(model.state_dict()["book"], model.book)
    other = copy(folder, tmp_path, BOOK_FILE)
    (other / BOOK_FILE).write_text(json.dumps({**make.BOOK, "effusion": "no fluid"}))
    changed = medklip.load(str(other), seed=0)
    assert (changed.book != model.book).any(dim=1).nonzero().tolist() == [[8]]
    assert changed.identity.digest != model.identity.digest


def test_the_checkpoint_in_its_folder_is_as_good_as_the_folder_and_the_seed_is_unused(
    medklip: ModuleType, folder: Path, model: Any
) -> None:
    assert medklip.load(str(folder / "checkpoint_state.pth"), seed=3).identity == model.identity


def test_its_bare_checkpoint_is_recognised(folder: Path) -> None:
    file = folder / "checkpoint_state.pth"
    keys = find_state(read_weights(file), file)
    assert matching_cards(keys, Registry().cards(ModelCard)) == ["medklip"]


def copy(folder: Path, to: Path, without: str) -> Path:
    """The source folder as links, less one file."""
    (to / "Bio_ClinicalBERT").mkdir()
    for file in folder.rglob("*.*"):
        if file.name != without:
            (to / file.relative_to(folder)).symlink_to(file)
    return to


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        (BOOK_FILE, r"does not contain observation explanation\.json: "),
        ("pytorch_model.bin", r"does not contain model\.safetensors or pytorch_model\.bin: "),
        ("vocab.txt", r"does not contain vocab\.txt or tokenizer\.json: "),
        ("checkpoint_state.pth", r"contains no \.pth file"),
    ],
)
def test_a_folder_with_a_gap_is_refused_with_what_to_add(
    medklip: ModuleType, folder: Path, tmp_path: Path, missing: str, named: str
) -> None:
    with pytest.raises(BadCheckpoint, match=named):
        medklip.load(str(copy(folder, tmp_path, missing)), seed=0)


def test_two_checkpoints_are_a_question(medklip: ModuleType, folder: Path, tmp_path: Path) -> None:
    copy(folder, tmp_path, "")
    (tmp_path / "another.pth").symlink_to(folder / "checkpoint_state.pth")
    with pytest.raises(Misuse, match=r"another\.pth, checkpoint_state\.pth: choose one"):
        medklip.load(str(tmp_path), seed=0)


@pytest.mark.parametrize(
    "content", ["[", "[1]", '{"effusion": "fluid"}', json.dumps({str(i): 1 for i in range(75)})]
)
def test_another_book_is_refused(
    medklip: ModuleType, folder: Path, tmp_path: Path, content: str
) -> None:
    (copy(folder, tmp_path, BOOK_FILE) / BOOK_FILE).write_text(content)
    with pytest.raises(BadCheckpoint, match=r"observation explanation\.json"):
        medklip.load(str(tmp_path), seed=0)


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("vocab.txt", "\n".join([*make.drawn.VOCABULARY, "more"]), "mixes files of two models"),
        ("config.json", "[]", r"config\.json"),
        ("config.json", '{"hidden_size": 770}', r"config\.json"),
    ],
)
def test_a_text_encoder_that_does_not_fit_is_refused(
    medklip: ModuleType, folder: Path, tmp_path: Path, name: str, content: str, named: str
) -> None:
    (copy(folder, tmp_path, name) / "Bio_ClinicalBERT" / name).write_text(content)
    with pytest.raises(BadCheckpoint, match=named):
        medklip.load(str(tmp_path), seed=0)


def test_another_models_checkpoint_is_refused(
    medklip: ModuleType, folder: Path, tmp_path: Path
) -> None:
    copy(folder, tmp_path, "checkpoint_state.pth")
    state = {"module.res_features.0.weight": torch.ones(64, 3, 7, 7)}
    torch.save({"model": state}, tmp_path / "checkpoint.pth")
    with pytest.raises(BadCheckpoint, match=r"checkpoint\.pth does not fit"):
        medklip.load(str(tmp_path), seed=0)


def test_a_source_is_needed(medklip: ModuleType) -> None:
    with pytest.raises(Misuse, match="medklip:FOLDER"):
        medklip.load(None, seed=0)
