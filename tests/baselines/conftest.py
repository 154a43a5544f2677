"""The small models that the tests of the wrappers share."""

from collections.abc import Callable

import pytest
from support.models.factories import FACTORIES


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], object]:
    made: dict[str, object] = {}

    def source(case: str) -> object:
        if case not in made:
            made[case] = FACTORIES[case][1](tmp_path_factory.mktemp(case) / case)
        return made[case]

    return source
