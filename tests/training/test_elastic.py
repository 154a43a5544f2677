"""torchrun restarts a training that lost a process; it goes on from its last checkpoint."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import elastic_worker

from g2dbench.runs.folder import read_info

pytestmark = [pytest.mark.integration, pytest.mark.slow]

KILL_AT = 7
"""A step between two checkpoints, in the second epoch."""


def torchrun(out: Path, *kill_at: str) -> str:
    """Two processes on the CPU, restarted at most four times; returns what they print.

    One loss may take two starts: over gloo, the first process of a new start can read the address
    of the process that was lost, and fails until the new one has written its own.
    """
    script = Path(elastic_worker.__file__)
    paths = [str(script.parents[1]), str(script.parents[2]), os.environ.get("PYTHONPATH", "")]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
        "--max-restarts=4", "--monitor-interval=0.2", str(script), str(out), *kill_at,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_training_that_loses_a_process_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = torchrun(tmp_path / "whole")
    assert "start 1" not in whole
    told = torchrun(tmp_path / "part", str(KILL_AT))
    assert "start 0: epoch 2/3" not in told
    assert not re.search("start [1-4]: epoch 1/3", told)
    assert re.search("start [1-4]: epoch 3/3", told)
    one, other = (read_info(tmp_path / name) for name in ("whole", "part"))
    assert (one.status, one.processes) == (other.status, other.processes) == ("complete", 2)
    assert one.digest == other.digest
    logs = [(tmp_path / name / "log.csv").read_text().splitlines() for name in ("whole", "part")]
    assert len(logs[0]) == len(logs[1])
