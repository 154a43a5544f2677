"""A Ray cluster of nodes on this machine: a node is lost, and the driver is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.sweeps import SmallSweep, partial_folders, run, stored

from g2dbench.evaluation.sweep.engine import InProcess, Notice
from g2dbench.evaluation.sweep.ray_cluster import RayCluster

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'g2dbench[ray]'")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without cores, which runs no cell, and two nodes with one core each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    head = {
        "num_cpus": 0, "object_store_memory": 80 << 20, "include_dashboard": False,
        "_system_config": {"health_check_period_ms": 500, "health_check_failure_threshold": 3},
    }  # fmt: skip
    found = Cluster(initialize_head=True, head_node_args=head)
    found.nodes = [found.add_node(num_cpus=1, object_store_memory=80 << 20) for _ in range(2)]
    yield found
    if ray.is_initialized():
        ray.shutdown()
    found.shutdown()


@pytest.fixture
def small(tmp_path: Path, small_store: Path) -> SmallSweep:
    return SmallSweep(tmp_path, small_store)


def test_a_node_is_removed_and_every_cell_is_done_once_with_the_bytes_of_one_process(
    cluster: Any, small: SmallSweep
) -> None:
    cells = small.cells()
    run(InProcess(small.bench, small.settings("alone")), cells)
    small.clear_logs()
    (small.folder / "wait-1").touch()  # both nodes are in the middle of a cell when one goes

    def remove_a_node() -> None:
        while small.log("waiting").total() < 2:
            time.sleep(0.2)
        own = ray.get_runtime_context().get_node_id()  # the driver's may not go
        other = next(node for node in cluster.nodes if node.node_id != own)
        cluster.remove_node(other, allow_graceful=False)
        time.sleep(8)  # the cluster needs some seconds to see it
        (small.folder / "wait-1").unlink()

    remover = threading.Thread(target=remove_a_node, daemon=True)
    remover.start()
    engine = RayCluster(small.bench, small.settings(), address=cluster.address)
    outcomes, events = run(engine, cells)
    remover.join()
    assert {outcome.result.status for outcome in outcomes.values()} == {"done"}
    assert stored(small.folder / "results") == stored(small.folder / "alone")
    assert len(stored(small.folder / "results")) == len(cells)
    assert not partial_folders(small.folder / "results")
    assert small.log("cells").total() == len(cells)  # no cell was finished twice
    notices = [event.text for event in events if isinstance(event, Notice)]
    assert notices == ["1 of the cluster's nodes left; their cells start again"]


def test_the_driver_is_killed_and_the_same_command_goes_on(
    cluster: Any, small: SmallSweep, small_store: Path
) -> None:
    (small.folder / "wait-1").touch()
    command = [
        sys.executable, "-m", "g2dbench", "sweep", "--task", "probe", "--model", "lamp:x",
        "--data", "synthetic:120", "--seed", "0", "--seed", "1", "--size", "64",
        "--on", "ray", "--address", cluster.address,
        "--store", str(small_store), "--out", str(small.folder / "results"),
        *(word for path in small.plugins for word in ("--plugin", str(path))),
    ]  # fmt: skip
    environment = {**os.environ, "G2DBENCH_FEATURES": str(small.folder / "features")}
    driver = subprocess.Popen(command, env=environment)
    while not small.log("cells") and driver.poll() is None:
        time.sleep(0.2)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    (small.folder / "wait-1").unlink()
    time.sleep(3)  # Ray ends the workers of a driver that is gone
    small.clear_logs()
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "2 cells done (1 already on disk)" in " ".join(done.stdout.split())
    assert small.log("cells").total() == 1
    assert len(stored(small.folder / "results")) == 2
    assert not partial_folders(small.folder / "results")
