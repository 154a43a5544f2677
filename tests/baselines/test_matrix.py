"""Every registered model runs every task that its capabilities allow, or says why it cannot."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.models import matrix
from support.models.factories import FACTORIES
from support.models.small_baselines import load

from g2dbench.cards import ModelCard, TaskCard
from g2dbench.model import Model
from g2dbench.registry import Registry

pytestmark = pytest.mark.integration

torch.set_num_threads(1)

MODELS = Registry().cards(ModelCard)


@pytest.fixture(scope="module")
def last() -> dict[str, Model]:
    return {}


@pytest.fixture
def model(card: ModelCard, sources: Callable[[str], object], last: dict[str, Model]) -> Model:
    """The card's small model; only the last one stays in memory."""
    if card.name not in last:
        case = matrix.small_cases()[card.name]
        last.clear()
        last[card.name] = load(FACTORIES[case][0], sources(case))
    return last[card.name]


@pytest.mark.slow
@pytest.mark.timeout(1200)  # the largest take minutes on a busy machine
@pytest.mark.parametrize("task", matrix.tasks(), ids=lambda card: card.name)
@pytest.mark.parametrize("card", MODELS, ids=lambda card: card.name)
def test_each_model_on_each_task(
    card: ModelCard, task: TaskCard, model: Model, tmp_path: Path
) -> None:
    matrix.check(matrix.run(model, task, tmp_path), matrix.why_unsupported(card, task))


def test_each_model_can_run_a_task_and_the_listed_exceptions_are_registered() -> None:
    for card in MODELS:
        able = [task.name for task in matrix.tasks() if not matrix.why_unsupported(card, task)]
        assert able, f"{card.name} can run no task"
    names = {card.name for card in MODELS}
    for cells in tomllib.loads(matrix.UNSUPPORTED.read_text(encoding="utf-8"))["cells"]:
        assert cells["task"] in {card.name for card in matrix.tasks()}
        assert names.issuperset(cells.get("models", cells.get("except")))
