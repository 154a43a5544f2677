"""Every registered model meets the contract of `g2dbench.model`. Nothing is downloaded."""

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small_baselines import FACTORIES, TEXTS, inputs, load, pictures

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, G2DBenchError, Misuse
from g2dbench.model import Embeds, Features, Locates, Model, capabilities
from g2dbench.pretrained.weights import digest
from g2dbench.registry import Registry

pytestmark = pytest.mark.integration

torch.set_num_threads(1)


CARDS = Registry().cards(ModelCard)


@pytest.fixture(params=FACTORIES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def loaded() -> dict[str, Model]:
    return {}


@pytest.fixture
def model(case: str, sources: Callable[[str], object], loaded: dict[str, Model]) -> Model:
    if case not in loaded:
        loaded[case] = load(FACTORIES[case][0], sources(case))
    return loaded[case]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_models_file_exports_a_load_of_the_contract(card: ModelCard) -> None:
    module = Registry().find(ModelCard, card.name).load()
    assert card == module.CARD
    assert list(inspect.signature(module.load).parameters) == ["source", "seed"]
    for text in (card.summary, card.paper, card.source, card.licence):
        assert text.strip()
    assert card.capabilities
    assert card.source_kind in ("file", "folder", "hub", "")


@pytest.mark.parametrize("card", [c for c in CARDS if c.needs_weights], ids=lambda c: c.name)
def test_a_missing_source_is_a_clear_error(card: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=card.name):
        load(card.name)
    for wrong in (tmp_path / "absent.pt", tmp_path):
        with pytest.raises(G2DBenchError) as caught:
            load(card.name, wrong)
        assert str(tmp_path) in str(caught.value)


@torch.no_grad()
def test_a_loaded_model_is_what_its_card_says(case: str, model: Model, sources: Any) -> None:
    card = FACTORIES[case][0]
    assert capabilities(model) == model.card.capabilities
    assert model.card.name == card
    assert not model.training
    assert model.identity.digest == digest(model)
    assert model.identity.label.startswith(card)
    assert "/" not in model.identity.label
    again = load(card, sources(case))
    assert again.identity == model.identity
    size = model.preprocess.size
    assert inputs(model).shape == (3, 3, size, size)


@torch.no_grad()
def test_embeddings_have_length_one_and_ignore_the_batch(model: Model) -> None:
    if not isinstance(model, Embeds):
        pytest.skip("embeds nothing, and says so on its card")
    images, before = inputs(model), torch.random.get_rng_state()
    together, texts = model.embed_images(images), model.embed_texts(TEXTS)
    assert together.shape == (3, texts.shape[1])
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(3))
    alone = torch.cat([model.embed_images(image[None]) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    reverse = torch.cat([model.embed_texts([text]) for text in reversed(TEXTS)]).flip(0)
    torch.testing.assert_close(texts, reverse, atol=1e-5, rtol=0)
    assert model.embed_texts(["word " * 400]).isfinite().all()
    assert torch.equal(torch.random.get_rng_state(), before)


@torch.no_grad()
def test_features_have_the_announced_shapes_and_ignore_the_batch(model: Model) -> None:
    assert isinstance(model, Features)
    assert list(model.strides) == sorted(set(model.strides))
    assert all(stride & (stride - 1) == 0 for stride in model.strides)
    size = model.preprocess.size
    sides = [size] if model.fixed_size else [size, 2 * model.strides[-1]]
    for side in sides:
        images = model.preprocess.stretched(side).batch(pictures())
        pyramid = model.features(images)
        expected = [
            (3, c, -(-side // s), -(-side // s))
            for c, s in zip(model.channels, model.strides, strict=True)
        ]
        assert [tuple(part.shape) for part in pyramid] == expected
        first = model.features(images[:1])
        for part, alone in zip(pyramid, first, strict=True):
            torch.testing.assert_close(part[:1], alone, atol=1e-4, rtol=1e-4)
    pooled = model.pooled(inputs(model))
    assert pooled.ndim == 2
    assert pooled.isfinite().all()
    assert not torch.allclose(pooled[1], pooled[2])


@torch.no_grad()
def test_maps_are_cosines_per_text_and_ignore_the_batch(model: Model) -> None:
    if not isinstance(model, Locates):
        pytest.skip("locates nothing, and says so on its card")
    images = inputs(model)
    maps = model.locate(images, TEXTS)
    assert maps.shape[:2] == (3, len(TEXTS))
    assert maps.shape[2] == maps.shape[3] > 1
    assert maps.abs().max() <= 1 + 1e-5
    alone = model.locate(images[2:], TEXTS[1:2])
    torch.testing.assert_close(maps[2:, 1:2], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("card", ["open_clip", "hf_clip"])
def test_a_hub_id_without_a_network_says_how_to_download(card: str) -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    for name in ("nobody/nothing", "hf-hub:nobody/nothing"):
        with pytest.raises(BadCheckpoint, match="hf download nobody/nothing --local-dir FOLDER"):
            load(card, name)
    with pytest.raises(Misuse, match="neither a folder nor a hub id"):
        load(card, "not a hub id")
