"""A prepared store that several tests share."""

import pytest
from support.data.stores import make, make_root

from g2dbench.data.store.store import Store


@pytest.fixture(scope="package")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """40 images of 32 px in RSNA's layout, prepared; tests must not change it."""
    folder = tmp_path_factory.mktemp("store")
    return make(make_root(folder / "root"), folder / "prepared")
