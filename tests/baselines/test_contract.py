"""Every registered model meets the contract of `g2dbench.model`. Nothing is downloaded."""

import inspect
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.models import matrix
from support.models.factories import FACTORIES
from support.models.small_baselines import inputs, load

from g2dbench.cards import ModelCard, TaskCard
from g2dbench.conformance.checks import ALWAYS, names, run_check
from g2dbench.conformance.subject import Subject
from g2dbench.errors import BadCheckpoint, G2DBenchError, Misuse
from g2dbench.model import Model, capabilities
from g2dbench.pretrained.weights import digest
from g2dbench.registry import Registry

pytestmark = pytest.mark.integration

torch.set_num_threads(1)


CARDS = Registry().cards(ModelCard)
SIDE = 160
"""Side of the input of models that take any, for the checks of outputs; golden numbers are of
their own side."""


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


def test_every_registered_model_has_a_small_source() -> None:
    """A new model is then checked here like all others."""
    absent = {card.name for card in CARDS} - {card for card, _ in FACTORIES.values()}
    assert not absent, (
        f"{sorted(absent)}: write a small source of each model in tests/support/models, and add "
        "one line for it to FACTORIES in tests/support/models/factories.py"
    )


@pytest.mark.parametrize("card", [c for c in CARDS if c.needs_weights], ids=lambda c: c.name)
def test_a_missing_source_is_a_clear_error(card: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=card.name):
        load(card.name)
    for wrong in (tmp_path / "absent.pt", tmp_path):
        with pytest.raises(G2DBenchError) as caught:
            load(card.name, wrong)
        assert str(tmp_path) in str(caught.value)


@torch.no_grad()
def test_a_loaded_model_is_what_its_card_says(case: str, model: Model) -> None:
    card = FACTORIES[case][0]
    assert capabilities(model) == model.card.capabilities
    assert model.card.name == card
    assert not model.training
    assert model.identity.digest == digest(model)
    assert model.identity.label.startswith(card)
    assert "/" not in model.identity.label
    size = model.preprocess.size
    assert inputs(model).shape == (3, model.preprocess.channels, size, size)


@pytest.mark.parametrize("check", names())
def test_a_loaded_model_passes_every_check(
    check: str, case: str, model: Model, sources: Callable[[str], object]
) -> None:
    """The checks of `g2dbench check-model`."""
    card, source = FACTORIES[case][0], sources(case)
    module = Registry().find(ModelCard, card).load()
    again: list[Model] = []

    def load_again(seed: int) -> Model:
        again.append(load(card, source, seed))
        return again[-1]

    subject = Subject(model, load_again, module, source=None if source is None else str(source))
    with matrix.small_inputs(model, model.preprocess.size if check in ALWAYS else SIDE):
        result = run_check(check, subject)
    if result.skipped:
        pytest.skip(result.skipped)
    assert result.faults == ()
    assert len(again) == (check == "loading")
    assert all(other.identity == model.identity for other in again)


def test_a_loaded_model_runs_a_task(case: str, model: Model, tmp_path: Path) -> None:
    """One cheap task; tests/baselines/test_matrix.py runs all of them, by night."""
    name = "zeroshot" if {"embeds", "matches"} & set(model.card.capabilities) else "cls"
    task = Registry().find(TaskCard, name).card
    matrix.check(matrix.run(model, task, tmp_path), "")


@pytest.mark.parametrize("card", ["open_clip", "hf_clip"])
def test_a_hub_id_without_a_network_says_how_to_download(card: str) -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    for name in ("nobody/nothing", "hf-hub:nobody/nothing"):
        with pytest.raises(BadCheckpoint, match="hf download nobody/nothing --local-dir FOLDER"):
            load(card, name)
    with pytest.raises(Misuse, match="neither a folder nor a hub id"):
        load(card, "not a hub id")
