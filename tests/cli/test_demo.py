"""The first thing a newcomer runs, whole; minutes long, so `make nightly` runs it."""

import subprocess
import sys
from pathlib import Path

import pytest

from g2dbench.reporting.leaderboard import build_leaderboard
from g2dbench.result import load_all


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_demo_ranks_three_models_on_all_five_tasks_and_resumes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "g2dbench", "demo", "--store", str(tmp_path / "store")]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    board = build_leaderboard(load_all(tmp_path / "demo" / "results"))
    assert set(board.models) == {"g2d-tiny", "convirt-tiny", "random-init"}
    assert {column.task for column in board.columns} == {"cls", "zeroshot", "seg", "det", "ground"}
    assert len(board.entries) == len(board.models) * len(board.columns)
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0
    assert again.stdout.count("(on disk)") == len(board.entries)
