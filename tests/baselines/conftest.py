"""The small models that the tests of the wrappers share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.models.factories import FACTORIES
from support.shared_folders import linked, written_once


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str | None]:
    """Case of FACTORIES -> SOURCE of `--model NAME:SOURCE`; tests must not change its files."""

    def source(case: str) -> str | None:
        return written_once(tmp_path_factory, f"source-{case}", FACTORIES[case][1])

    return source


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], Path]:
    """Module of `support.originals` -> its SOURCE; tests must not change its files."""

    def path(case: Any) -> Path:
        name = case.__name__.rpartition(".")[2]
        return Path(str(written_once(tmp_path_factory, f"original-{name}", case.write)))

    return path


@pytest.fixture
def own(written: Callable[[Any], Path], tmp_path: Path) -> Callable[[Any], Path]:
    """Module of `support.originals` -> its file as a link in `tmp_path`, with what it needs."""

    def path(case: Any) -> Path:
        file = written(case)
        return linked(file.parent, tmp_path) / file.name

    return path
