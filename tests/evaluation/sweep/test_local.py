"""Worker processes of this machine: equal scores, killed workers, one extraction of features."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.sweeps import SmallSweep, partial_folders, run, stored

from g2dbench.evaluation.sweep.engine import InProcess, Notice, Started
from g2dbench.evaluation.sweep.local import LOGS, LocalPool, Worker

pytestmark = pytest.mark.integration


@pytest.fixture
def small(tmp_path: Path, small_store: Path) -> SmallSweep:
    return SmallSweep(tmp_path, small_store)


def pool(small: SmallSweep, name: str = "results", workers: int = 2) -> LocalPool:
    return LocalPool(small.bench, small.settings(name), ["cpu"] * workers, {"cpu": 1e6})


def test_a_pool_gives_the_bytes_of_one_process_and_each_image_is_encoded_once(
    small: SmallSweep,
) -> None:
    cells = small.cells()
    largest = small.cells(seeds=1, fractions=(1.0,))
    run(InProcess(small.bench, small.settings("alone")), largest)
    once = small.log("images")
    run(InProcess(small.bench, small.settings("alone")), cells)
    small.clear_logs()
    run(pool(small), cells)
    assert small.log("images") == once
    assert small.log("cells").total() == len(cells)
    assert stored(small.folder / "results") == stored(small.folder / "alone")
    assert len(stored(small.folder / "results")) == len(cells)
    again, _ = run(InProcess(small.bench, small.settings()), cells)
    assert all(outcome.reused for outcome in again.values())
    assert small.log("cells").total() == len(cells)


@pytest.mark.slow
def test_killed_workers_missing_models_and_failing_cells_stop_nothing(small: SmallSweep) -> None:
    (small.folder / "kill-1").touch()
    good = small.cells("lamp:x")
    unloadable, failing = small.cells("dark:x", seeds=1), small.cells("lamp:x", protocol="broken")
    outcomes, events = run(pool(small), [*failing, *unloadable, *good])
    assert [outcomes[spec].result.status for spec in good] == ["done"] * len(good)
    for spec in (*unloadable, *failing):
        assert outcomes[spec].result.status == "failed"
    assert "cannot be loaded: OSError: gone" in str(outcomes[unloadable[0]].result.reason)
    assert "this protocol fails" in str(outcomes[failing[0]].result.reason)
    (notice,) = (event.text for event in events if isinstance(event, Notice))
    assert "was killed or crashed" in notice
    assert "seed 1" in notice
    assert str(small.folder / "results" / LOGS / "worker-") in notice
    assert not partial_folders(small.folder / "results")


@pytest.mark.slow
def test_a_cell_that_kills_its_worker_twice_has_failed(small: SmallSweep) -> None:

    task = small.folder / "probe_task.py"
    task.write_text(task.read_text().replace("kill.unlink()", "pass"))
    (small.folder / "kill-0").touch()
    cells = small.cells("lamp:x", seeds=2, fractions=(1.0,))
    outcomes, _ = run(pool(small, workers=1), cells)
    assert [outcomes[spec].result.status for spec in cells] == ["failed", "done"]
    assert "twice" in str(outcomes[cells[0]].result.reason)


@pytest.mark.slow
def test_memory_limits_the_cells_that_run_together(small: SmallSweep) -> None:
    cells = small.cells("lamp:x", seeds=2)
    limited = LocalPool(
        small.bench, small.settings(), ["cpu"] * 2, {"cpu": 100.0}, need=lambda spec: 60.0
    )
    running = most = 0
    for event in limited.run(cells):
        running += isinstance(event, Started) or -1
        most = max(most, running)
    assert most == 1
    assert len(stored(small.folder / "results")) == len(cells)


class _Stubborn:
    """A pool whose process does nothing but wait for a signal."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        self._processes = {self.process.pid: self.process}

    def shutdown(self, wait: bool, cancel_futures: bool) -> None:
        assert self.process.wait(timeout=10) == -signal.SIGTERM


def test_all_stopped_workers_get_the_signal_before_the_first_is_waited_for(
    small: SmallSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = [_Stubborn(), _Stubborn()]
    closed: list[int] = []

    def alive_at_close(worker: Worker) -> None:
        time.sleep(0.5)
        closed.append(sum(each.process.poll() is None for each in pools))
        close(worker)

    def broken(self: LocalPool, queue: object, workers: list[Worker], receiver: object) -> None:
        for worker, fake in zip(workers, pools, strict=True):
            worker.pool = fake
        raise KeyboardInterrupt

    close = Worker.close
    monkeypatch.setattr(Worker, "close", alive_at_close)
    monkeypatch.setattr(LocalPool, "_run_queue", broken)
    with pytest.raises(KeyboardInterrupt):
        list(pool(small).run([]))
    assert closed == [0, 0]


@pytest.mark.slow
def test_ctrl_c_stops_all_workers_and_the_same_command_goes_on(
    small: SmallSweep, small_store: Path
) -> None:
    (small.folder / "wait-1").touch()
    command = [
        sys.executable, "-m", "g2dbench", "sweep", "--task", "probe", "--model", "lamp:x",
        "--data", "synthetic:120", "--seed", "0", "--seed", "1", "--jobs", "2", "--size", "64",
        "--store", str(small_store), "--out", str(small.folder / "results"),
        *(word for path in small.plugins for word in ("--plugin", str(path))),
    ]  # fmt: skip
    environment = {**os.environ, "G2DBENCH_FEATURES": str(small.folder / "features")}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while not (small.folder / "cells.log").exists() and process.poll() is None:
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert len(stored(small.folder / "results")) == 1
    assert not partial_folders(small.folder / "results")
    (small.folder / "wait-1").unlink()
    small.clear_logs()
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 cells done (1 already on disk)" in " ".join(done.stdout.split())
    assert small.log("cells").total() == 1
    assert not small.log("images")  # the stopped worker had written its features
