"""Wrappers give the results of the authors' code: as stored numbers, and live beside a checkout."""

import importlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.models.original_names import NAMES
from support.models.small_baselines import load
from support.originals.write_golden import GOLDEN, variable
from torch import Tensor

pytestmark = pytest.mark.integration

TOLERANCE = 1e-4
"""Largest difference, relative to the largest value of a result."""


@pytest.fixture(params=NAMES)
def case(request: pytest.FixtureRequest) -> Any:
    return importlib.import_module(f"support.originals.{request.param}")


@pytest.fixture
def checkout(case: Any) -> Path:
    """Of the authors' code; without one the test skips before it computes anything."""
    name = variable(case.__name__.rpartition(".")[2])
    if not os.environ.get(name):
        pytest.skip(f"set {name} to a checkout of {case.CHECKOUT} at {case.COMMIT}")
    return Path(os.environ[name])


@pytest.fixture
def results(case: Any, written: Callable[[Any], Path]) -> Iterator[dict[str, Tensor]]:
    with torch.no_grad():
        yield case.ours(load(case.CARD, written(case)))


def compare(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        scale = float(values.abs().max())
        assert values.std() > 50 * TOLERANCE * scale, f"a constant would pass as {name}"
        difference = float((found[name] - values).abs().max())
        print(f"{name}: largest difference {difference:.1e}, largest value {scale:.3g}")
        assert found[name].shape == values.shape
        assert difference <= TOLERANCE * scale, name


def test_the_stored_numbers_of_the_original_come_out(
    case: Any, results: dict[str, Tensor], request: pytest.FixtureRequest
) -> None:
    name = case.__name__.rpartition(".")[2]
    golden = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    compare(case.thinned(results), {key: torch.tensor(golden[key]) for key in golden})


def test_the_original_beside_it_agrees(
    case: Any, checkout: Path, results: dict[str, Tensor]
) -> None:
    with torch.no_grad():
        compare(results, case.original(checkout))
