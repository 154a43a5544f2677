"""Shared by all tests: no network, few threads, and where the real test material lies."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # pytest-xdist uses the cores

import pytest

PROJECT = Path(__file__).resolve().parent.parent

MOST_SECONDS = 5.0
"""Processor time that a test without the mark `slow` may take, in this process."""


@pytest.fixture(scope="session")
def project() -> Path:
    return PROJECT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real test material; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("G2DBENCH_TEST_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real test material at {folder}: set G2DBENCH_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A --store folder that holds `synthetic:120` at 64 px; tests prepare it once a session."""
    from g2dbench.data.prepare import prepare
    from g2dbench.data.store.request import Drawing
    from g2dbench.progress import quiet
    from g2dbench.registry import Registry

    store = tmp_path_factory.mktemp("store")
    prepare(
        "synthetic", None, store,
        progress=quiet, registry=Registry(), size=64, drawing=Drawing(count=120),
    )  # fmt: skip
    return store


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail an unmarked test that computes for longer than `MOST_SECONDS`.

    Processor time is counted, not the clock, so that other work on the machine fails no test.
    The time of started processes is not seen: mark a test that waits for them.
    """
    before = time.process_time()
    result = yield
    seconds = time.process_time() - before
    if seconds > MOST_SECONDS and item.get_closest_marker("slow") is None:
        pytest.fail(
            f"{item.nodeid} computed for {seconds:.1f} s, more than {MOST_SECONDS:g}: "
            "make it smaller or mark it `slow`",
            pytrace=False,
        )
    return result
