"""A monitored training on the small store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.small_training import machine_of
from support.training.monitored import recipe

from g2dbench.data.store.store import Store
from g2dbench.runs.folder import RunFolder
from g2dbench.training import fit as train


@pytest.fixture
def fit(small_store: Path, tmp_path: Path) -> Callable[..., RunFolder]:
    """Trains on `synthetic:120`, with monitoring, in a folder of the given name."""
    data = Store(next(small_store.glob("synthetic-64-*")))

    def run(name: str, **changes: Any) -> RunFolder:
        settings: dict[str, Any] = {"seed": 0, "echo": lambda _: None}
        chosen = changes.pop("recipe", None) or recipe()
        machine = machine_of(changes)
        return train.fit(chosen, data, tmp_path / name, machine=machine, **settings | changes)

    return run
