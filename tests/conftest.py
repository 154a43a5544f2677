"""Shared by all tests: no network, few threads, and where the real test material lies."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("COLUMNS", None)
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "G2DBENCH_FEATURES" not in os.environ:  # the workers of pytest-xdist share this folder
    os.environ["G2DBENCH_FEATURES"] = tempfile.mkdtemp(prefix="g2dbench-features-")
    atexit.register(shutil.rmtree, os.environ["G2DBENCH_FEATURES"], ignore_errors=True)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # pytest-xdist uses the cores

import pytest
from support.shared_folders import made_once

# A console takes COLUMNS for good if that is set when it is made; tests set it one by one.
import g2dbench.cli.console  # noqa: F401

PROJECT = Path(__file__).resolve().parent.parent

MOST_SECONDS = 5.0
"""Processor time that a test without a mark of `TIERS` may take, in this process."""

TIERS = ("integration", "gate", "slow", "gpu")


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
    """A --store folder that holds `synthetic:120` at 64 px."""
    from g2dbench.data.prepare import prepare
    from g2dbench.data.store.request import GenerationSettings
    from g2dbench.progress import quiet
    from g2dbench.registry import Registry

    def make(store: Path) -> None:
        prepare(
            "synthetic", None, store,
            progress=quiet, registry=Registry(), size=64, generation=GenerationSettings(count=120),
        )  # fmt: skip

    return made_once(tmp_path_factory, "small-store", make)


@pytest.fixture
def own_store(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the small store, for tests that prepare another data set in it."""
    store = tmp_path_factory.mktemp("own") / "store"
    shutil.copytree(small_store, store)
    return store


@pytest.fixture(scope="session")
def trained(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A G2D run of one epoch on the small store; copy it before changing it."""

    def make(folder: Path) -> None:
        command = [
            sys.executable, "-m", "g2dbench", "pretrain", "--data", "synthetic:120",
            "--epochs", "1", "--store", str(small_store), "--out", str(folder / "g2d"),
            "--set", "data.size=64", "--set", "optim.batch_size=16",
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)

    return made_once(tmp_path_factory, "trained", make) / "g2d"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a unit test that computes for longer than `MOST_SECONDS`.

    Processor time is counted, not the clock, so that other work on the machine fails no test.
    The time of started processes is not seen: mark a test that waits for them.
    """
    before = time.process_time()
    result = yield
    seconds = time.process_time() - before
    if seconds > MOST_SECONDS and not any(item.get_closest_marker(tier) for tier in TIERS):
        pytest.fail(
            f"{item.nodeid} computed for {seconds:.1f} s, more than {MOST_SECONDS:g}: "
            "make it smaller or mark it: integration, gate or slow",
            pytrace=False,
        )
    return result
